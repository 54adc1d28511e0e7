"""Sums up the reports of scripts/bench/shards.sh: rank correlation on held-out datasets by number of shards."""

import json
import re
import statistics
import sys

NAME = re.compile(r"seed-(\d+)-shards-(\d+)-rate-([\d.]+)-momentum-([\d.]+)\.json$")


def row(path):
    seed, shards, rate, momentum = NAME.search(path).groups()
    predictor = next(model for model in json.load(open(path))["models"] if model["model"] == "predictor")
    # Figures of single datasets are left out. A constant prediction ranks nothing, so it has no correlation: 0 here.
    metrics = {name: value for name, value in sorted(predictor["metrics"]) if "." not in name}
    return {
        "seed": int(seed),
        "shards": int(shards),
        "outer_learning_rate": float(rate),
        "outer_momentum": float(momentum),
        "rounds": predictor["rounds"],
        "valid_spearman": 0.0,
        "valid_kendall": 0.0,
        "constant": "valid_spearman" not in metrics,
        **metrics,
    }


def main(paths):
    rows = sorted(map(row, paths), key=lambda row: list(row.values())[:4])
    with open("docs/benchmarks/shards.json", "w") as kept:
        kept.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    groups = {}
    for found in rows:
        key = (found["shards"], found["outer_learning_rate"], found["outer_momentum"])
        groups.setdefault(key, []).append(found["valid_spearman"])
    print("| shards | outer rate | outer momentum | seeds | Spearman on held-out datasets |")
    print("|---|---|---|---|---|")
    for (shards, rate, momentum), values in sorted(groups.items(), key=lambda item: (item[0][2], item[0][0])):
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"| {shards} | {rate} | {momentum} | {len(values)} | {statistics.mean(values):.3f}{spread} |")


main(sys.argv[1:])
