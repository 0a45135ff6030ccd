#!/bin/sh
# Builds the CPU image and runs it, without a container engine: `make image-test`. Needs root and the
# Debian packages buildah and debootstrap; takes some ten minutes, most of them llama.cpp.
#
#   1. a base image from Debian's own packages, in the place of one that a registry would have
#   2. the build, by the Dockerfile as it is
#   3. what is in it: no compiler, no caches, no AVX-512, no more than $LARGEST_MB
#   4. a service in its root filesystem, which is read-only, as its user without any capability
#
# The scratch files are in $1 (default: build/image). Nothing outside of it and of buildah's store changes.
set -eu
cd "$(dirname "$0")/../.."

scratch=$(realpath -m "${1:-build/image}")
base=localhost/llm-python-base
image=localhost/llm-inference:test
LARGEST_MB=${LARGEST_MB:-450}
PORT=${PORT:-18436}
mkdir -p "$scratch"

say() { echo "== $*"; }
fail() { echo "image: $*" >&2; exit 1; }

for command in buildah debootstrap objdump setpriv unshare; do
    command -v $command >/dev/null || fail "needs $command: apt-get install buildah debootstrap binutils util-linux"
done

if ! buildah inspect --type image $base >/dev/null 2>&1; then
    say "A base image from Debian's packages"
    rm -rf "$scratch/base"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$scratch/base" >"$scratch/debootstrap.log"
    rm -rf "$scratch"/base/var/cache/apt/archives/*.deb "$scratch"/base/var/lib/apt/lists/*
    # Who builds behind a proxy with a certificate of its own needs it inside as well.
    cp /etc/ssl/certs/ca-certificates.crt "$scratch/base/etc/ssl/certs/"
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$scratch/base/etc/pip.conf"
    container=$(buildah from scratch)
    buildah add -q "$container" "$scratch/base" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit -q "$container" $base >/dev/null
    buildah rm "$container" >/dev/null
fi

say "The image"
began=$(date +%s)
buildah bud --isolation=chroot --network=host --layers --build-arg PYTHON_IMAGE=$base \
    --target cpu -t $image . >"$scratch/build.log" 2>&1 || { tail -20 "$scratch/build.log"; fail "does not build"; }
echo "built in $(($(date +%s) - began)) s"

container=$(buildah from $image)
root=$(buildah mount "$container")
service=""
finish() {
    [ -z "$service" ] || { kill "$service" 2>/dev/null && wait "$service"; } || true
    buildah umount "$container" >/dev/null
    buildah rm "$container" >/dev/null
}
trap finish EXIT

say "What is in it"
megabytes=$(du -sxm --apparent-size "$root" | cut -f1)
echo "size: $megabytes MB, of which /opt/llm $(du -sxm --apparent-size "$root/opt/llm" | cut -f1) MB"
[ "$megabytes" -le "$LARGEST_MB" ] || fail "larger than $LARGEST_MB MB"
for path in usr/bin/cc usr/bin/gcc usr/bin/c++ usr/bin/g++ usr/bin/make opt/build opt/wheels root/.cache src \
    opt/llm/bin/pip opt/llm/bin/cmake; do
    [ ! -e "$root/$path" ] || fail "has /$path"
done
[ -z "$(find "$root/var/lib/apt/lists" -type f)" ] || fail "has apt's lists"
libraries=$(find "$root/opt/llm" -path '*llama_cpp/lib*' -name '*.so' -type f)
[ -n "$libraries" ] || fail "has no llama.cpp"
for library in $libraries; do
    count=$(objdump -d --no-show-raw-insn "$library" | grep -c '%zmm' || true)
    echo "$(basename "$library"): $count instructions of AVX-512"
    [ "$count" = 0 ] || fail "$library needs a CPU with AVX-512"
done

say "A service in it: read-only, uid 10001, no capability"
state=$scratch/state
rm -rf "$state" && mkdir -p "$state" && chown 10001:10001 "$state"
# What the image says of itself; none of its values has a blank in it.
of_image() { buildah inspect --type image --format "$1" $image; }
environment=$(of_image '{{range .OCIv1.Config.Env}}{{.}} {{end}}')
command=$(of_image '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}{{range .OCIv1.Config.Cmd}}{{.}} {{end}}')
user=$(of_image '{{.OCIv1.Config.User}}')
[ "$user" = 10001:10001 ] || fail "runs as '$user'"

# inside COMMAND...: as a container engine runs it with --read-only --cap-drop ALL
inside() {
    exec unshare --mount --propagation private sh -euc '
        root=$1 state=$2 environment=$3; shift 3
        mount --bind "$root" "$root"
        mount --bind "$state" "$root/var/lib/llm-inference"
        mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
        mount --rbind /dev "$root/dev"
        mount --rbind /proc "$root/proc"
        mount -o remount,bind,ro "$root"
        cd "$root"
        exec env -i $environment HOME=/var/lib/llm-inference chroot "$root" /usr/bin/setpriv \
            --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
    ' sh "$root" "$state" "$environment" "$@"
}

(inside $command --port "$PORT") >"$scratch/service.log" 2>&1 &
service=$!
ask() { python3 - "$PORT" "$@" <<'PYTHON'
import json, sys, time, urllib.request

port, path, *body = sys.argv[1:]
data = json.dumps(json.loads(body[0])).encode() if body else None
request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
until = time.monotonic() + 60
while True:
    try:
        print(urllib.request.urlopen(request, timeout=60).read().decode())
        break
    except OSError as error:
        if time.monotonic() > until:
            sys.exit(f"{path}: {error}")
        time.sleep(0.2)
PYTHON
}
ask /health/ready >/dev/null || { cat "$scratch/service.log"; fail "is not ready"; }
answer=$(ask /v1/chat/completions '{"model": "demo", "temperature": 0, "reasoning_effort": "none",
    "messages": [{"role": "user", "content": "What is 7 plus 5?"}]}')
case $answer in
*12*) echo "answers: 7 + 5 = 12" ;;
*) fail "answers $answer" ;;
esac
process=$(pgrep -f "llm-inference.*--port $PORT" | head -1)
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|VmHWM)' "/proc/$process/status"
grep -q '^CapBnd:.0*$' "/proc/$process/status" || fail "has capabilities"
(inside sh -c 'touch /opt/llm/x /etc/x 2>/dev/null || exit 0; exit 1') || fail "its root can be written"
(inside /usr/bin/env LLM_PORT="$PORT" /opt/llm/bin/python -m service.probe) || fail "its health check fails"
if (inside /usr/bin/env LLM_PORT=1 /opt/llm/bin/python -m service.probe); then fail "its health check cannot fail"; fi

kill "$process"
wait "$service" || fail "exit code $? after SIGTERM"
service=""
say "All of it holds"
