#!/usr/bin/env bash
# Runs the main job with several seeds, each from nothing, and compares the chosen with the random cells.
#
#   scripts/bench/never-seen.sh 1 2 3 4 5
#
# A seed draws other datasets, other cells to learn from, other first weights and other random cells. The candidates of
# each run (numbers only) are kept in docs/benchmarks/never-seen-seed-<n>.parquet, its report beside it as JSON; seeds
# that are there already are not run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh >/dev/null
cargo build --release --locked --quiet -p metad2a-coordinator -p metad2a-worker
mkdir -p docs/benchmarks
for seed in "$@"; do
  kept="docs/benchmarks/never-seen-seed-$seed"
  [ -s "$kept.json" ] && continue
  work=".metad2a/never-seen-$seed"
  rm -rf "$work"
  # Beside pipeline.yaml, so that its paths stay true.
  sed "s/^seed: .*/seed: $seed/" pipeline.yaml > "pipeline-seed-$seed.yaml.tmp"
  target/release/metad2a run "pipeline-seed-$seed.yaml.tmp" --format json \
    --store "file:$work/store" --queue "sqlite:$work/queue.sqlite" > "$work.json"
  cp "$(METAD2A_STORE="file:$work/store" target/release/metad2a snapshots "pipeline-seed-$seed.yaml.tmp" --files-of candidates)" \
    "$kept.parquet"
  # Without the addresses of this machine.
  python3 - "$work.json" > "$kept.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
del report["candidates_files"]
print(json.dumps(report, indent=1))
PY
  rm -f "pipeline-seed-$seed.yaml.tmp"
done
python3 scripts/bench/never_seen.py docs/benchmarks/never-seen-seed-*.json
