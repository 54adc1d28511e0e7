"""Runs the Python blocks of docs/COOKBOOK.md. Reads a JSON list of them, the first of which makes the frames that the
others use, and writes the rows of each other's `answer`, or why there are none."""

import datetime
import json
import sys
import traceback


def plain(value):
    """As JSON: times as ISO 8601."""
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


def answer_of(block, frames):
    names = dict(frames)
    try:
        exec(block, names)
        return {"rows": names["answer"].to_dicts()}
    except Exception:
        return {"error": traceback.format_exc(limit=-2)}


first, *blocks = json.load(sys.stdin)
frames = {}
exec(first, frames)
json.dump([answer_of(block, frames) for block in blocks], sys.stdout, default=plain)
