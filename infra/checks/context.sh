#!/usr/bin/env bash
# The context of the container builds, as .dockerignore leaves it: cargo must find every manifest and every target in
# it, and every file that a Dockerfile copies must be there. No image is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# The first rule leaves everything out; the others let paths back in.
[ "$(grep -v '^#' .dockerignore | head -n 1)" = '*' ] || { echo ".dockerignore must begin by leaving everything out" >&2; exit 1; }
while read -r rule; do
  for path in ${rule#!}; do cp -R --parents "$path" "$context"; done
done < <(grep '^!' .dockerignore)
(cd "$context" && cargo metadata --offline --locked --no-deps --format-version 1 >/dev/null)
for file in infra/containers/*.Dockerfile; do
  while read -r _ arguments; do
    # Without the last word, which is the target.
    for path in ${arguments% *}; do
      compgen -G "$context/$path" >/dev/null || { echo "$file copies $path, which .dockerignore leaves out" >&2; exit 1; }
    done
  done < <(grep '^COPY ' "$file" | grep -v -- '--from=')
done
# Nothing that may hold a secret, nothing large.
size=$(du -sm "$context" | cut -f1)
[ "$size" -lt 50 ] || { echo "the context holds $size MB" >&2; exit 1; }
echo "containers: a context of $size MB, whole for cargo"
