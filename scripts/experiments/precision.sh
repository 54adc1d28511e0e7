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
# shellcheck source=scripts/experiments/prepare.sh
source scripts/experiments/prepare.sh
exec "$python" scripts/experiments/precision.py \
  --programs "$programs" --weights "${WEIGHTS_DIR:-.weights}/efficientnet-lite0.safetensors"
