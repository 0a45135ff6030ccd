#!/bin/sh
# Removes what install.sh has put there. Models and what the service keeps (its state) stay, unless
# there are none, or it is told --purge.
set -eu
usage="uninstall.sh [--system | --user] [--prefix DIR] [--root DIR] [--purge] [--dry-run]"
. "$(dirname "$0")/options.sh"
[ "$mode" = user ] || [ -n "$root" ] || [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] ||
    fail "removing it from the machine needs root"

if live && [ -e "$units/llm-inference.service" ]; then
    run $systemctl disable --quiet --now $names
fi
for name in $names; do
    [ ! -e "$root$units/$name" ] || run rm "$root$units/$name"
done
if live; then run $systemctl daemon-reload; fi
for path in current .current releases share/doc/llm-inference; do
    [ ! -e "$root$prefix/$path" ] && [ ! -L "$root$prefix/$path" ] || run rm -rf "$root$prefix/$path"
done
[ -z "$purge" ] || run rm -rf "$root$state"
# Directories that it made, where nothing else is in them; never what was there before.
for path in "$prefix/models" "$prefix/share/doc" "$prefix/share" "$prefix"; do
    [ ! -d "$root$path" ] || run rmdir --ignore-fail-on-non-empty "$root$path"
done
[ -z "$root" ] || run find "$root" -mindepth 1 -depth -type d -empty -delete
[ ! -d "$root$prefix" ] || [ -n "$dry_run" ] || echo "Left: $root$prefix has $(ls "$root$prefix" | tr '\n' ' ')"
[ -n "$purge" ] || [ ! -d "$root$state" ] || echo "Left: $root$state (--purge removes it)"
