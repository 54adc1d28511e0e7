"""Starts a real RabbitMQ with infra/rabbitmq's configuration and asks it what the alerts and KEDA will ask.

The broker refuses settings that it does not know. Every metric that the rules name must be among those it shows, and
KEDA's question for the length of a pipeline's lanes must count the tasks in them and nothing else.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = "/usr/lib/rabbitmq/bin"
LANE = "metad2a.nightly.v1.gpu.normal"
OTHERS = ["metad2a.nightly.dead-letters", "metad2a.nightly2.v1.gpu.normal", "metad2a.nightly.events"]
# Since 3.13 or so; the rules have a substitute for them.
ONLY_NEWER = {"rabbitmq_alarms_memory_used_watermark", "rabbitmq_alarms_free_disk_space_watermark"}
LONGEST = 120  # seconds until the broker must answer


def free_port():
    """A port whose companions are free too: management, metrics, port mapper, distribution."""
    for port in range(10700 + os.getpid() % 10000, 25000, 7):
        try:
            for companion in (port, port + 1, port + 2, port + 10000, port + 20000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", companion))
            return port
        except OSError:
            continue
    sys.exit("no five free ports on this machine")


def start(folder, port):
    for name in ("mnesia", "log", "home"):
        os.mkdir(os.path.join(folder, name))
    cookie = os.path.join(folder, "home/.erlang.cookie")
    with open(cookie, "w") as file:
        file.write(secrets.token_hex(20))
    os.chmod(cookie, 0o400)
    shutil.copy(os.path.join(HERE, "../rabbitmq/enabled_plugins"), folder)
    with open(os.path.join(HERE, "../rabbitmq/rabbitmq.conf")) as file:
        settings = file.read()
    # Only where it listens is ours, and less disk than a real one demands.
    settings = re.sub(r"(?m)^disk_free_limit\..*$", "disk_free_limit.absolute = 50MB", settings)
    settings += f"""
listeners.tcp.default = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {port + 1}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {port + 2}
"""
    with open(os.path.join(folder, "rabbitmq.conf"), "w") as file:
        file.write(settings)
    environment = {
        "PATH": os.environ["PATH"], "HOME": f"{folder}/home", "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(port + 10000), "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"check{port}@localhost", "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(port + 20000), "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia", "RABBITMQ_LOG_BASE": f"{folder}/log",
        "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq", "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins", "RABBITMQ_PID_FILE": f"{folder}/pid",
        "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with open(f"{folder}/out", "w") as out:
        # A session of its own, so that all of it can be ended.
        return subprocess.Popen([f"{PROGRAMS}/rabbitmq-server"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                stdout=out, stderr=out, start_new_session=True)


def ask(port, path, method="GET", body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                     data=json.dumps(body).encode() if body is not None else None)
    request.add_header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def wait_for(broker, what, question):
    """Asks until the answer is a true one."""
    end = time.monotonic() + LONGEST
    while True:
        try:
            answer = question()
            if answer:
                return answer
        except OSError:
            pass
        if broker.poll() is not None:
            raise ChildProcessError("it has ended; its last words stand above")
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {LONGEST} s")
        time.sleep(0.3)


def check(broker, port):
    management, metrics = port + 1, port + 2
    wait_for(broker, "the management plugin answers", lambda: ask(management, "/api/overview"))
    for queue in [LANE, *OTHERS]:
        ask(management, f"/api/queues/%2F/{queue}", "PUT", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        message = {"properties": {}, "routing_key": queue, "payload": "task", "payload_encoding": "string"}
        for _ in range(3):
            ask(management, "/api/exchanges/%2F/amq.default/publish", "POST", message)

    with open(os.path.join(HERE, "../prometheus/metad2a.rules.yml")) as file:
        used = set(re.findall(r"rabbitmq_[a-z_]+", "".join(line for line in file if not line.lstrip().startswith("#"))))

    def shown():
        text = ask(metrics, "/metrics/per-object")
        # A queue is shown once its own numbers have come in.
        return text if f'rabbitmq_queue_messages_ready{{vhost="/",queue="{LANE}"}} 3' in text else None

    text = wait_for(broker, f"the metrics show the tasks in {LANE}", shown)
    names = set(re.findall(r"(?m)^(rabbitmq_[a-z_]+)", text))
    missing = used - names - ONLY_NEWER
    if missing:
        sys.exit(f"the rules use metrics that the broker does not show: {', '.join(sorted(missing))}")
    plain = ask(metrics, "/metrics")
    if f'queue="{LANE}"' not in plain:
        sys.exit("/metrics names no queues: prometheus.return_per_object_metrics is without effect")

    # As KEDA's scaler asks with `useRegex`; the pattern is the chart's, which infra/checks/chart.py tries too.
    pattern = urllib.parse.quote(r"^metad2a\.nightly\.v[0-9]+\.", safe="")
    question = f"/api/queues/%2F?page=1&use_regex=true&pagination=false&name={pattern}&page_size=100"

    def counted():
        items = json.loads(ask(management, question))["items"]
        return items if all("messages" in item for item in items) else None

    items = wait_for(broker, "the management plugin counts messages", counted)
    if [item["name"] for item in items] != [LANE] or items[0]["messages"] != 3:
        sys.exit(f"KEDA would count {[(item['name'], item['messages']) for item in items]}, not 3 tasks in {LANE}")
    version = json.loads(ask(management, "/api/overview"))["rabbitmq_version"]
    print(f"broker: RabbitMQ {version} took the configuration; {len(used - ONLY_NEWER)} metrics of the rules are there, "
          f"{len(ONLY_NEWER)} only in newer versions; KEDA counts the lanes alone")


def main():
    if not os.access(f"{PROGRAMS}/rabbitmq-server", os.X_OK):
        sys.exit("RabbitMQ is missing: apt-get install --no-install-recommends rabbitmq-server (nothing is started by it here)")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        broker = start(folder, port)
        try:
            check(broker, port)
        except Exception as error:
            with open(f"{folder}/out") as file:
                print("".join(file.readlines()[-60:]), file=sys.stderr)
            sys.exit(f"broker: {error}")
        finally:
            # The data is thrown away, so it need not shut down in order.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(broker.pid, signal.SIGKILL)
            broker.wait()
            for _ in range(50):
                # The port mapper refuses to end before it has noticed that its node is gone.
                if subprocess.run(["epmd", "-port", str(port + 10000), "-kill"], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)


main()
