#!/usr/bin/env bash
# The systemd units: known keys only, a calendar that systemd reads, and no service more exposed than stated here.
# systemd-analyze only warns of unknown keys, so whatever it prints is a failure. Nothing is installed or started.
set -euo pipefail
units=$(cd "$(dirname "$0")/../systemd" && pwd)
command -v systemd-analyze >/dev/null || { echo "systemd-analyze is missing: install systemd" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Instances of the templates, whose programs exist.
for program in metad2a metad2a-worker; do printf '#!/bin/sh\n' >"$folder/$program"; chmod +x "$folder/$program"; done
for unit in "$units"/*@.*; do
  name=$(basename "$unit")
  sed "s|/usr/local/bin/|$folder/|" "$unit" >"$folder/${name/@./@nightly.}"
done
failed=false
report=$(SYSTEMD_UNIT_PATH="$folder:" systemd-analyze verify --man=no "$folder"/*@nightly.* 2>&1) || failed=true
# What it says of the machine's own units, and of there being no running systemd, is not about ours.
report=$(grep -F metad2a <<<"$report" || true)
if $failed || [ -n "$report" ]; then printf '%s\n' "$report" >&2; exit 1; fi

exposure() { # UNIT HIGHEST: exposure in tenths, as systemd-analyze counts it (0: none, 100: all)
  systemd-analyze security --offline=true --no-pager --threshold="$2" "$folder/$1" >"$folder/report" 2>&1 \
    || { grep -vE '^✓' "$folder/report" >&2; echo "$1 is more exposed than $2 tenths" >&2; exit 1; }
}
exposure metad2a-worker@nightly.service 30
exposure metad2a-refresh@nightly.service 22

calendar=$(sed -n 's/^OnCalendar=//p' "$units"/*.timer)
systemd-analyze calendar "$calendar" >/dev/null || { echo "OnCalendar=$calendar means nothing" >&2; exit 1; }
instances=("$folder"/*@nightly.*)
echo "systemd: ${#instances[@]} units"
