"""What early stopping would have cost: halves the trainings of a gate's recipe after the fact, and reports.

  python scripts/experiments/halving.py --programs target/release .metad2a/gate/20x25-120-draw-1 [FOLDER…]

A FOLDER is one that gate.sh left: its gate.yaml and store. Needs the packages of gate-requirements.txt. With `--cells`,
the published table that gate.sh reads, rankings are compared with ImageNet16-120's accuracies too; no other column is
read. Seed 0 of the cells of the meta-train dataset; bundles are drawn at random, 200 times, seeded.
"""

import argparse
import csv
import pathlib
import subprocess
import sys

from pyarrow import parquet

import gate_statistics as gate
import halving_simulation as halving

# The only published accuracies that are read.
TRUTH = "imagenet16_120_test_acc_200"
BUNDLES = (4, 8, 15, 60)
# Rungs as tenths of the epochs, which are the ones that are validated, and the share that goes on.
PLANS = (((5,), 0.5), ((3,), 0.5), ((2,), 0.5), ((2, 5), 0.5), ((1, 3), 0.5), ((2,), 0.25))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--programs", required=True, help="folder of metad2a")
    arguments.add_argument("--cells", type=pathlib.Path, help="published accuracies, as for gate.sh")
    arguments.add_argument("folders", nargs="+", type=pathlib.Path)
    options = arguments.parse_args()
    for folder in options.folders:
        if not (folder / "gate.yaml").is_file():
            sys.exit(f"`{folder}` has no gate.yaml: name folders that gate.sh left under .metad2a/gate")
    published = published_accuracies(options.cells) if options.cells else None
    for folder in options.folders:
        print(report(folder.name, trainings_of(options.programs, folder), published), end="\n\n")


def published_accuracies(path):
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted({"arch_index", TRUTH} - set(reader.fieldnames or ()))
        if missing:
            sys.exit(f"`{path}` has no column `{missing[0]}`")
        return {int(row["arch_index"]): float(row[TRUTH]) for row in reader}


def trainings_of(programs, folder):
    """The completed trainings of seed 0 on the meta-train dataset, in the order of cells."""

    def table(of, columns):
        listing = [f"{programs}/metad2a", "snapshots", folder / "gate.yaml", "--files-of", of]
        paths = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [row for path in paths for row in parquet.read_table(path, columns=columns).to_pylist()]

    datasets = table("datasets", ["dataset_id", "class_group"])
    groups = {row["dataset_id"]: row["class_group"] for row in datasets}
    columns = ["unit_id", "dataset_id", "arch_index", "seed", "status", "fit_loss", "epochs"]
    units = [row for row in table("evaluations", columns) if (groups[row["dataset_id"]], row["seed"]) == ("meta-train", 0)]
    curves = {}
    for row in table("curves", ["unit_id", "epoch", "train_loss", "valid_accuracy"]):
        curves.setdefault(row["unit_id"], []).append(row)
    trainings = []
    for unit in sorted(units, key=lambda unit: unit["arch_index"]):
        if unit["status"] != "completed":
            print(f"cell {unit['arch_index']} is left out: {unit['status']}", file=sys.stderr)
            continue
        curve = sorted(curves[unit["unit_id"]], key=lambda row: row["epoch"])
        if len(curve) != unit["epochs"]:
            sys.exit(f"cell {unit['arch_index']} of `{folder}` has {len(curve)} of {unit['epochs']} epochs")
        losses = [row["train_loss"] for row in curve]
        accuracies = [row["valid_accuracy"] for row in curve]
        trainings.append(halving.Training(unit["arch_index"], losses, accuracies, unit["fit_loss"]))
    if not trainings:
        sys.exit(f"`{folder}` has no completed training: let gate.sh finish it")
    return trainings


def report(name, trainings, published):
    """A table in Markdown; a cell is saved share, Spearman with the full budget, share of bests kept, and Spearman with
    published accuracies where they are given."""
    epochs = len(trainings[0].losses)
    truth = [published[training.cell] for training in trainings] if published else None
    full = ""
    if truth:
        correlation = gate.spearman([-training.fit_loss for training in trainings], truth)
        full = f"; −`fit_loss` of all epochs against published accuracies: {correlation:.2f}"
    lines = [f"{name}: {len(trainings)} cells, {epochs} epochs{full}", ""]
    bundles = [f"bundles of {bundle}" for bundle in BUNDLES]
    lines += [f"| rungs | keep | by | {' | '.join(bundles)} |", "|---" * (3 + len(BUNDLES)) + "|"]
    for tenths, keep in PLANS:
        rungs = tuple(max(1, epochs * tenth // 10) for tenth in tenths)
        for signal in halving.SIGNALS:
            costs = [halving.cost(trainings, halving.Plan(rungs, keep), signal, bundle, truth) for bundle in BUNDLES]
            cells = " | ".join(map(told, costs))
            lines.append(f"| {', '.join(map(str, rungs))} | {keep} | {signal} | {cells} |")
    return "\n".join(lines)


def told(cost):
    truth = "" if cost.truth is None else f", {cost.truth:.2f}"
    return f"{cost.saved:.0%}, {cost.spearman:.2f}, {cost.best_kept:.0%}{truth}"


if __name__ == "__main__":
    main()
