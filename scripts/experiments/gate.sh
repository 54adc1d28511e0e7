#!/usr/bin/env bash
# The gate of recipes: is a short training worth its price as a label? Trains 60 cells with each recipe through the
# pipeline, and compares with published accuracies of the same cells.
#
#   scripts/experiments/gate.sh IMAGES_PARQUET CELLS_CSV [RECIPE…]
#
#   IMAGES_PARQUET   Tiny-ImageNet at 32 x 32 (200 classes of 200 pictures or more) in Hugging Face's form
#   CELLS_CSV        published accuracies: arch_index, arch, imagenet16_120_test_acc_200, params_10_classes
#   RECIPE           blocks of gate-recipes.toml, all of them by default
#
# Declared before any row was seen: the signal is −fit_loss, the mean training loss of the last ten epochs with its
# sign turned, of one training a cell (seed 0). A recipe passes if its Spearman correlation with ImageNet16-120's test
# accuracies is 0.75 or more, and 60 cells take at most 15 minutes on 2 cores. Everything else in the report is
# context. No other accuracy of the table is read, so that other datasets, CIFAR-100 above all, stay untouched.
#
# Declared after two draws, before any row of the third (DRAW=3) was seen: the joint signal is the mean of the ranks of
# -fit_loss of 20x25-120 and of 5x100-120, one training each. It passes under the same terms, with the time of both.
#
# The cells are seeded (DRAW=1), canonically distinct and never always zero, and the same for all recipes of a draw.
# Many recipes tried on one draw make the best look better than it is: try it again with another DRAW before it counts.
#
# Rows are kept in docs/benchmarks/gate.json; what is there is not trained again, and an interrupted run goes on.
# SEEDS=1 trains each cell once, without figures of reliability. PROGRAMS names the folder of metad2a and
# metad2a-worker; PYTHON a Python 3.11 with gate-requirements.txt installed (otherwise one is made under .metad2a).
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '5,9p' "$0" >&2
  exit 2
fi
images=$(realpath -e "$1")
cells=$(realpath -e "$2")
shift 2
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/experiments/prepare.sh
source scripts/experiments/prepare.sh
mkdir -p docs/benchmarks
exec "$python" scripts/experiments/gate.py \
  --programs "$programs" --weights "${WEIGHTS_DIR:-.weights}/efficientnet-lite0.safetensors" --draw "${DRAW:-1}" --seeds "${SEEDS:-2}" "$images" "$cells" "$@"
