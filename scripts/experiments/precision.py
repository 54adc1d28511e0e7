"""Trains cells in float32 and in bfloat16 and tells whether their accuracies differ: see precision.sh beside it."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from pyarrow import parquet

import precision_statistics as precisions

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = ROOT / "docs/benchmarks/precision.json"
COLUMNS = ("arch_index", "seed", "valid_accuracy", "fit_loss", "train_seconds")
PRECISIONS = ("float32", "bfloat16")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--programs", required=True, type=pathlib.Path, help="folder of metad2a and metad2a-worker")
    arguments.add_argument("--weights", required=True, type=pathlib.Path, help="the extractor's safetensors file")
    options = arguments.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for precision in PRECISIONS:
        if precision not in kept:
            kept[precision] = train(options, precision)
            keep(kept)
    print(report({precision: kept[precision] for precision in PRECISIONS}))


def keep(kept):
    """Writes everything down, a training a line."""
    parts = [f'"columns": {json.dumps(COLUMNS)}']
    for precision in filter(kept.get, PRECISIONS):
        parts.append(f'"{precision}": [\n' + ",\n".join(map(json.dumps, kept[precision])) + "]")
    KEPT.write_text("{" + ", ".join(parts) + "}\n")


def train(options, precision):
    """The rows of one precision. An interrupted run goes on."""
    folder = ROOT / ".metad2a/precision"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = ROOT / "data/fashion-mnist"
    values = {
        "PRECISION": precision,
        "IMAGES": json.dumps(str(pictures / "t10k-images-idx3-ubyte.gz")),
        "LABELS": json.dumps(str(pictures / "t10k-labels-idx1-ubyte.gz")),
        "WEIGHTS": json.dumps(str(options.weights.resolve())),
    }
    text = (HERE / "precision.yaml").read_text()
    for key, value in values.items():
        text = text.replace(f"<{key}>", value)
    file = folder / f"{precision}.yaml"
    file.write_text(text)
    program = options.programs / "metad2a"
    print(precision, file=sys.stderr)
    with (folder / f"{precision}.txt").open("w") as out:
        subprocess.run([program, "run", file, "--workers", "2"], check=True, stdout=out)

    def table(of, columns):
        listing = [program, "snapshots", file, "--files-of", of]
        paths = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [row for path in paths for row in parquet.read_table(path, columns=columns).to_pylist()]

    groups = {row["dataset_id"]: row["class_group"] for row in table("datasets", ["dataset_id", "class_group"])}
    rows = table("evaluations", [*COLUMNS, "dataset_id"])
    rows = [row for row in rows if groups[row["dataset_id"]] == "meta-train"]
    if len(rows) != 3 * precisions.CELLS:
        sys.exit(f"{precision}: {len(rows)} rows instead of {3 * precisions.CELLS}")
    return [[row[column] for column in COLUMNS] for row in sorted(rows, key=lambda row: (row["arch_index"], row["seed"]))]


def report(kept):
    """A line for accuracy and one for the loss: mean of both, the paired difference, and the noise of seeds."""
    lines = [
        "| figure | float32 | bfloat16 | difference, 95 % interval over cells | standard deviation over seeds | passes |",
        "|---|---|---|---|---|---|",
    ]
    for figure in ("valid_accuracy", "fit_loss"):
        column = COLUMNS.index(figure)
        cells = {precision: by_cell(rows, column) for precision, rows in kept.items()}
        one, other = cells["float32"], cells["bfloat16"]
        mean, half = precisions.paired(one, other)
        noise = precisions.noise_of(one)
        means = [statistics.mean(map(statistics.mean, cells[precision].values())) for precision in PRECISIONS]
        passes = precisions.passes(mean, half, noise)
        lines.append(
            f"| `{figure}` | {means[0]:.4f} | {means[1]:.4f} | {mean:+.4f} ± {half:.4f} | {noise:.4f} "
            f"| {'yes' if passes else 'no'} |"
        )
    return "\n".join(lines)


def by_cell(rows, column):
    """The figure's values over seeds, by cell."""
    cells = {}
    for row in rows:
        cells.setdefault(row[0], []).append(row[column])
    return cells


if __name__ == "__main__":
    main()
