"""Trains the gate's cells with recipes, keeps the rows, and reports what the signal is worth: see gate.sh beside it."""

import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tomllib

from pyarrow import parquet

import gate_statistics as gate

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = ROOT / "docs/benchmarks/gate.json"
CELLS = 60
SLOTS = 2
HEADING = (
    "| recipe | s a cell | min in all | Spearman of −`fit_loss` | gate | second seed | both "
    "| reliability of loss, accuracy | Spearman of `valid_accuracy` | skips, 3x3 |"
)
# The only accuracies that are read: tables of other datasets stay untouched.
TRUTH = "imagenet16_120_test_acc_200"
# Recipes whose signals are one signal together: the mean of their ranks.
JOINT = ("20x25-120", "5x100-120")
COLUMNS = ("arch_index", "seed", "fit_loss", "valid_accuracy", "train_seconds")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--programs", required=True, help="folder of metad2a and metad2a-worker")
    arguments.add_argument("--weights", required=True, help="the extractor's safetensors file")
    arguments.add_argument("--draw", type=int, default=1, help="seed that draws cells and classes")
    arguments.add_argument("--seeds", type=int, default=2, help="trainings of each cell")
    arguments.add_argument("pictures", type=pathlib.Path)
    arguments.add_argument("cells", type=pathlib.Path)
    arguments.add_argument("recipes", nargs="*")
    options = arguments.parse_args()
    for path in (options.pictures, options.cells):
        if not path.is_file():
            sys.exit(f"`{path}` is no file")
    known = tomllib.loads((HERE / "gate-recipes.toml").read_text())
    for name in options.recipes:
        if name not in known:
            sys.exit(f"no recipe is named `{name}`; gate-recipes.toml has `{'`, `'.join(known)}`")
    published = published_cells(options.cells)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    for name in options.recipes or known:
        measure(kept, options, published, name, known[name])
    drawn = [measured for measured in kept if measured["draw"] == options.draw]
    # The cells of a draw are the same whatever the recipe.
    cells = [published[row["arch_index"]] for row in by_seed(drawn[0])[0]]
    print(report(drawn, cells, naswot_scores(cells, options)))


def published_cells(path):
    """What the gate reads of the published table, by the benchmark's index of the cell."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted({"arch_index", "arch", "params_10_classes", TRUTH} - set(reader.fieldnames or ()))
        if missing:
            sys.exit(f"`{path}` has no column `{missing[0]}`")
        return {
            int(row["arch_index"]): {
                "cell": row["arch"],
                "params": int(row["params_10_classes"]),
                "truth": float(row[TRUTH]),
            }
            for row in reader
        }


def measure(kept, options, published, name, recipe):
    """Adds the rows of a recipe, unless they are there."""
    found = next((found for found in kept if (found["recipe"], found["draw"]) == (name, options.draw)), None)
    if found and found["settings"] != recipe:
        sys.exit(f"`{KEPT}` has rows of a recipe `{name}` with other values: give the changed block another name")
    if found and len({row[COLUMNS.index("seed")] for row in found["rows"]}) >= options.seeds:
        return
    rows = train(options, name, recipe)
    check(rows, published, options.seeds)
    kept[:] = [other for other in kept if other is not found]
    fields = [[row[column] for column in COLUMNS] for row in rows]
    kept.append({"recipe": name, "draw": options.draw, "settings": recipe, "columns": COLUMNS, "rows": fields})
    keep(kept)


def keep(kept):
    """Writes everything down, a training a line, whole or not at all."""

    def text(measured):
        head = json.dumps({key: value for key, value in measured.items() if key != "rows"})
        return head[:-1] + ', "rows": [\n' + ",\n".join(map(json.dumps, measured["rows"])) + "\n]}"

    part = KEPT.with_suffix(".json.tmp")
    part.write_text("[\n" + ",\n".join(map(text, kept)) + "\n]\n")
    part.replace(KEPT)


def train(options, name, recipe):
    """Runs the pipeline of a recipe and reads the evaluations that it publishes. An interrupted run goes on."""
    folder = ROOT / f".metad2a/gate/{name}-draw-{options.draw}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "DRAW": options.draw,
        "SEEDS": list(range(options.seeds)),
        "PICTURES": json.dumps(str(options.pictures.resolve())),
        "WEIGHTS": json.dumps(str(pathlib.Path(options.weights).resolve())),
        **{key.upper(): value for key, value in recipe.items()},
    }
    text = (HERE / "gate.yaml").read_text()
    for key, value in values.items():
        text = text.replace(f"<{key}>", str(value))
    file = folder / "gate.yaml"
    file.write_text(text)
    program = f"{options.programs}/metad2a"
    print(f"{name}, draw {options.draw}", file=sys.stderr)
    with (folder / "report.txt").open("w") as out:
        ended = subprocess.run([program, "run", file, "--workers", str(SLOTS)], check=False, stdout=out).returncode
    if ended != 0:
        sys.exit(f"`metad2a run {file}` ended with {ended}; the same command goes on from there")

    def table(of, columns):
        listing = [program, "snapshots", file, "--files-of", of]
        paths = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [row for path in paths for row in parquet.read_table(path, columns=columns).to_pylist()]

    groups = {row["dataset_id"]: row["class_group"] for row in table("datasets", ["dataset_id", "class_group"])}
    rows = table("evaluations", [*COLUMNS, "cell", "dataset_id"])
    rows = [row for row in rows if groups[row["dataset_id"]] == "meta-train"]
    representatives = {row["representative_index"] for row in table("architectures", ["representative_index"])}
    for row in rows:
        if row["arch_index"] not in representatives:
            sys.exit(f"cell {row['arch_index']} was trained and represents no class of cells")
    return sorted(rows, key=lambda row: (row["seed"], row["arch_index"]))


def check(rows, published, seeds):
    """The gate's terms: so many distinct cells, none always zero, each trained with every seed."""
    cells = {row["arch_index"]: row["cell"] for row in rows}
    if len(cells) != CELLS or len(rows) != CELLS * seeds:
        sys.exit(f"the gate asks for {CELLS} cells with {seeds} seeds each, got {len(cells)} cells in {len(rows)} rows")
    for index, cell in cells.items():
        if not gate.live_operations(cell):
            sys.exit(f"the cell `{cell}` is always zero")
        if index not in published or published[index]["cell"] != cell:
            sys.exit(f"the published table must have `{cell}` as its cell {index}")


def naswot_scores(cells, options):
    """The score of every cell, computed once."""
    file = ROOT / f".metad2a/gate/naswot-draw-{options.draw}.json"
    scores = json.loads(file.read_text()) if file.exists() else {}
    missing = [found["cell"] for found in cells if found["cell"] not in scores]
    if missing:
        # Slow to load, and needed only here.
        import naswot

        batch = naswot.pictures(options.pictures)
        scores |= {cell: naswot.score(cell, batch) for cell in missing}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(scores, indent=1))
    return [scores[found["cell"]] for found in cells]


def report(kept, cells, naswot):
    """Tables in Markdown: the cells themselves, then what each recipe says about them."""
    truth = [found["truth"] for found in cells]
    params = [found["params"] for found in cells]
    kinds = counts([found["cell"] for found in cells])
    lines = ["| without training | Spearman | skips, 3x3 |", "|---|---|---|"]
    for label, scores in (("params", params), ("NASWOT", naswot)):
        lines.append(f"| {label} | {ranged(gate.with_interval(scores, truth))} | {signed(scores, kinds)} |")
    lines += [f"| the published accuracies | | {signed(truth, kinds)} |", "", HEADING]
    lines.append("|---" * HEADING.count(" | ") + "|---|")
    gains = ["| recipe | gain over params | over NASWOT | mean rank with NASWOT |", "|---|---|---|---|"]
    for measured in kept:
        seeds = by_seed(measured)
        signals = [gate.signal_of([row["fit_loss"] for row in rows]) for rows in seeds]
        # A diverged training has no accuracy, and ranks last.
        accuracies = [[row["valid_accuracy"] or 0.0 for row in rows] for rows in seeds]
        seconds = [row["train_seconds"] for row in seeds[0]]
        correlation = gate.with_interval(signals[0], truth)
        line = [
            measured["recipe"],
            f"{statistics.mean(seconds):.1f}",
            f"{sum(seconds) / SLOTS / 60:.1f}",
            ranged(correlation),
            "passes" if gate.passes(correlation[0], sum(seconds) / SLOTS) else "fails",
            *repeated(signals, accuracies, truth),
            ranged(gate.with_interval(accuracies[0], truth)),
            signed(signals[0], kinds),
        ]
        lines.append(f"| {' | '.join(line)} |")
        over = [ranged(gate.difference_with_interval(signals[0], other, truth), "+") for other in (params, naswot)]
        both = ranged(gate.with_interval(mean_ranks(signals[0], naswot), truth))
        gains.append(f"| {measured['recipe']} | {over[0]} | {over[1]} | {both} |")
    return "\n".join([*lines, "", *gains, *joint(kept, truth, params, naswot, kinds)])


def joint(kept, truth, params, naswot, kinds):
    """A line for the joint signal, where the draw has all its recipes."""
    parts = [by_seed(measured)[0] for measured in kept if measured["recipe"] in JOINT]
    if len(parts) < len(JOINT):
        return []
    signal = mean_ranks(*(gate.signal_of([row["fit_loss"] for row in rows]) for rows in parts))
    seconds = sum(row["train_seconds"] for rows in parts for row in rows) / SLOTS
    correlation = gate.with_interval(signal, truth)
    line = [
        " and ".join(JOINT),
        f"{seconds * SLOTS / CELLS:.1f}",
        f"{seconds / 60:.1f}",
        ranged(correlation),
        "passes" if gate.passes(correlation[0], seconds) else "fails",
        *(ranged(gate.difference_with_interval(signal, other, truth), "+") for other in (params, naswot)),
        ranged(gate.with_interval(mean_ranks(signal, naswot), truth)),
        signed(signal, kinds),
    ]
    heading = "| joint signal | s a cell | min in all | Spearman | gate | gain over params | over NASWOT | with NASWOT | skips, 3x3 |"
    return ["", heading, "|---" * heading.count(" | ") + "|---|", f"| {' | '.join(line)} |"]


def repeated(signals, accuracies, truth):
    """What a second seed tells: its own correlation, that of both, and how signal and accuracy repeat."""
    if len(signals) < 2:
        return ["–", "–", "–"]
    repeats = [gate.spearman(*values[:2]) for values in (signals, accuracies)]
    return [
        f"{gate.spearman(signals[1], truth):.2f}",
        f"{gate.spearman(mean_ranks(*signals[:2]), truth):.2f}",
        f"{repeats[0]:.2f}, {repeats[1]:.2f}",
    ]


def by_seed(measured):
    """The rows of each seed as dictionaries, in one order of cells."""
    rows = [dict(zip(measured["columns"], row)) for row in measured["rows"]]
    seeds = sorted({row["seed"] for row in rows})
    return [sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["arch_index"]) for seed in seeds]


def mean_ranks(left, right):
    return [(a + b) / 2 for a, b in zip(gate.ranks(left), gate.ranks(right))]


def counts(cells):
    """Live skips and live 3x3 convolutions of each cell."""
    live = [gate.live_operations(cell) for cell in cells]
    return [[names.count(kind) for names in live] for kind in ("skip_connect", "nor_conv_3x3")]


def signed(scores, kinds):
    return ", ".join(f"{gate.spearman(scores, count):+.2f}" for count in kinds)


def ranged(figures, sign=""):
    return f"{figures[0]:{sign}.2f} ({figures[1]:{sign}.2f} to {figures[2]:{sign}.2f})"


if __name__ == "__main__":
    main()
