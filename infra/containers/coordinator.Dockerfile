# The coordinator, `metad2a`: no libtorch, no shell, no package manager; about 60 MB with the extractor's weights, whose
# hash it needs. Runs with a read-only root file system and as any user.
#
#   docker build --file infra/containers/coordinator.Dockerfile --tag metad2a .
#
# For a release pin both images by digest: --build-arg RUST_IMAGE=rust@sha256:… --build-arg BASE_IMAGE=…@sha256:…
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# The build and the base are of one Debian release, so that the C library is the same.
FROM ${RUST_IMAGE} AS build
# Debian keeps only the newest version of a package: a pinned one would be gone after an update of security.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
# Without it rustup would fetch the components that only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY scripts/weights scripts/weights
RUN WEIGHTS_DIR=/srv/metad2a/.weights scripts/weights/fetch.sh
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,id=metad2a-coordinator \
    cargo build --release --locked --package metad2a-coordinator \
    && install -D target/release/metad2a /out/metad2a

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="metad2a" \
      org.opencontainers.image.description="Coordinator of MetaD2A pipelines" \
      org.opencontainers.image.licenses="MIT"
# Where the shipped pipeline.yaml looks for it, when that lies in /srv/metad2a.
COPY --from=build /srv/metad2a /srv/metad2a
COPY --from=build /out/metad2a /usr/local/bin/metad2a
# By number: Kubernetes can then see that it is not root. This one is distroless's `nonroot`.
WORKDIR /srv/metad2a
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/metad2a"]
CMD ["--help"]
