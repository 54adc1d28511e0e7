#!/usr/bin/env bash
# Does training in bfloat16 change accuracies by more than another seed does? 20 seeded cells with 3 seeds each, on 8
# kinds of clothes (Fashion-MNIST, in this repository), in float32 and in bfloat16, compared cell by cell.
#
#   scripts/experiments/precision.sh
#
# Declared beforehand: bfloat16 passes if the paired 95 % interval of the difference of mean validation accuracies over
# the cells holds zero, and lies within the standard deviation of a cell's accuracy over seeds. The loss is context.
#
# Rows are kept in docs/benchmarks/precision.json; a precision that is there is not trained again. PROGRAMS names the
# folder of metad2a and metad2a-worker; PYTHON a Python with gate-requirements.txt installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=${PROGRAMS:-target/release}
if [ "$programs" = target/release ]; then
  scripts/setup.sh >/dev/null
  cargo build --release --locked --quiet -p metad2a-coordinator -p metad2a-worker
fi
scripts/weights/fetch.sh >/dev/null
python=${PYTHON:-}
if [ -z "$python" ]; then
  venv=.metad2a/precision/venv
  python=$venv/bin/python
  if [ ! -x "$python" ]; then
    python3 -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement scripts/experiments/gate-requirements.txt
  fi
fi
exec "$python" scripts/experiments/precision.py \
  --programs "$programs" --weights "${WEIGHTS_DIR:-.weights}/efficientnet-lite0.safetensors"
