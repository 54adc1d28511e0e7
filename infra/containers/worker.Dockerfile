# The worker, `metad2a-worker`, with libtorch and the extractor's weights; runs with a read-only root file system and
# as any user, with a writable /tmp.
#
#   docker build --file infra/containers/worker.Dockerfile --tag metad2a-worker:cuda .
#   docker build --file infra/containers/worker.Dockerfile --tag metad2a-worker:cpu \
#     --build-arg FLAVOUR=cpu --build-arg BASE_IMAGE=docker.io/library/ubuntu:24.04 .
#
# The program is the same in both: it opens the CUDA half of libtorch where it finds a card. `cuda` is about 4.5 GB and
# wants an NVIDIA driver for CUDA 13 (580 or newer) on the machine; `cpu` is about 700 MB.
# For a release pin the images by digest, as in coordinator.Dockerfile.
ARG FLAVOUR=cuda
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
# Its C library is newer than the build's, so the program runs on it; the driver's own libraries come from outside.
ARG BASE_IMAGE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${RUST_IMAGE} AS tools
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
# Without it rustup would fetch the components that only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src

FROM tools AS libtorch-cpu
COPY scripts/setup-libtorch.sh scripts/libtorch-*.txt scripts/
RUN LIBTORCH_DEST=/opt/libtorch scripts/setup-libtorch.sh

FROM libtorch-cpu AS libtorch-cuda
COPY infra/containers infra/containers
RUN infra/containers/add-cuda.sh /opt/libtorch

FROM tools AS build
COPY --from=libtorch-cpu /opt/libtorch /opt/libtorch
COPY scripts/weights scripts/weights
RUN WEIGHTS_DIR=/srv/metad2a/.weights scripts/weights/fetch.sh
COPY . .
# The program remembers where libtorch lay when it was built, so it lies there in the image too.
ENV LIBTORCH=/opt/libtorch/torch
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,id=metad2a-worker \
    cargo build --release --locked --package metad2a-worker \
    && install -D target/release/metad2a-worker /out/metad2a-worker

# hadolint ignore=DL3006
FROM libtorch-${FLAVOUR} AS libtorch

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="metad2a-worker" \
      org.opencontainers.image.description="Worker of MetaD2A pipelines" \
      org.opencontainers.image.licenses="MIT"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=libtorch /opt/libtorch/torch/lib /opt/libtorch/torch/lib
COPY --from=libtorch /opt/libtorch/nvidia /opt/libtorch/nvidia
# Where the shipped pipeline.yaml looks for it, when that lies in /srv/metad2a.
COPY --from=build /srv/metad2a /srv/metad2a
COPY --from=build /out/metad2a-worker /usr/local/bin/metad2a-worker
# Only for the CUDA half: what the container runtime shall hand in, and where kernels may be kept.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda
# By number: Kubernetes can then see that it is not root.
WORKDIR /srv/metad2a
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/metad2a-worker"]
