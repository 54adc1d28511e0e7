#!/usr/bin/env bash
# Sets up what tests need, then runs all of them: format, lints, unit, integration, property, snapshot and doc tests,
# against a real RabbitMQ (3 and, where it can be had, 4) and a real S3 server. Ends with one line of counts. CI calls
# exactly this.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$*"; }

step set-up
scripts/setup.sh --tests
PATH="$PWD/.tools/bin:$PATH"
export PATH
logs="$(mktemp -d)"; trap 'rm -rf "$logs"' EXIT
# A download of about two minutes, once, beside the build.
scripts/services/with-broker-4.sh --prepare >"$logs/broker-4" 2>&1 &
broker_4=$!

step format
cargo fmt --all --check

step lints
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step build
cargo build --workspace --locked --quiet
cargo nextest run --workspace --locked --no-run

step "weights converter"
python3 -m unittest discover --start-directory scripts/weights --quiet

step "statistics of the recipe gate"
python3 -m unittest discover --start-directory scripts/experiments --quiet

# Before the other broker, which may have to be installed: two installations get in each other's way.
has_broker_4=true
wait "$broker_4" || has_broker_4=false

step "tests (with RabbitMQ and an S3 server)"
junit=(target/nextest/all/junit.xml)
rm -f "${junit[0]}"
scripts/services/with-broker.sh scripts/services/with-s3.sh \
  cargo nextest run --workspace --locked --profile all --run-ignored all

step "queue tests with RabbitMQ 4"
if $has_broker_4; then
  junit+=(target/nextest/broker-4/junit.xml)
  rm -f "${junit[1]}"
  scripts/services/with-broker-4.sh \
    cargo nextest run --workspace --locked --profile broker-4 --run-ignored all
else
  echo "NOT RUN with RabbitMQ 4, only with 3: $(tail -n 1 "$logs/broker-4")"
fi

step "doc tests"
doc_log="$logs/doc-tests"
LD_LIBRARY_PATH="${LIBTORCH:-$PWD/.libtorch/torch}/lib" cargo test --workspace --doc --locked --quiet 2>&1 | tee "$doc_log"

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step infrastructure
scripts/check-infra.sh

step dependencies
# Advisories need a database from outside; licences, duplicates and sources are checked offline.
cargo deny --offline check bans licenses sources

python3 - "$doc_log" "${junit[@]}" <<'PY'
import re, sys, xml.etree.ElementTree as tree
suites = [tree.parse(path).getroot() for path in sys.argv[2:]]
ran, failed, errors = (sum(int(suite.get(key)) for suite in suites) for key in ("tests", "failures", "errors"))
failed += errors
documented = sum(map(int, re.findall(r"test result: ok\. (\d+) passed", open(sys.argv[1]).read())))
print(f"\n{ran - failed + documented} passed, {failed} failed")
PY
