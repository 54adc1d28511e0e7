#!/usr/bin/env bash
# with-broker.sh, but with the RabbitMQ 4 of Debian 13, in a root folder of its own: the packages of this system are older.
#
#   scripts/services/with-broker-4.sh cargo nextest run -p metad2a-queue --run-ignored all
#   scripts/services/with-broker-4.sh --prepare     makes the folder where it is missing, and nothing else
#
# The folder is made once, by debootstrap: 370 MB, about two minutes, from the Debian mirror; as root on Debian debootstrap
# is installed where missing. METAD2A_BROKER_4_ROOT names another folder, METAD2A_BROKER_4_SECONDS how long making it may
# take (170). Needs root, for chroot and for mounts that only this run sees.
# Exit code 75, and one line that says why: it cannot run here.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
debian=${METAD2A_BROKER_4_ROOT:-$root/.services/debian-13}

cannot() {
    echo "RabbitMQ 4 cannot run here: $1" >&2
    exit 75
}

# Made beside its place and moved there whole, by one at a time: what is broken off is never taken for it.
make_folder() {
    exec 9>"$debian.lock"
    flock 9
    [ ! -e "$debian/.complete" ] || return 0
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || cannot "debootstrap is missing"
        { apt-get update -q && apt-get install -qy --no-install-recommends debootstrap; } >"$debian.log" 2>&1 \
            || cannot "debootstrap is missing and cannot be installed; see $debian.log"
    fi
    echo "making $debian (370 MB, about two minutes)" >&2
    rm -rf "$debian" "$debian.new"
    mkdir -p "$debian.new"
    if ! timeout "${METAD2A_BROKER_4_SECONDS:-170}" \
        debootstrap --variant=minbase --include=rabbitmq-server trixie "$debian.new" >"$debian.log" 2>&1; then
        rm -rf "$debian.new"
        cannot "debootstrap failed or was too slow (no way to the Debian mirror?); see $debian.log"
    fi
    touch "$debian.new/.complete"
    mv -T "$debian.new" "$debian"
}

if [ "${1:-}" = "" ]; then
    echo "usage: $0 COMMAND [ARGUMENT...] | --prepare" >&2
    exit 2
fi
[ "$(id -u)" = 0 ] || cannot "chroot and mounts need root"
unshare --mount true 2>/dev/null || cannot "this system gives no mounts of our own (unshare --mount)"
mkdir -p "$(dirname "$debian")"
[ -e "$debian/.complete" ] || make_folder
[ "$1" != --prepare ] || exit 0

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
