"""Every alert is explained to operators in docs/OPERATIONS.md and shown firing by a test; none is that does not exist."""

import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read()


alerts = set(re.findall(r"alert: (\w+)", read("infra/prometheus/metad2a.rules.yml")))
explained = set(re.findall(r"`(MetaD2A\w+)`", read("docs/OPERATIONS.md")))
# A test that expects the alert: `alertname` and, next, an expectation that is not empty.
fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", read("infra/prometheus/metad2a.rules.test.yml")))
problems = [f"{alert} is not explained in docs/OPERATIONS.md" for alert in sorted(alerts - explained)]
problems += [f"docs/OPERATIONS.md explains {alert}, which is no alert" for alert in sorted(explained - alerts)]
problems += [f"no test shows {alert} firing" for alert in sorted(alerts - fired)]
for line in problems:
    print(line, file=sys.stderr)
if problems or not alerts:
    sys.exit(1)
print(f"alerts: {len(alerts)}, each tested and explained")
