# docker build --target cpu .      or `make image`
# docker build --target cuda .     or `make image-cuda`
#
# The layers that take minutes come before what changes often: tools, llama.cpp, dependencies, code.
# Base images are pinned by tag here and by digest in what is released: see docs/deploy.md.

ARG PYTHON_IMAGE=docker.io/library/python:3.11.13-slim-bookworm
ARG CUDA_BUILD_IMAGE=docker.io/nvidia/cuda:12.6.3-devel-ubuntu24.04
ARG CUDA_IMAGE=docker.io/nvidia/cuda:12.6.3-runtime-ubuntu24.04

# The line of the lock that takes minutes to build, alone: a change of any other leaves its layer.
FROM ${PYTHON_IMAGE} AS lock
COPY requirements/build.txt requirements/runtime.txt requirements/tracing.txt /lock/
RUN sed -n '/^llama-cpp-python==/,/^    # via/p' /lock/runtime.txt >/lock/engine.txt && test -s /lock/engine.txt

FROM ${PYTHON_IMAGE} AS build-cpu
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
COPY deploy/image/install.sh /build/
COPY --from=lock /lock/build.txt /build/
RUN sh /build/install.sh tools
# Any x86-64 from 2013 on. The default is the building machine's own CPU, and an image built on one
# with AVX-512 ends with "Illegal instruction" on the next. Other architectures know none of these.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF"
COPY --from=lock /lock/engine.txt /build/
RUN sh /build/install.sh engine
COPY --from=lock /lock/tracing.txt /build/
RUN sh /build/install.sh rest
COPY pyproject.toml README.md LICENSE /src/
COPY service /src/service
COPY exporters /src/exporters
RUN sh /build/install.sh service

FROM ${CUDA_BUILD_IMAGE} AS build-cuda
RUN apt-get update && apt-get install -y --no-install-recommends build-essential python3 python3-venv && rm -rf /var/lib/apt/lists/*
COPY deploy/image/install.sh /build/
COPY --from=lock /lock/build.txt /build/
RUN sh /build/install.sh tools
# The driver is not there while an image is built; its stub stands in for the linker.
ENV CMAKE_ARGS="-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=50;61;70;75;80;86;89;90 -DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_AVX512=OFF" \
    LIBRARY_PATH=/usr/local/cuda/lib64/stubs
COPY --from=lock /lock/engine.txt /build/
RUN ln -s libcuda.so /usr/local/cuda/lib64/stubs/libcuda.so.1 && \
    LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs sh /build/install.sh engine
COPY --from=lock /lock/tracing.txt /build/
RUN sh /build/install.sh rest
COPY pyproject.toml README.md LICENSE /src/
COPY service /src/service
COPY exporters /src/exporters
RUN LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs sh /build/install.sh service

FROM ${PYTHON_IMAGE} AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && \
    groupadd --gid 10001 llm && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/llm-inference --shell /usr/sbin/nologin llm && \
    install -d -o 10001 -g 10001 -m 0700 /var/lib/llm-inference && install -d /models
COPY --from=build-cpu /opt/llm /opt/llm
ARG VERSION=0+local
ARG REVISION=unknown
LABEL org.opencontainers.image.title="LLM inference service" \
      org.opencontainers.image.description="An observable inference server for GGUF models over llama.cpp." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      llm-inference.engine="llama-cpp-python 0.3.36, x86-64-v3"
# Nothing is written but what is in the state directory, so that the root may be read-only.
ENV PATH=/opt/llm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LLM_MODEL_DIR=/models LLM_STATE_DIR=/var/lib/llm-inference LLM_DISCOVER_MODELS=false LLM_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/llm-inference
VOLUME ["/var/lib/llm-inference"]
EXPOSE 11436
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/opt/llm/bin/python", "-P", "-m", "service.probe"]
ENTRYPOINT ["/opt/llm/bin/llm-inference"]
CMD ["serve"]

FROM ${CUDA_IMAGE} AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 python3 && rm -rf /var/lib/apt/lists/* && \
    groupadd --gid 10001 llm && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/llm-inference --shell /usr/sbin/nologin llm && \
    install -d -o 10001 -g 10001 -m 0700 /var/lib/llm-inference && install -d /models
COPY --from=build-cuda /opt/llm /opt/llm
ARG VERSION=0+local
ARG REVISION=unknown
LABEL org.opencontainers.image.title="LLM inference service" \
      org.opencontainers.image.description="An observable inference server for GGUF models over llama.cpp, for NVIDIA GPUs." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      llm-inference.engine="llama-cpp-python 0.3.36, x86-64-v3, CUDA sm_50 to sm_90"
ENV PATH=/opt/llm/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LLM_MODEL_DIR=/models LLM_STATE_DIR=/var/lib/llm-inference LLM_DISCOVER_MODELS=false LLM_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/llm-inference
VOLUME ["/var/lib/llm-inference"]
EXPOSE 11436
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/opt/llm/bin/python", "-P", "-m", "service.probe"]
ENTRYPOINT ["/opt/llm/bin/llm-inference"]
CMD ["serve"]
