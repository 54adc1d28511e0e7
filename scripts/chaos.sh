#!/usr/bin/env bash
# Runs the pipeline over a private RabbitMQ and a private S3 server while broker, coordinator and workers are killed and
# the store fails, and compares all tables with those of a calm run. Seeds are printed; a seed repeats its blows.
#
#   scripts/chaos.sh --seed 7 --minutes 30      # runs with the seeds 7, 8, 9, … until half an hour is over
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --quiet -p metad2a-coordinator -p metad2a-worker -p metad2a-tests --bins
LD_LIBRARY_PATH="${LIBTORCH:-$PWD/.libtorch/torch}/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec scripts/services/with-s3.sh target/debug/chaos "$@"
