#!/usr/bin/env bash
# Measures planning over many finished tasks: seconds, requests and memory, with a local folder or SeaweedFS as store.
#
#   scripts/bench/planning.sh s3 200000 4        # 200,000 tasks of 4 units each, on a private SeaweedFS
#   scripts/bench/planning.sh local 200000 4
#
# The first reading finds no index and writes it; the second is what every later start costs.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=$1 tasks=$2 units=$3
cargo build --release --locked --quiet -p metad2a-coordinator --example planning
program=target/release/examples/planning
case $kind in
  local)
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    store=file:$folder
    ;;
  s3)
    if [ -z "${METAD2A_TEST_S3_URL:-}" ]; then
      exec scripts/services/with-s3.sh "$0" "$@"
    fi
    store=$METAD2A_TEST_S3_URL
    ;;
  *)
    echo "usage: $0 s3|local TASKS UNITS" >&2
    exit 2
    ;;
esac
"$program" fill "$store" "$tasks" "$units"
echo "== first reading: no index yet"
"$program" measure "$store" "$tasks" "$units"
echo "== every later start"
"$program" measure "$store" "$tasks" "$units"
