"""Sums up the reports of scripts/bench/never-seen.sh: chosen against random cells, per dataset and over the seeds."""

import json
import math
import statistics
import sys


def interval(differences):
    """Mean and half-width of its 95 % interval (Student's t)."""
    quantiles = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return mean, math.inf
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, quantiles.get(len(differences) - 1, 1.96) * error


def main(paths):
    by_dataset = {}
    print("| seed | dataset | chosen (%) | random (%) | difference | run (s) |")
    print("|---|---|---|---|---|---|")
    for path in paths:
        report = json.load(open(path))
        seed = path.rsplit("-", 1)[1].removesuffix(".json")
        for dataset in report["datasets"]:
            chosen = 100 * dataset["chosen_test_accuracy"]
            random = 100 * dataset["random_test_accuracy"]
            by_dataset.setdefault(dataset["name"], []).append((chosen, random))
            line = f"{chosen:.2f} | {random:.2f} | {chosen - random:+.2f} | {report['seconds']:.0f}"
            print(f"| {seed} | {dataset['name']} | {line} |")
    print()
    for name, pairs in by_dataset.items():
        mean, half = interval([chosen - random for chosen, random in pairs])
        chosen = statistics.mean(chosen for chosen, _ in pairs)
        random = statistics.mean(random for _, random in pairs)
        better = sum(chosen > random for chosen, random in pairs)
        print(
            f"{name}: chosen {chosen:.2f}, random {random:.2f}, difference {mean:+.2f} ± {half:.2f} "
            f"(95 % interval over {len(pairs)} seeds); better in {better} of {len(pairs)}"
        )


main(sorted(sys.argv[1:]))
