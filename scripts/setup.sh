#!/usr/bin/env bash
# Everything that a build needs: system packages, libtorch, the extractor's weights; with --tests also what tests need.
# Idempotent. On Debian as root it installs what is missing; elsewhere it says what to install and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

with_tests=false
[ "${1:-}" = --tests ] && with_tests=true

# Debian packages by what proves that they are there.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cc gcc
need c++ g++
need make make
need python3 python3
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if $with_tests; then python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv); fi
if $with_tests; then need systemd-analyze systemd; need openssl openssl; fi
[ -d /etc/ssl/certs ] && [ -n "$(ls -A /etc/ssl/certs 2>/dev/null)" ] || missing+=(ca-certificates)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "missing: ${missing[*]}. As root on Debian 12: apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi
if ! command -v cargo >/dev/null 2>&1; then
  echo "missing: Rust. Install rustup from your system or its site; the toolchain is pinned in rust-toolchain.toml." >&2
  exit 1
fi

scripts/setup-libtorch.sh
scripts/weights/fetch.sh
if $with_tests; then scripts/setup-tools.sh; scripts/setup-infra-tools.sh; scripts/setup-analysis-tools.sh; fi
