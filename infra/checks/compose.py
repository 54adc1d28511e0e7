"""Checks what the compose schema cannot know: that every name that is used is declared, that files are there, that
images are pinned, that no secret stands in the clear, and that our own containers cannot do more than they need.

    compose.py ARGUMENTS-FILE        also appends the command lines of our programs to that file
"""

import json
import os
import re
import sys

import yaml

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../compose")
# Made by make-secrets.sh, so not there in a fresh checkout.
MADE = "secrets/"
PROGRAMS = {"worker": "worker", "coordinator": "coordinator"}

problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


def substituted(text):
    """What compose makes of `${NAME:-default}` where no variable is set."""
    unset = re.findall(r"(?<!\$)\$\{[A-Z0-9_]+\}", text)
    if unset:
        problem("compose", f"{unset} have no default")
    return re.sub(r"(?<!\$)\$\{[A-Z0-9_]+:-([^}]*)\}", r"\1", text)


def load(name):
    with open(os.path.join(FOLDER, name)) as file:
        return yaml.safe_load(substituted(file.read()))


def check_service(where, service, compose):
    for kind in ("secrets", "configs"):
        for entry in service.get(kind, []):
            source = entry if isinstance(entry, str) else entry["source"]
            if source not in compose[kind]:
                problem(where, f"{kind} {source} is not declared")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not os.path.exists(os.path.join(FOLDER, source)):
                problem(where, f"{source} is not there")
        elif source not in compose["volumes"]:
            problem(where, f"volume {source} is not declared")
    for network in service.get("networks", []):
        if network not in compose["networks"]:
            problem(where, f"network {network} is not declared")
    for needed, condition in service.get("depends_on", {}).items():
        other = compose["services"].get(needed, {})
        if condition["condition"] == "service_healthy" and "healthcheck" not in other:
            problem(where, f"waits for the health of {needed}, which has no check")
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            problem(where, f"port {port} is open to other machines")
    if not re.search(r":[\w.-]+$|@sha256:[0-9a-f]{64}$", service["image"]) or service["image"].endswith(":latest"):
        problem(where, f"image {service['image']} is not pinned")
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|SECRET|KEY", name) and not (name.endswith("_FILE") and value.startswith("/run/secrets/")):
            problem(where, f"{name} is no file of secrets")
        if name.endswith("_FILE") and os.path.basename(value) not in service.get("secrets", []):
            problem(where, f"{name} names a secret that it does not get")
    if "build" in service:
        build = service["build"]
        for path in (build["context"], os.path.join(build["context"], build["dockerfile"])):
            if not os.path.exists(os.path.join(FOLDER, path)):
                problem(where, f"{path} is not there")
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"] and "no-new-privileges:true" in service["security_opt"]):
            problem(where, "may do more than it needs")


def main():
    compose = load("compose.yaml")
    for name, service in compose["services"].items():
        check_service(name, service, compose)
    for kind in ("secrets", "configs"):
        for name, entry in compose[kind].items():
            if not entry["file"].startswith(MADE) and not os.path.exists(os.path.join(FOLDER, entry["file"])):
                problem(name, f"{entry['file']} is not there")
    with open(os.path.join(FOLDER, "make-secrets.sh")) as file:
        made = file.read()
    for name, entry in compose["secrets"].items():
        if entry["file"] != MADE + name or name not in made:
            problem(name, "make-secrets.sh does not make it")
    grace = int(compose["services"]["worker"]["stop_grace_period"].removesuffix("s"))
    if grace <= 25 + 10:
        problem("worker", "is killed before it has given its tasks back")
    for name in load("compose.gpu.yaml")["services"]:
        if name not in compose["services"]:
            problem("compose.gpu.yaml", f"{name} is no service of compose.yaml")
    with open(sys.argv[1], "a") as file:
        for service, program in PROGRAMS.items():
            file.write(json.dumps({"program": program, "arguments": compose["services"][service]["command"]}) + "\n")
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"compose: {len(compose['services'])} services")


main()
