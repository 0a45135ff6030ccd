#!/bin/sh
# What both images are made of, one step a layer: a change of code does not compile llama.cpp again.
#
#   install.sh tools     what builds: pinned by hash, in a folder that the image does not take
#   install.sh engine    llama.cpp, compiled with $CMAKE_ARGS, in /opt/llm
#   install.sh rest      everything else that the service runs on
#   install.sh service   the service itself, and nothing that only a build needs
set -eu
cd "$(dirname "$0")"

venv=/opt/llm
pip() { /opt/build/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
into() { pip --python $venv/bin/python install --no-compile "$@"; }

case $1 in
tools)
    python3 -m venv /opt/build
    python3 -m venv --without-pip $venv
    pip install --require-hashes -r build.txt
    ;;
engine)
    pip wheel --no-deps --no-build-isolation --require-hashes --wheel-dir /opt/wheels -r engine.txt
    into --no-deps --no-index /opt/wheels/llama_cpp_python-*.whl
    ;;
rest)
    into --require-hashes -r tracing.txt
    ;;
service)
    pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheels /src
    into --no-deps --no-index /opt/wheels/llm_inference_service-*.whl
    # The wheel of llama.cpp brings a second copy of its libraries and headers, which nothing loads.
    site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -rf "${site:?}/lib" "$site/include" "$site/bin"
    $venv/bin/python -m compileall -q -j 0 "$site"
    # Starts only where all of it is there.
    $venv/bin/python -c 'import llama_cpp'
    $venv/bin/llm-inference --version
    ;;
esac
