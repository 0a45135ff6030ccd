# What install.sh, uninstall.sh and status.sh have in common: their options, and where things are.
# Sourced with the script's own usage in $usage. No sudo: who needs root is told so.

cd "$(dirname "$0")/.."
mode=""
prefix=""
models=""
root=""
dry_run=""
purge=""
fail() { echo "$(basename "$0"): $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    --user | --system) mode=${1#--} ;;
    --prefix | --models | --root)
        [ $# -ge 2 ] || fail "$1 needs a directory"
        value=$(realpath -m -- "$2")
        case $1 in
        --prefix) prefix=$value ;;
        --models) models=$value ;;
        --root) root=${value%/} ;;
        esac
        shift
        ;;
    --dry-run) dry_run=yes ;;
    --purge) purge=yes ;;
    --help) echo "$usage"; exit 0 ;;
    *) echo "$usage" >&2; fail "$1 is no option" ;;
    esac
    shift
done
case "$prefix$models" in *[!A-Za-z0-9_./+@:-]*) fail "blanks and signs in paths are more than units can name" ;; esac

[ -n "$mode" ] || { if [ "$(id -u)" = 0 ]; then mode=system; else mode=user; fi; }
if [ "$mode" = system ]; then
    prefix=${prefix:-/opt/llm-inference}
    units=/etc/systemd/system
    sources=deploy/systemd
    state=/var/lib/private/llm-inference
    systemctl="systemctl"
else
    prefix=${prefix:-${XDG_DATA_HOME:-$HOME/.local/share}/llm-inference}
    units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    sources=deploy/systemd/user
    state=${XDG_STATE_HOME:-$HOME/.local/state}/llm-inference
    systemctl="systemctl --user"
fi
names="llm-inference.socket llm-inference.service llm-inference-exporters.service"
models=${models:-$prefix/models}

# In a root of its own nothing runs, and nobody else has to be able to read it.
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
# run COMMAND...: says what is done, and does it
run() {
    if [ -n "$dry_run" ]; then echo "would: $*"; else "$@"; fi
}
