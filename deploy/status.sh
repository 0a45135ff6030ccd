#!/bin/sh
# What is installed, and how it is. Exit codes: 0 it serves, 1 it does not, 3 it is not installed.
# Where the service asks for keys, LLM_API_KEY has to be one.
set -eu
usage="status.sh [--system | --user] [--prefix DIR] [--root DIR]"
. "$(dirname "$0")/options.sh"

current=$(readlink "$root$prefix/current" 2>/dev/null) || { echo "Not installed in $root$prefix"; exit 3; }
echo "release: ${current##*/}"
for name in $names; do
    if [ ! -e "$root$units/$name" ]; then echo "$name: no unit"
    elif live; then echo "$name: $($systemctl is-active "$name" || true)"
    else echo "$name: $root$units/$name"; fi
done
address=$(sed -n 's/^ListenStream=//p' "$root$units/llm-inference.socket" 2>/dev/null | head -1)
ask() { "$root$prefix/current/bin/python" -m service.probe "http://${address:-127.0.0.1:11436}$1"; }
if ! ask /health/live; then echo "http://$address does not answer"; exit 1; fi
if ask /health/ready; then echo "http://$address serves"; else echo "http://$address answers, and no model can serve yet"; exit 1; fi
