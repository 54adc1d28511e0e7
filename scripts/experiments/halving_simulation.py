"""What halving a bundle would have done to trainings that were carried through. Pure, without any package.

The rules are those of crates/pipeline/src/halving.rs.
"""

import dataclasses
import math
import random
import statistics

import gate_statistics as gate

SIGNALS = ("train-loss-sum", "valid-accuracy")


@dataclasses.dataclass(frozen=True)
class Training:
    """One training that went through all epochs."""

    cell: int
    # One for each epoch.
    losses: list
    # None where an epoch was not validated.
    accuracies: list
    fit_loss: float

    def worth(self, signal, epochs):
        """The figure after so many epochs, the more the better."""
        if signal == "train-loss-sum":
            return -sum(self.losses[:epochs])
        accuracy = self.accuracies[epochs - 1]
        if accuracy is None:
            raise ValueError(f"epoch {epochs} of cell {self.cell} was not validated")
        return accuracy


@dataclasses.dataclass(frozen=True)
class Plan:
    """Epochs after which the worse trainings stop, and the share that goes on."""

    rungs: tuple
    keep: float


def kept(keep, count):
    """How many of so many go on: the share is rounded up, and never to nobody."""
    return min(count, max(1, math.ceil(count * keep - 1e-9)))


def stops(bundle, plan, signal):
    """For each training of a bundle the rung that stops it, None where none does."""
    stopped = [None] * len(bundle)
    racing = list(range(len(bundle)))
    if len(bundle) == 1:
        return stopped
    for rung in plan.rungs:
        # Sorting keeps the order of equal ones.
        best = sorted(racing, key=lambda place: -bundle[place].worth(signal, rung))
        on = set(best[: kept(plan.keep, len(racing))])
        for place in racing:
            if place not in on:
                stopped[place] = rung
        racing = [place for place in racing if place in on]
    return stopped


def scores(trainings, stopped, signal):
    """A ranking of trainings some of which were stopped: by the rung that they reached, then by the signal there; those
    that were not stopped by -fit_loss."""

    def key(training, rung):
        return (math.inf, -training.fit_loss) if rung is None else (rung, training.worth(signal, rung))

    keys = [key(*pair) for pair in zip(trainings, stopped)]
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return [places[key] for key in keys]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Means over bundles drawn at random."""

    # Share of all epochs that were not trained.
    saved: float
    # Rank correlation with -fit_loss of all trainings carried through.
    spearman: float
    # Share of bundles whose best by -fit_loss is carried through.
    best_kept: float
    # Rank correlation with accuracies from elsewhere; None without them.
    truth: float | None


def cost(trainings, plan, signal, bundle, truth=None, draws=200, seed=0):
    """What halving costs and saves in bundles of a size; the last bundle of a draw may be smaller."""
    stream = random.Random(seed)
    epochs = len(trainings[0].losses)
    full = [-training.fit_loss for training in trainings]
    found = {"saved": [], "spearman": [], "best": [], "truth": []}
    for _ in range(draws):
        order = stream.sample(range(len(trainings)), len(trainings))
        stopped = [None] * len(trainings)
        for start in range(0, len(order), bundle):
            places = order[start : start + bundle]
            for place, rung in zip(places, stops([trainings[place] for place in places], plan, signal)):
                stopped[place] = rung
            best = max(places, key=lambda place: full[place])
            found["best"].append(stopped[best] is None)
        trained = sum(epochs if rung is None else rung for rung in stopped)
        found["saved"].append(1 - trained / (epochs * len(trainings)))
        ranking = scores(trainings, stopped, signal)
        found["spearman"].append(gate.spearman(ranking, full))
        if truth:
            found["truth"].append(gate.spearman(ranking, truth))
    mean = {name: statistics.mean(values) if values else None for name, values in found.items()}
    return Cost(mean["saved"], mean["spearman"], mean["best"], mean["truth"])
