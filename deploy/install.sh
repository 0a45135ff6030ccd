#!/bin/sh
# Installs the service from this clone, for the machine or for yourself, or brings it up to date.
set -eu
usage="install.sh [--system | --user] [--prefix DIR] [--models DIR] [--root DIR] [--dry-run]

  --system      for the machine, as root: units in /etc/systemd/system, an account made by systemd
  --user        for yourself: units in ~/.config/systemd/user; isolated less
  --prefix DIR  where releases go: /opt/llm-inference, or ~/.local/share/llm-inference
  --models DIR  directory of *.gguf files, or an Ollama store (default: models in the prefix)
  --root DIR    install into this directory instead of /, and start nothing
  --dry-run     say what would be done, and write nothing"
. "$(dirname "$0")/options.sh"

python=$PWD/.venv/bin/python
[ -e .venv/.ready ] && [ -x "$python" ] || fail "the environment is not set up: run make install-$mode"
[ "$mode" = user ] || [ -n "$root" ] || [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] ||
    fail "installing for the machine needs root; --user does not"

# ---- who runs it must be able to read it

groups=""
for group in video render ollama; do
    if [ "$mode" = system ] && getent group $group >/dev/null 2>&1; then groups="$groups $group"; fi
done
groups=${groups# }

# The service's account does not exist before it starts: it is nobody, with the groups that it gets.
as_service() {
    if [ "$mode" = system ] && [ "$(id -u)" = 0 ]; then
        ids=65534
        for group in $groups; do ids="$ids,$(getent group "$group" | cut -d: -f3)"; done
        setpriv --reuid 65534 --regid 65534 --groups "$ids" --inh-caps=-all "$@"
    else
        "$@"
    fi
}
# blocking PATH: the first directory or file on the way to it, or in it, that the service cannot read
blocking() {
    path="" rest=${1#/}
    while [ -n "$rest" ]; do
        path="$path/${rest%%/*}"
        case $rest in */*) rest=${rest#*/} ;; *) rest="" ;; esac
        [ -e "$path" ] || { echo "$path"; return; }
        as_service test -x "$path" || [ -f "$path" ] || { echo "$path"; return; }
    done
    as_service test -r "$1" || { echo "$1"; return; }
    as_service find "$1" -xdev \( -type d ! \( -readable -executable \) -o -type f ! -readable \) \
        -print -prune -quit 2>/dev/null
}
readable() {
    found=$(blocking "$1" | head -1)
    [ -z "$found" ] || {
        echo "install.sh: the service cannot read $2: $found stands in the way" >&2
        [ ! -e "$found" ] || ls -ld "$found" >&2
        exit 2
    }
}
if [ "$models" != "$prefix/models" ]; then readable "$models" "the models in $models"; fi
interpreter=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
[ -n "$root" ] || readable "$interpreter" "the Python of this clone ($interpreter; another: make clean, make PYTHON=/usr/bin/python3 …)"

# ---- the release: a directory that is never changed, and a link to the current one

release=$("$python" deploy/release.py name)
releases=$root$prefix/releases
umask 022
if [ -d "$releases/$release" ]; then
    echo "release $release is there"
else
    run mkdir -p "$releases"
    run rm -rf "$releases/.$release"
    run "$python" deploy/release.py make "$releases/.$release"
    # Whole or not at all.
    run mv -T "$releases/.$release" "$releases/$release"
fi
previous=$(readlink "$root$prefix/current" 2>/dev/null || true)
if [ "$previous" != "releases/$release" ]; then
    run ln -sfn "releases/$release" "$root$prefix/.current"
    run mv -T "$root$prefix/.current" "$root$prefix/current"
fi
# The one before stays, for a way back; older ones go.
for old in "$releases"/*; do
    case ${old##*/} in
    "$release" | "${previous##*/}" | "*") ;;
    *) if [ "$previous" != "releases/$release" ]; then run rm -rf "$old"; fi ;;
    esac
done
[ "$models" != "$prefix/models" ] || [ -d "$root$models" ] || run mkdir -p "$root$models"

# ---- what systemd reads

protect_home=yes
case "$models/" in /home/* | /root/* | /run/user/*) protect_home=read-only ;; esac
# place SOURCE TARGET: a template, filled in, where it is not there as it would be
place() {
    text=$(sed -e "s#@PREFIX@#$prefix#g" -e "s#@MODELS@#$models#g" -e "s#@GROUPS@#$groups#g" \
        -e "s#@PROTECT_HOME@#$protect_home#g" "$1")
    [ "$text" != "$(cat "$2" 2>/dev/null || true)" ] || return 0
    changed=yes
    if [ -n "$dry_run" ]; then echo "would: write $2"; else
        mkdir -p "$(dirname "$2")"
        printf '%s\n' "$text" >"$2"
    fi
}
changed=""
place docs/deploy.md "$root$prefix/share/doc/llm-inference/deploy.md"
for name in $names; do place "$sources/$name" "$root$units/$name"; done

if live; then
    if [ -n "$changed" ]; then run $systemctl daemon-reload; fi
    run $systemctl enable --quiet --now llm-inference.socket
    run $systemctl enable --quiet llm-inference.service llm-inference-exporters.service
    # The socket stays open meanwhile: who connects waits, and nobody is refused.
    run $systemctl restart llm-inference.service llm-inference-exporters.service
    [ "$mode" = system ] || echo "To have it run while you are logged out: loginctl enable-linger"
fi
if [ -n "$dry_run" ]; then echo "Nothing was written"; else echo "Installed $release in $root$prefix"; fi
