#!/usr/bin/env bash
# Adds the CUDA half to a libtorch that scripts/setup-libtorch.sh laid down, from the same hash-pinned wheels (about
# 2.5 GB to download, twice as much on disk). The worker opens it at run time where it finds a card.
#
#   infra/containers/add-cuda.sh FOLDER        the folder that holds torch/
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
target=$1
version=$(cat "$target/torch/build-version") || { echo "$target holds no libtorch: run scripts/setup-libtorch.sh first" >&2; exit 1; }
requirements=$(cd "$(dirname "$0")" && pwd)/libtorch-$version-cuda.txt
[ -f "$requirements" ] || { echo "$requirements is missing: no CUDA half is pinned for libtorch $version" >&2; exit 1; }

wheels=$(mktemp -d "$target/wheels.XXXXXX")
trap 'rm -rf "$wheels"' EXIT
# The tags of all the wheels that the file names, whatever python runs pip.
python3 -m pip download --quiet --no-deps --require-hashes --no-cache-dir --disable-pip-version-check \
  --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
  --platform manylinux_2_18_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2010_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux1_x86_64 \
  --dest "$wheels" --requirement "$requirements"
python3 - "$wheels" "$target" <<'PY'
import glob
import os
import re
import sys
import zipfile

wheels, target = sys.argv[1:]
# Shared libraries and licences. The places stay as they are in the wheels: the libraries find each other by them.
library = re.compile(r"(torch/lib|nvidia/.+/lib)/[^/]+\.so(\.\d+)*$")
licence = re.compile(r"[^/]+\.dist-info/(.*/)?(licen[cs]e|notice)[^/]*$", re.IGNORECASE)
# The half for Python, and what setup-libtorch.sh has put in place of the wheel's own.
unwanted = re.compile(r"torch/lib/(libtorch_python|libtorch|libshm)\.so$")
for wheel in sorted(glob.glob(wheels + "/*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if licence.match(name) or (library.match(name) and not unwanted.match(name)):
                if not os.path.exists(os.path.join(target, name)):
                    archive.extract(entry, target)
    os.remove(wheel)
PY
[ -f "$target/torch/lib/libtorch_cuda.so" ] || { echo "the pinned wheel of libtorch $version holds no CUDA half" >&2; exit 1; }
