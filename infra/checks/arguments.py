"""Asks our programs whether they know every argument that chart, compose file and units give them: with `--help` at the
end a program reads all of its command line, refuses what it does not know, and does nothing.

    arguments.py ARGUMENTS-FILE FOLDER-OF-PROGRAMS
"""

import glob
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"worker": "metad2a-worker", "coordinator": "metad2a"}


def command_lines(path):
    with open(path) as file:
        for line in file:
            entry = json.loads(line)
            yield NAMES[entry["program"]], entry["arguments"]
    for unit in sorted(glob.glob(os.path.join(HERE, "../systemd/*.service"))):
        with open(unit) as file:
            for line in file:
                if line.startswith("ExecStart="):
                    program, *arguments = line.removeprefix("ExecStart=").replace("%i", "nightly").split()
                    yield os.path.basename(program), arguments


def main():
    listed, folder = sys.argv[1:]
    failed, count = False, 0
    for program, arguments in command_lines(listed):
        path = os.path.join(folder, program)
        if not os.path.exists(path):
            sys.exit(f"{path} is missing: cargo build -p metad2a-coordinator -p metad2a-worker")
        done = subprocess.run([path, *arguments, "--help"], capture_output=True, text=True, timeout=60)
        count += 1
        if done.returncode != 0:
            failed = True
            print(f"{program} {' '.join(arguments)}\n{done.stderr}", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(f"arguments: {count} command lines are understood by the programs")


main()
