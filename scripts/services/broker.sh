#!/usr/bin/env bash
# Starts, kills and stops one private RabbitMQ that lives in a folder. Tests use it for brokers of their own.
#
#   broker.sh start FOLDER        starts the broker and prints its address (a second line: the one with TLS)
#   broker.sh kill FOLDER         SIGKILL, as a power failure would
#   broker.sh restart FOLDER      kill, then start with the same data and the same ports
#   broker.sh stop FOLDER         kill, and remove the folder
#   broker.sh ctl FOLDER ARG...   rabbitmqctl on that broker; takes seconds
#
# What a test may put into FOLDER before the first start:
#   extra.conf                    more lines for rabbitmq.conf
#   tls/ca.pem, tls/server.pem, tls/server.key    then the broker listens with TLS, too
#
# METAD2A_BROKER_ROOT names another root folder whose RabbitMQ is used (see with-broker-4.sh).
# Needs the Debian package rabbitmq-server; as root it is installed where missing.
set -euo pipefail

# The programs of the package itself: the wrappers in /usr/sbin change user and folder.
programs=/usr/lib/rabbitmq/bin
other_root=${METAD2A_BROKER_ROOT:-}

usage() {
    sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

[ $# -ge 2 ] || usage
command=$1 folder=$(realpath -m "$2")
shift 2

install_if_missing() {
    [ ! -x "$other_root$programs/rabbitmq-server" ] || return 0
    if [ -n "$other_root" ] || [ "$(id -u)" != 0 ]; then
        echo "rabbitmq-server is missing: run 'sudo apt-get install --no-install-recommends rabbitmq-server' first" >&2
        exit 2
    fi
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends rabbitmq-server >&2
}

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

# Once per folder: a broker that starts again must be found where it was.
prepare() {
    [ ! -e "$folder/ports" ] || return 0
    mkdir -p "$folder/mnesia" "$folder/log" "$folder/home"
    head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$folder/home/.erlang.cookie"
    chmod 400 "$folder/home/.erlang.cookie"
    echo '[].' >"$folder/enabled_plugins"
    # A port mapper of our own: it neither disturbs another broker of this machine nor outlives ours.
    printf 'port=%s\ntls_port=%s\nmapper_port=%s\ndistribution_port=%s\n' \
        "$(free_port)" "$(free_port)" "$(free_port)" "$(free_port)" >"$folder/ports.new"
    # shellcheck source=/dev/null
    . "$folder/ports.new"
    {
        echo "listeners.tcp.default = 127.0.0.1:$port"
        # Tests fill no disk, but may run on a nearly full one.
        echo "disk_free_limit.absolute = 50MB"
        if [ -e "$folder/tls/server.pem" ]; then
            echo "listeners.ssl.default = 127.0.0.1:$tls_port"
            echo "ssl_options.cacertfile = $folder/tls/ca.pem"
            echo "ssl_options.certfile = $folder/tls/server.pem"
            echo "ssl_options.keyfile = $folder/tls/server.key"
        fi
        if [ -e "$folder/extra.conf" ]; then cat "$folder/extra.conf"; fi
    } >"$folder/rabbitmq.conf"
    mv "$folder/ports.new" "$folder/ports"
}

# Runs a program in the broker's environment, and in the other root if there is one.
broker() {
    local run=()
    [ -z "$other_root" ] || run=(chroot "$other_root")
    "${run[@]}" env HOME="$folder/home" LC_ALL=C.UTF-8 ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$mapper_port" \
        RABBITMQ_NODENAME="metad2a$port@localhost" RABBITMQ_NODE_PORT="$port" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
        RABBITMQ_DIST_PORT="$distribution_port" \
        RABBITMQ_MNESIA_BASE="$folder/mnesia" RABBITMQ_LOG_BASE="$folder/log" RABBITMQ_CONFIG_FILE="$folder/rabbitmq" \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" \
        RABBITMQ_PID_FILE="$folder/pid" RABBITMQ_GENERATED_CONFIG_DIR="$folder/generated" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        "$@"
}

# A connection succeeds long before the broker speaks, so ask for the first frame of the protocol.
is_ready() {
    [ "$( (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'AMQP\0\0\x09\x01' >&3 && timeout 2 head -c 1 <&3 | od -An -tx1) 2>/dev/null | tr -d ' ')" = 01 ]
}

# The broker's own process, or nothing: not one that has got its number since.
own_process() {
    local pid
    pid=$(cat "$folder/pid" 2>/dev/null) || return 0
    if grep -qsF "$folder/" "/proc/$pid/cmdline"; then echo "$pid"; fi
}

start() {
    install_if_missing
    prepare
    # shellcheck source=/dev/null
    . "$folder/ports"
    rm -f "$folder/pid"
    # All of it away from our output: whoever reads that would wait for the broker's end.
    (cd "$folder" && exec >>"$folder/out" 2>&1 </dev/null && broker setsid "$programs/rabbitmq-server" &)
    for _ in $(seq 600); do
        if is_ready; then
            echo "amqp://guest:guest@127.0.0.1:$port/%2f"
            [ ! -e "$folder/tls/server.pem" ] || echo "amqps://guest:guest@localhost:$tls_port/%2f"
            return
        fi
        sleep 0.2
    done
    echo "RabbitMQ did not start within two minutes; its output:" >&2
    tail -n 40 "$folder/out" >&2
    return 1
}

kill_broker() {
    local pid
    pid=$(own_process)
    [ -n "$pid" ] || return 0
    kill -KILL "$pid" 2>/dev/null || true
    while [ -e "/proc/$pid" ] && ! grep -qs '^State:.Z' "/proc/$pid/status"; do sleep 0.05; done
}

stop() {
    # The data is thrown away, so a broker need not shut down in order.
    kill_broker
    if [ -e "$folder/ports" ]; then
        # shellcheck source=/dev/null
        . "$folder/ports"
        # The port mapper refuses to end before it has noticed that its node is gone.
        for _ in $(seq 50); do
            if broker epmd -port "$mapper_port" -kill >/dev/null 2>&1; then break; fi
            if is_free "$mapper_port"; then break; fi
            sleep 0.1
        done
    fi
    rm -rf "$folder"
}

case $command in
start) start ;;
kill) kill_broker ;;
restart)
    kill_broker
    start
    ;;
stop) stop ;;
ctl)
    # shellcheck source=/dev/null
    . "$folder/ports"
    broker "$programs/rabbitmqctl" --quiet --node "metad2a$port@localhost" "$@"
    ;;
*) usage ;;
esac
