#!/bin/sh
# Unpacks Debian's headless Chromium into the folder $1, with those of its libraries that this machine
# lacks. Nothing is installed; a Chromium that is there already is used as it is.
set -eu

folder=$1
for name in chromium-headless-shell chromium; do
    ! command -v "$name" >/dev/null 2>&1 || exit 0
done
[ ! -x "$folder/usr/lib/chromium/chromium-headless-shell" ] || exit 0

missing() { apt-get --simulate --no-install-recommends install chromium-headless-shell | sed -n 's/^Inst \([^ ]*\).*/\1/p'; }
# A fresh container has no package lists, and only root can fetch them.
lists() {
    if [ "$(id -u)" = 0 ]; then apt-get update -q
    else sudo -n apt-get update -q; fi
}

mkdir -p "$folder"
cd "$folder"
packages=$(missing 2>apt.log)
[ -n "$packages" ] || { lists >>apt.log 2>&1; packages=$(missing 2>>apt.log); }
[ -n "$packages" ] || { cat apt.log >&2; exit 1; }
echo "Fetching Chromium and what it needs:" $packages
apt-get download -q $packages >>apt.log 2>&1 || { tail -3 apt.log >&2; exit 1; }
for package in *.deb; do
    dpkg-deb -x "$package" . && rm "$package"
done
