#!/usr/bin/env bash
# The main job: sets up what is missing, builds in release, and runs pipeline.yaml. Arguments go to `metad2a run`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cargo build --release --locked --quiet -p metad2a-coordinator -p metad2a-worker
exec target/release/metad2a run pipeline.yaml "$@"
