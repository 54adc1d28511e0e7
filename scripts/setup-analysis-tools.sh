#!/usr/bin/env bash
# Puts what the tests of docs/COOKBOOK.md ask with into ./.tools-analysis (about 250 MB): the program duckdb and the
# Python package polars, from hash-pinned wheels. Idempotent: a stamp names the requirements file's sha256.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=scripts/analysis-tools.txt
target=.tools-analysis
stamp="$(sha256sum "$requirements" "$0" | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$target/.stamp" 2>/dev/null)" = "$stamp" ]; then echo "analysts' tools already in $target"; exit 0; fi
rm -rf "$target"; mkdir -p "$target/bin"
python3 -m pip install --quiet --target "$target/python" --no-deps --require-hashes --no-cache-dir \
  --disable-pip-version-check --root-user-action ignore --only-binary=:all: --requirement "$requirements"
mv "$target/python/duckdb_cli/duckdb" "$target/bin/duckdb"
chmod 755 "$target/bin/duckdb"
echo "$stamp" > "$target/.stamp"
echo "analysts' tools in $target"
