#!/usr/bin/env bash
# Sets up what tests need, then runs all of them: format, lints, unit, integration, property, snapshot and doc tests,
# against a real RabbitMQ and a real S3 server. Ends with one line of counts. CI calls exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step set-up
scripts/setup.sh --tests
PATH="$PWD/.tools/bin:$PATH"
export PATH

step format
cargo fmt --all --check

step lints
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step build
cargo build --workspace --locked --quiet
cargo nextest run --workspace --locked --no-run

step "weights converter"
python3 -m unittest discover --start-directory scripts/weights --quiet

step "tests (with RabbitMQ and an S3 server)"
junit=target/nextest/all/junit.xml
rm -f "$junit"
scripts/services/with-broker.sh scripts/services/with-s3.sh \
  cargo nextest run --workspace --locked --profile all --run-ignored all

step "doc tests"
doc_log="$(mktemp)"; trap 'rm -f "$doc_log"' EXIT
LD_LIBRARY_PATH="${LIBTORCH:-$PWD/.libtorch/torch}/lib" cargo test --workspace --doc --locked --quiet 2>&1 | tee "$doc_log"

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step infrastructure
scripts/check-infra.sh

step dependencies
# Advisories need a database from outside; licences, duplicates and sources are checked offline.
cargo deny --offline check bans licenses sources

python3 - "$junit" "$doc_log" <<'PY'
import re, sys, xml.etree.ElementTree as tree
suites = tree.parse(sys.argv[1]).getroot()
ran, failed = int(suites.get("tests")), int(suites.get("failures")) + int(suites.get("errors"))
documented = sum(map(int, re.findall(r"test result: ok\. (\d+) passed", open(sys.argv[2]).read())))
print(f"\n{ran - failed + documented} passed, {failed} failed")
PY
