#!/usr/bin/env bash
# Runs a command beside a real, private RabbitMQ, and stops the broker afterwards, however the command ends.
#
#   scripts/services/with-broker.sh cargo nextest run -p metad2a-queue --run-ignored all
#
# The command sees
#   METAD2A_TEST_AMQP_URL            where the broker listens
#   METAD2A_TEST_BROKER_RESTART      a program that kills the broker with SIGKILL and starts it again
#   METAD2A_TEST_BROKER              broker.sh, for tests that need a broker of their own
#   METAD2A_TEST_BROKERS             a folder for those; what is left in it is stopped and removed
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
broker="$root/scripts/services/broker.sh"

if [ "${1:-}" = "" ]; then
    echo "usage: $0 COMMAND [ARGUMENT...]" >&2
    exit 2
fi

mkdir -p "$root/.services"
data=$(mktemp -d "$root/.services/brokers.XXXXXX")

clean_up() {
    local folder
    for folder in "$data"/*/; do
        [ ! -d "$folder" ] || "$broker" stop "$folder"
    done
    rm -rf "$data"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

METAD2A_TEST_AMQP_URL=$("$broker" start "$data/shared")
printf '#!/bin/sh\nexec "%s" restart "%s" >/dev/null\n' "$broker" "$data/shared" >"$data/restart"
chmod +x "$data/restart"
export METAD2A_TEST_AMQP_URL METAD2A_TEST_BROKER_RESTART="$data/restart"
export METAD2A_TEST_BROKER="$broker" METAD2A_TEST_BROKERS="$data"

# In the background, so that a signal is handled at once and not only when the command has ended.
"$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null || true; exit 130' INT
trap 'kill -TERM "$command" 2>/dev/null || true; exit 143' TERM
wait "$command"
