#!/bin/sh
# Unpacks the Debian packages that the tests use into the folder $1, which the tests' PATH begins with.
# Nothing is installed on the machine, so no service of theirs starts and no root is needed; a command
# that is there already is used as it is. What cannot be had is named, and its tests are skipped.
set -u

folder=$1
# command:packages; each must run from where it was unpacked, beside the libraries that come with it
wanted="promtool:prometheus amtool:prometheus-alertmanager docker-registry:docker-registry openssl:openssl
    haproxy:haproxy,liblua5.3-0,libopentracing-c-wrapper0,libopentracing1
    systemd-analyze:systemd,libsystemd-shared"

missing=""
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 ||
        [ -x "$folder/usr/bin/${pair%%:*}" ] || [ -x "$folder/usr/sbin/${pair%%:*}" ] ||
        missing="$missing $(echo "${pair##*:}" | tr , ' ')"
done
[ -n "$missing" ] || exit 0

fetch() { (cd "$folder" && apt-get download -q $missing >apt.log 2>&1); }
# A fresh container has no package lists, and only root can fetch them.
lists() {
    if [ "$(id -u)" = 0 ]; then apt-get update -q >>"$folder/apt.log" 2>&1
    else sudo -n apt-get update -q >>"$folder/apt.log" 2>&1; fi
}

mkdir -p "$folder"
echo "Fetching for the tests:$missing"
if fetch || { lists && fetch; }; then
    for package in "$folder"/*.deb; do
        dpkg-deb -x "$package" "$folder" && rm "$package"
    done
    # Alertmanager looks for its own templates below /usr/share. Said in as many letters, as the copy
    # is a program, but without the first slash, they are where it was unpacked.
    for program in "$folder"/usr/bin/prometheus-alertmanager; do
        [ ! -e "$program" ] || LC_ALL=C sed -i "s|/usr/share/prometheus/|usr//share/prometheus/|g" "$program"
    done
else
    echo "The tests that need it are skipped; to have them run: sudo apt-get install$missing"
fi
