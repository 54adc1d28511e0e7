#!/usr/bin/env bash
# with-broker.sh, but with the RabbitMQ 4 of Debian 13, in a root folder of its own: the packages of this system are older.
#
#   scripts/services/with-broker-4.sh cargo nextest run -p metad2a-queue --run-ignored all
#
# The folder is made once, by debootstrap: 370 MB, about two minutes, from the Debian mirror. METAD2A_BROKER_4_ROOT names
# another one. Needs root, for chroot and for mounts that only this run sees. Exit code 2: it cannot run here.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
debian=${METAD2A_BROKER_4_ROOT:-$root/.services/debian-13}

cannot() {
    echo "RabbitMQ 4 cannot run here: $1" >&2
    exit 2
}

if [ "${1:-}" = "" ]; then
    echo "usage: $0 COMMAND [ARGUMENT...]" >&2
    exit 2
fi
[ "$(id -u)" = 0 ] || cannot "chroot and mounts need root"
unshare --mount true 2>/dev/null || cannot "this system gives no mounts of our own (unshare --mount)"

if [ ! -e "$debian/.complete" ]; then
    command -v debootstrap >/dev/null || cannot "install debootstrap first"
    rm -rf "$debian.new"
    mkdir -p "$debian.new"
    echo "making $debian (370 MB, about two minutes)" >&2
    if ! debootstrap --variant=minbase --include=rabbitmq-server trixie "$debian.new" >"$debian.log" 2>&1; then
        tail -n 5 "$debian.log" >&2
        cannot "debootstrap failed; its output is in $debian.log"
    fi
    touch "$debian.new/.complete"
    mv "$debian.new" "$debian"
fi

# A broker finds its data under the same path inside and outside. The mounts end with the last process that sees them,
# so removing the folder never removes the system's /dev.
mkdir -p "$root/.services" "$debian$root/.services"
export METAD2A_BROKER_ROOT="$debian"
# shellcheck disable=SC2016
exec unshare --mount --propagation private bash -euc '
    mount -t proc proc "$METAD2A_BROKER_ROOT/proc"
    mount --rbind /dev "$METAD2A_BROKER_ROOT/dev"
    mount --bind "$1/.services" "$METAD2A_BROKER_ROOT$1/.services"
    folder=$1
    shift
    exec "$folder/scripts/services/with-broker.sh" "$@"
' with-broker-4 "$root" "$@"
