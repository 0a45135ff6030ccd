#!/bin/sh
# Can this machine build and run the service? Prints the Python to use ("uv" where uv shall choose
# one). Where something is missing, says so with the one line that installs it, and exits 2.
set -u

python_least=3.11
memory_least_mb=1500    # the compiler's peak on llama.cpp is 680 MB, and two run at once
disk_least_mb=3000      # source, objects and environment

packages=""             # as Debian calls them
faults=""
lacks() { packages="$packages $1"; faults="$faults
  - $2"; }
fault() { faults="$faults
  - $1"; }
recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# (1) A Python: the one asked for, else uv's choice, else the first that is recent enough.
python=""
if [ -z "${PYTHON:-}" ] && uv --version >/dev/null 2>&1; then
    python=uv
else
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if recent "$name"; then python=$name; break; fi
    done
    if [ -n "$python" ]; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
            "$python has no venv module (uv would do in its place)"
    elif [ -n "${PYTHON:-}" ]; then
        fault "$PYTHON is not a Python $python_least or later"
    elif command -v python3 >/dev/null 2>&1; then
        lacks "python3.11 python3.11-venv" \
            "python3 is older than $python_least (uv would do in its place: it brings its own)"
    else
        lacks "python3 python3-venv" "no python3"
    fi
fi

# (2) What compiles llama.cpp; CMake and Ninja come with the Python packages.
if ! command -v "${CC:-cc}" >/dev/null 2>&1 || ! command -v "${CXX:-c++}" >/dev/null 2>&1; then
    lacks build-essential "no C and C++ compiler"
elif ! command -v make >/dev/null 2>&1; then
    lacks make "no make"
fi
if [ -n "${CUDA:-}" ] && ! command -v "${CUDACXX:-nvcc}" >/dev/null 2>&1; then
    lacks nvidia-cuda-toolkit "no CUDA compiler (nvcc)"
fi

# (3) Room. A container may have less memory than the machine it is on.
memory_mb=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "${MEMINFO:-/proc/meminfo}") / 1024))
limit=$(cat "${MEMORY_MAX:-/sys/fs/cgroup/memory.max}" 2>/dev/null || echo max)
case $limit in
*[!0-9]* | "") ;;
*) [ $((limit / 1048576)) -lt "$memory_mb" ] && memory_mb=$((limit / 1048576)) ;;
esac
[ "$memory_mb" -ge "$memory_least_mb" ] ||
    fault "$memory_mb MB of memory; compiling llama.cpp takes $memory_least_mb"
disk_mb=$(df -Pm . | { read -r _; read -r _ _ _ free _; echo "$free"; })
[ "$disk_mb" -ge "$disk_least_mb" ] ||
    fault "$disk_mb MB of disk are free here; the environment takes $disk_least_mb"

if [ -z "$faults" ]; then
    echo "$python"
    exit 0
fi

# (4) The line that installs what is missing.
exec >&2
echo "This machine is not ready:$faults"
if [ -n "$packages" ]; then
    sudo="sudo "
    [ "$(id -u)" = 0 ] && sudo=""
    if command -v dnf >/dev/null 2>&1; then
        packages=$(echo "$packages" | sed -e 's/build-essential/gcc gcc-c++ make/' \
            -e 's/ python3[.0-9]*-venv//' -e 's/nvidia-cuda-toolkit/cuda-toolkit/')
        echo "Install it with: ${sudo}dnf install -y$packages"
    else
        echo "Install it with: ${sudo}apt-get update && ${sudo}apt-get install -y$packages"
    fi
fi
exit 2
