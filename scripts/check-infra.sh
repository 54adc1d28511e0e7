#!/usr/bin/env bash
# Checks everything in infra/ without Docker, Kubernetes or a running systemd: see infra/README.md for what each check
# proves and what none of them does. Under a minute.
#
#   scripts/check-infra.sh                      needs the programs of `cargo build -p metad2a-coordinator -p metad2a-worker`
#   scripts/check-infra.sh --without-programs   does not ask them whether they know the arguments, and says so
#
# With KEDA_CRDS=FOLDER (config/crd/bases of kedacore/keda) the chart's KEDA objects are held against KEDA's own
# definitions too.
set -euo pipefail
cd "$(dirname "$0")/.."
with_programs=true
case "${1:-}" in
  "") ;;
  --without-programs) with_programs=false ;;
  *) echo "usage: $0 [--without-programs]" >&2; exit 2 ;;
esac

scripts/setup-infra-tools.sh
python=$PWD/.tools-infra/python/bin
promtool=$PWD/.tools-infra/bin/promtool
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The slowest, beside the others.
"$python/python" infra/checks/broker.py >"$work/broker" 2>&1 &
broker=$!

"$python/shellcheck" --external-sources infra/checks/*.sh infra/compose/*.sh infra/containers/*.sh scripts/check-infra.sh scripts/setup-infra-tools.sh \
  scripts/setup-analysis-tools.sh
"$python/yamllint" --strict --config-file infra/checks/yamllint.yml infra/compose infra/prometheus infra/helm/test-values \
  infra/helm/metad2a/Chart.yaml infra/helm/metad2a/values.yaml infra/helm/metad2a/files
"$python/hadolint" --no-color infra/containers/*.Dockerfile
infra/checks/context.sh
"$python/check-jsonschema" --builtin-schema vendor.compose-spec infra/compose/compose.yaml infra/compose/compose.gpu.yaml >"$work/compose" \
  || { cat "$work/compose" >&2; exit 1; }
"$python/python" infra/checks/chart.py "$work/arguments"
"$python/python" infra/checks/compose.py "$work/arguments"
infra/checks/units.sh
(
  cd infra/prometheus
  "$promtool" check config prometheus.yml && "$promtool" test rules metad2a.rules.test.yml
) >"$work/rules" 2>&1 || { cat "$work/rules" >&2; exit 1; }
"$python/python" infra/checks/alerts.py
if $with_programs; then "$python/python" infra/checks/arguments.py "$work/arguments" "${CARGO_TARGET_DIR:-target}/debug"; fi
wait "$broker" || { cat "$work/broker" >&2; exit 1; }
cat "$work/broker"

$with_programs || echo "NOT CHECKED: whether the programs know the arguments that infra/ gives them (--without-programs)"
[ -n "${KEDA_CRDS:-}" ] || echo "NOT CHECKED: KEDA's own definitions (set KEDA_CRDS); the chart's were held against infra/checks/schemas"
echo "NOT CHECKED, nowhere here: building and running the images, compose, the chart in a cluster, the units under systemd, a card"
echo "infra/ is in order"
