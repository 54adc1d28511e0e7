#!/usr/bin/env bash
# Draws the passwords of compose.yaml into infra/compose/secrets, once; what is there already is kept.
#
# The folder is closed to others. The files in it are not: each is handed into containers, where its reader is another
# user than here.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
draw() { [ -s "secrets/$1" ] || od -An -N "$2" -tx1 /dev/urandom | tr -d ' \n' >"secrets/$1"; }
draw queue-password 24
draw store-access-key 10
draw store-secret-key 24
printf 'default_user = metad2a\ndefault_pass = %s\n' "$(cat secrets/queue-password)" >secrets/queue-user.conf
chmod 644 secrets/*
echo "secrets in infra/compose/secrets"
