# shellcheck shell=bash
# Sourced by the experiments: sets `programs` (folder of metad2a and metad2a-worker) and `python` (with
# gate-requirements.txt installed), from PROGRAMS and PYTHON, or made here where they are not set.
programs=${PROGRAMS:-target/release}
if [ "$programs" = target/release ]; then
  scripts/setup.sh >/dev/null
  cargo build --release --locked --quiet -p metad2a-coordinator -p metad2a-worker
fi
scripts/weights/fetch.sh >/dev/null
python=${PYTHON:-}
if [ -z "$python" ]; then
  requirements=scripts/experiments/gate-requirements.txt
  venv=.metad2a/experiments/venv
  python=$venv/bin/python
  if ! cmp --silent "$requirements" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
  fi
fi
