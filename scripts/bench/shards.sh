#!/usr/bin/env bash
# Trains the predictor with 1, 2 and 4 shards a round at equal total steps, and compares the rank correlation on
# held-out datasets.
#
#   scripts/bench/shards.sh 1 2 3          # seeds; TOTAL=48 sets the steps of a round over all shards
#
# 12 rounds of TOTAL steps: one shard takes TOTAL steps from the last checkpoint, four take TOTAL/4 each and are
# averaged. So four shards need a quarter of the time on four machines, and see as many episodes. The evaluations of a
# seed are computed once and shared. Rows are kept in docs/benchmarks/shards.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=${PROGRAMS:-target/release}
total=${TOTAL:-48}
if [ "$programs" = target/release ]; then
  cargo build --release --locked --quiet -p metad2a-coordinator -p metad2a-worker
fi
work=.metad2a/shards
mkdir -p "$work" docs/benchmarks
for seed in "$@"; do
  # Shards, outer learning rate, outer momentum: averaging, and the step that DiLoCo proposes.
  for setting in "1 1.0 0.0" "2 1.0 0.0" "4 1.0 0.0" "2 0.7 0.9" "4 0.7 0.9"; do
    read -r shards rate momentum <<<"$setting"
    report="$work/seed-$seed-shards-$shards-rate-$rate-momentum-$momentum.json"
    [ -s "$report" ] && continue
    # Beside pipeline.yaml, so that its paths stay true.
    file="shards-$seed-$shards-$rate.yaml.tmp"
    sed -e "s/SEED/$seed/; s/SHARDS/$shards/; s/STEPS/$((total / shards))/" \
        -e "s/OUTER_RATE/$rate/; s/OUTER_MOMENTUM/$momentum/" scripts/bench/shards.yaml >"$file"
    nice -n 10 "$programs/metad2a" run "$file" --format json >"$report.part"
    mv "$report.part" "$report"
    rm -f "$file"
  done
done
python3 scripts/bench/shards.py "$work"/seed-*.json
