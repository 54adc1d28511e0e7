#!/usr/bin/env bash
# Trains candidates' networks here and by a plain PyTorch loop, turn by turn in one run, and prints the ratios.
#
#   scripts/bench/networks.sh [SIZE [ROUNDS [PREFIX]]]      # pictures of 32 pixels, 3 rounds, all cases
#
# PROCESSES=2 lets two processes of the same kind run at once, as a machine of two cores is used; figures stay those of one.
#
# Figures are pictures a second of one thread's time, so that a busy machine matters less; compare only within a run. PYTHON
# names a Python that has torch 2.11; without it one is made under .metad2a, which loads about 200 MB.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-32} rounds=${2:-3} prefix=${3:-}
program=${PROGRAM:-target/release/examples/throughput}
if [ -z "${PROGRAM:-}" ]; then
  cargo build --release --locked --quiet -p metad2a-networks --example throughput
fi
if [ -z "${PYTHON:-}" ]; then
  PYTHON=.metad2a/bench-python/bin/python
  if [ ! -x "$PYTHON" ]; then
    python3 -m venv .metad2a/bench-python
    "$PYTHON" -m pip install --quiet torch==2.11.0 numpy --index-url https://download.pytorch.org/whl/cpu
  fi
fi
rows=$(mktemp)
trap 'rm -f "$rows" "$rows".*' EXIT
# What PROCESSES runs of a command print, one after another.
together() {
  local pids=() number
  for number in $(seq "${PROCESSES:-1}"); do
    "$@" >"$rows.$number" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  for number in $(seq "${PROCESSES:-1}"); do cat "$rows.$number"; done
}
# As the worker sets them for its compute processes.
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592
for _ in $(seq "$rounds"); do
  together "$program" --size "$size" --only "$prefix" >"$rows.round"
  cat "$rows.round" >>"$rows"
  mapfile -t cases < <(python3 -c '
import json, sys
print("\n".join(sorted({row["case"] + "=" + row["cell"] for row in map(json.loads, sys.stdin) if "cell" in row})))
' <"$rows.round")
  rm -f "$rows.round"
  together env -u MALLOC_MMAP_THRESHOLD_ -u MALLOC_TRIM_THRESHOLD_ \
    "$PYTHON" scripts/bench/networks.py "${cases[@]}" --size "$size" >>"$rows"
  # Memory in a fresh process each: what one case frees stays with its process.
  for case in "${cases[@]}"; do
    case $case in */bundle*) continue ;; esac
    "$program" --size "$size" --only "${case%%=*}" --memory >>"$rows"
    env -u MALLOC_MMAP_THRESHOLD_ -u MALLOC_TRIM_THRESHOLD_ \
      "$PYTHON" scripts/bench/networks.py "$case" --size "$size" --memory >>"$rows"
  done
done
python3 - "$rows" <<'PY'
import json, statistics, sys
rates = {}
for row in map(json.loads, open(sys.argv[1])):
    rates.setdefault(row["case"], {}).setdefault(row["what"], []).append(row["rate"])
names = ["nchw", "nhwc", "float32", "bfloat16"]
print("| network | PyTorch nchw | PyTorch nhwc | float32 | bfloat16 | float32 / nchw | float32 / nhwc | bfloat16 / float32 |")
print("|---|---|---|---|---|---|---|---|")
bundle = {name: 0.0 for name in names}
def line(case, rate):
    print(f"| {case} | " + " | ".join(f"{rate[name]:,.0f}" for name in names)
          + f" | {rate['float32'] / rate['nchw']:.2f} | {rate['float32'] / rate['nhwc']:.2f} | {rate['bfloat16'] / rate['float32']:.2f} |")
for case, found in sorted(rates.items()):
    if not all(name in found for name in names):
        continue
    rate = {name: statistics.median(found[name]) for name in names}
    line(case, rate)
    if "bundle" in case:
        for name in names:
            bundle[name] += 1 / rate[name]
if all(bundle.values()):
    line("the bundle of 8", {name: 8 / bundle[name] for name in names})
print("\n| network | beside forward and backward | memory, MB | PyTorch's, MB | ratio |\n|---|---|---|---|---|")
for case, found in sorted(rates.items()):
    if all(name in found for name in ("float32", "steps", "memory", "plain memory")):
        rate = {name: statistics.median(values) for name, values in found.items()}
        beside = 1 - rate["float32"] / rate["steps"]
        print(f"| {case} | {beside:.1%} | {rate['memory'] / 1e6:.0f} | {rate['plain memory'] / 1e6:.0f} "
              f"| {rate['memory'] / max(rate['plain memory'], 1):.2f} |")
PY
