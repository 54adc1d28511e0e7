#!/usr/bin/env bash
# Runs a command beside a real, private RabbitMQ, and stops the broker afterwards, however the command ends.
#
#   scripts/services/with-broker.sh cargo nextest run -p metad2a-queue --run-ignored all
#
# The command sees
#   METAD2A_TEST_AMQP_URL            where the broker listens
#   METAD2A_TEST_BROKER_RESTART      a program that kills the broker with SIGKILL and starts it again
# Needs the Debian package rabbitmq-server; as root it is installed where missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
# The programs of the package itself: the wrappers in /usr/sbin change user and folder.
programs=/usr/lib/rabbitmq/bin

if [ "${1:-}" = "" ]; then
    echo "usage: $0 COMMAND [ARGUMENT...]" >&2
    exit 2
fi

if [ ! -x "$programs/rabbitmq-server" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "rabbitmq-server is missing: run 'sudo apt-get install --no-install-recommends rabbitmq-server' first" >&2
        exit 2
    fi
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends rabbitmq-server >&2
fi

mkdir -p "$root/.services"
data=$(mktemp -d "$root/.services/broker.XXXXXX")
mkdir -p "$data/mnesia" "$data/log" "$data/home"
head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$data/home/.erlang.cookie"
chmod 400 "$data/home/.erlang.cookie"
echo '[].' >"$data/enabled_plugins"

# Whether nobody listens on a port of this machine. The subshell keeps the connection from outliving the question.
is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the ports that the kernel gives to outgoing connections, usually 32768 and up.
free_port() {
    local port
    while :; do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
        if is_free "$port"; then
            echo "$port"
            return
        fi
    done
}

port=$(free_port)
# A port mapper of our own: it neither disturbs another broker of this machine nor outlives ours.
ERL_EPMD_PORT=$(free_port)
RABBITMQ_DIST_PORT=$(free_port)
export ERL_EPMD_PORT RABBITMQ_DIST_PORT

cat >"$data/rabbitmq.conf" <<CONFIGURATION
listeners.tcp.default = 127.0.0.1:$port
# Tests fill no disk, but may run on a nearly full one.
disk_free_limit.absolute = 50MB
CONFIGURATION

# The broker's own environment, kept from the command: it has another home folder.
broker() {
    env HOME="$data/home" LC_ALL=C.UTF-8 ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_NODENAME="metad2a$port@localhost" RABBITMQ_NODE_PORT="$port" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log" RABBITMQ_CONFIG_FILE="$data/rabbitmq" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ENABLED_PLUGINS_FILE="$data/enabled_plugins" \
        RABBITMQ_PID_FILE="$data/pid" RABBITMQ_GENERATED_CONFIG_DIR="$data/generated" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        "$@"
}

# A connection succeeds long before the broker speaks, so ask for the first frame of the protocol.
is_ready() {
    [ "$( (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'AMQP\0\0\x09\x01' >&3 && timeout 2 head -c 1 <&3 | od -An -tx1) 2>/dev/null | tr -d ' ')" = 01 ]
}

start() {
    rm -f "$data/pid"
    (cd "$data" && broker setsid "$programs/rabbitmq-server" >>"$data/out" 2>&1 </dev/null &)
    for _ in $(seq 600); do
        if is_ready; then return; fi
        sleep 0.2
    done
    echo "RabbitMQ did not start within two minutes; its output:" >&2
    tail -n 40 "$data/out" >&2
    return 1
}

kill_broker() {
    [ -s "$data/pid" ] || return 0
    local pid
    pid=$(cat "$data/pid")
    # Only a process that is still our broker, not one that has got its number since.
    if grep -qsF "$data/home" "/proc/$pid/cmdline"; then
        kill -KILL "$pid" 2>/dev/null || true
        while [ -e "/proc/$pid" ] && ! grep -qs '^State:.Z' "/proc/$pid/status"; do sleep 0.05; done
    fi
}

clean_up() {
    # The data is thrown away, so a broker need not shut down in order.
    kill_broker
    # The port mapper refuses to end before it has noticed that its node is gone.
    for _ in $(seq 50); do
        if epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
    rm -rf "$data"
}

# The restart program re-enters this script's functions in the same shell that started the broker, by two files.
serve_restarts() {
    mkfifo "$data/asked" "$data/done"
    while read -r _ <"$data/asked"; do
        kill_broker
        start && echo restarted >"$data/done"
    done
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start
serve_restarts &
restarts=$!
# No message about its end.
disown "$restarts"
trap 'kill -KILL "$restarts" 2>/dev/null || true; clean_up' EXIT

cat >"$data/restart" <<RESTART
#!/bin/sh
echo please >"$data/asked" && read -r _ <"$data/done"
RESTART
chmod +x "$data/restart"

export METAD2A_TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$port/%2f"
export METAD2A_TEST_BROKER_RESTART="$data/restart"
# In the background, so that a signal is handled at once and not only when the command has ended.
"$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null || true; exit 130' INT
trap 'kill -TERM "$command" 2>/dev/null || true; exit 143' TERM
wait "$command"
