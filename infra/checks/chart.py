"""Renders the Helm chart for the sets of values in infra/helm/test-values and validates every object.

Kubernetes' own objects by the strict schemas of the oldest and the newest version that the chart allows; KEDA's and
Prometheus's by schemas of our own (infra/checks/schemas), because no registry serves theirs. The pod inside a ScaledJob
is validated as the job that KEDA makes of it. Then come rules that no schema knows, such as that every secret is only
referred to. Lastly, values that must be refused.

With KEDA_CRDS=FOLDER (config/crd/bases of kedacore/keda) KEDA's real definitions are used too.
"""

import copy
import glob
import json
import logging
import os
import re
import sys

import helm_python
import jsonschema
import kubernetes_validate
import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
CHART = os.path.join(HERE, "../helm/metad2a")
SETS = os.path.join(HERE, "../helm/test-values")
SCHEMAS = os.path.join(HERE, "schemas")
VERSIONS = ["1.29", "1.37"]
OWN_SCHEMAS = {"ScaledJob": "scaled-job", "TriggerAuthentication": "trigger-authentication", "PrometheusRule": "prometheus-rule"}
RELEASE = {"name": "metad2a", "namespace": "ml"}

problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


def own_schema(kind):
    with open(os.path.join(SCHEMAS, OWN_SCHEMAS[kind] + ".json")) as file:
        return json.load(file)


def keda_definition(kind):
    """The schema of KEDA itself, where it is at hand. Like the API server, it is made to refuse unknown fields."""
    folder = os.environ.get("KEDA_CRDS")
    if not folder or kind not in ("ScaledJob", "TriggerAuthentication"):
        return None
    with open(os.path.join(folder, f"keda.sh_{kind.lower()}s.yaml")) as file:
        schema = yaml.safe_load(file)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def close(node):
        if isinstance(node, dict):
            if node.get("x-kubernetes-int-or-string"):
                node["type"] = ["integer", "string"]
                node.pop("anyOf", None)
            if "properties" in node and "additionalProperties" not in node:
                node["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
            for value in node.values():
                close(value)
        elif isinstance(node, list):
            for value in node:
                close(value)

    close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def validate_kubernetes(where, thing):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except Exception as error:  # its own errors have no common base
            reason, path = getattr(error, "message", error), getattr(error, "path", ())
            problem(where, f"Kubernetes {version} refuses it: {reason} (at {'/'.join(map(str, path))})")


def validate(where, thing):
    kind = thing["kind"]
    if kind not in OWN_SCHEMAS:
        validate_kubernetes(where, thing)
        return
    for schema in filter(None, [own_schema(kind), keda_definition(kind)]):
        for error in jsonschema.Draft7Validator(schema).iter_errors(thing):
            problem(where, f"at {'/'.join(map(str, error.path))}: {error.message}")
    if kind == "ScaledJob":
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": thing["spec"]["jobTargetRef"]}
        validate_kubernetes(where, job)


def pods(thing):
    """The pod templates of an object."""
    spec = thing.get("spec", {})
    if thing["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    elif thing["kind"] == "ScaledJob":
        yield spec["jobTargetRef"]["template"]
    elif thing["kind"] in ("Deployment", "Job"):
        yield spec["template"]


def check_rules(where, things, values):
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in things}
    if len(names) != len(things):
        problem(where, "two objects have the same kind and name")
    if any(kind == "Secret" for kind, _ in names):
        problem(where, "the chart makes a secret; it may only refer to secrets")
    accounts = {name for kind, name in names if kind == "ServiceAccount"}
    for thing in things:
        at = f"{where}: {thing['kind']} {thing['metadata']['name']}"
        for pod in pods(thing):
            spec, labels = pod["spec"], pod["metadata"]["labels"]
            container = spec["containers"][0]
            component = labels["app.kubernetes.io/component"]
            if spec.get("automountServiceAccountToken") is not False:
                problem(at, "mounts a token of its service account")
            if accounts and spec["serviceAccountName"] not in accounts:
                problem(at, f"service account {spec['serviceAccountName']} is not made")
            if not spec["securityContext"].get("runAsNonRoot") or not container["securityContext"]["readOnlyRootFilesystem"]:
                problem(at, "may run as root or write its root file system")
            if re.search(r":$|:latest$", container["image"]) or not re.search(r"[:@].", container["image"]):
                problem(at, f"image {container['image']} is not pinned")
            volumes = [volume["name"] for volume in spec["volumes"]]
            mounts = [mount["name"] for mount in container.get("volumeMounts") or []]
            if sorted(set(mounts)) != sorted(volumes):
                problem(at, f"volumes {sorted(volumes)} are not the mounted ones {sorted(set(mounts))}")
            environment = [variable["name"] for variable in container["env"]]
            if len(set(environment)) != len(environment):
                problem(at, "a variable is set twice")
            for variable in container["env"]:
                if re.search("PASSWORD$|SECRET|TOKEN", variable["name"]) and "value" in variable:
                    problem(at, f"{variable['name']} stands in the clear")
            if component == "worker":
                if spec["terminationGracePeriodSeconds"] <= 25 + 10:
                    problem(at, "the pod is killed before its worker has given its tasks back")
                card = values["workers"]["gpu"]["resource"]
                if (card in container["resources"].get("limits", {})) != values["workers"]["gpu"]["enabled"]:
                    problem(at, "the card that is asked for and `workers.gpu.enabled` differ")
                leaves = any(argument.startswith("--exit-when-idle=") for argument in container["args"])
                if leaves != (spec["restartPolicy"] == "Never"):
                    problem(at, "a job must leave when idle, and a deployment's worker must not")
        if thing["kind"] == "CronJob":
            if thing["spec"]["concurrencyPolicy"] != "Forbid" or "startingDeadlineSeconds" not in thing["spec"]:
                problem(at, "two runs may overlap, or a missed one is never caught up")
        if thing["kind"] == "ScaledJob":
            check_trigger(at, thing, names, values)


def check_trigger(at, thing, names, values):
    trigger = thing["spec"]["triggers"][0]
    if ("TriggerAuthentication", trigger["authenticationRef"]["name"]) not in names:
        problem(at, "its trigger's credentials are not made")
    if "@" in trigger["metadata"]["host"]:
        problem(at, "credentials stand in the address")
    pattern = re.compile(trigger["metadata"]["queueName"])
    pipeline = values["pipeline"]["name"]
    lanes = [f"metad2a.{pipeline}.v1.e80d91c2.gpu.normal", f"metad2a.{pipeline}.v12.s3.cpu.high"]
    others = [f"metad2a.{pipeline}.{name}" for name in ("dead-letters", "events", "leader", "leader-name")]
    others += [f"metad2a.{pipeline}2.v1.gpu.normal", f"metad2a.other-{pipeline}.v1.gpu.normal", f"x.metad2a.{pipeline}.v1.gpu.normal"]
    for name in lanes:
        if not pattern.search(name):
            problem(at, f"the trigger does not count {name}")
    for name in others:
        if pattern.search(name):
            problem(at, f"the trigger counts {name}")


def merged(below, above):
    result = copy.deepcopy(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def render(chart, values):
    manifests = chart.render(values, **RELEASE)
    texts = [text for path, text in manifests.items() if path.endswith(".yaml")]
    return [thing for text in texts for thing in yaml.safe_load_all(text) if thing]


def main():
    logging.disable(logging.WARNING)
    # A problem in one place must not hide the others, so everything is collected.
    chart = helm_python.Chart.load(CHART)
    arguments = {}
    files = sorted(glob.glob(os.path.join(SETS, "*.yaml")))
    refused = sorted(glob.glob(os.path.join(SETS, "refused/*.yaml")))
    if not files or not refused:
        sys.exit(f"{SETS} holds no sets of values")
    count = 0
    for path in files:
        name = os.path.basename(path)
        with open(path) as file:
            values = yaml.safe_load(file)
        for message in helm_python.lint(CHART, values, strict=True)["messages"]:
            if message["severity"] >= 2:
                problem(name, message["error"])
        try:
            things = render(chart, values)
        except (helm_python.HelmError, yaml.YAMLError) as error:
            problem(name, error)
            continue
        for thing in things:
            validate(f"{name}: {thing['kind']} {thing['metadata']['name']}", thing)
        check_rules(name, things, merged(chart.values, values))
        count += len(things)
        for thing in things:
            for pod in pods(thing):
                container = pod["spec"]["containers"][0]
                arguments.setdefault(json.dumps(container["args"]), container["name"])
    for path in refused:
        with open(path) as file:
            text = file.read()
        expected = re.match(r"# refused: (.+)", text).group(1)
        try:
            render(chart, yaml.safe_load(text))
            problem(os.path.basename(path), "must be refused, and is not")
        except helm_python.HelmError as error:
            if expected not in str(error):
                problem(os.path.basename(path), f"is refused for another reason: {error}")
    if len(sys.argv) > 1:
        # For the check that the programs know these arguments.
        with open(sys.argv[1], "w") as file:
            for line, container in arguments.items():
                file.write(json.dumps({"program": container, "arguments": json.loads(line)}) + "\n")
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        sys.exit(1)
    keda = "KEDA's also by its own definitions" if os.environ.get("KEDA_CRDS") else "KEDA's by schemas of our own"
    print(f"chart: {count} objects of {len(files)} sets of values, {keda}; {len(refused)} sets refused as they must be")


main()
