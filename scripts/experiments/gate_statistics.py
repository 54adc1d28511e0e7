"""What the gate of recipes computes from numbers and cell strings. Pure, without any package."""

import math
import random

# The edges of a cell in the order of its string: from node, to node. Node 0 is the input, node 3 the output.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
LEAST_SPEARMAN = 0.75
MOST_SECONDS = 15 * 60


def ranks(values):
    """Ranks from 1; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            result[place] = (start + 1 + end) / 2
        start = end
    return result


def spearman(left, right):
    """Rank correlation of two lists of one length; not a number where one of them is constant."""
    if len(left) != len(right):
        raise ValueError(f"lists must be of one length, got {len(left)} and {len(right)}")
    left, right = ranks(left), ranks(right)
    middle = (len(left) + 1) / 2
    spread = math.sqrt(sum((a - middle) ** 2 for a in left) * sum((b - middle) ** 2 for b in right))
    if spread == 0:
        return math.nan
    return sum((a - middle) * (b - middle) for a, b in zip(left, right)) / spread


def interval(statistic, count, resamples=2000, seed=0):
    """95 % percentile-bootstrap interval of `statistic`, a function of a list of places below `count`."""
    stream = random.Random(seed)
    drawn = sorted(statistic(stream.choices(range(count), k=count)) for _ in range(resamples))
    return drawn[math.floor(0.025 * (resamples - 1))], drawn[math.ceil(0.975 * (resamples - 1))]


def with_interval(signal, truth):
    """Spearman of two lists and the ends of its interval over resampled cells."""

    def resampled(places):
        return spearman([signal[place] for place in places], [truth[place] for place in places])

    return (spearman(signal, truth), *interval(resampled, len(truth)))


def difference_with_interval(signal, other, truth):
    """How much better `signal` ranks `truth` than `other` does, and the ends of the paired interval."""

    def gain(places):
        drawn = [[values[place] for place in places] for values in (signal, other, truth)]
        return spearman(drawn[0], drawn[2]) - spearman(drawn[1], drawn[2])

    return (gain(range(len(truth))), *interval(gain, len(truth)))


def signal_of(fit_losses):
    """The declared signal: the less loss the better. A training without a loss diverged, and ranks last."""
    return [-math.inf if loss is None else -loss for loss in fit_losses]


def passes(correlation, seconds):
    """The gate itself, on the point estimate and on the time of one seed of all cells."""
    return correlation >= LEAST_SPEARMAN and seconds <= MOST_SECONDS


def operations(cell):
    """Names of the six operations of a cell string, in the order of EDGES."""
    names = [part.split("~")[0] for node in cell.split("+") for part in node.strip("|").split("|")]
    if len(names) != len(EDGES):
        raise ValueError(f"a cell has six operations, got `{cell}`")
    return names


def live_operations(cell):
    """The operations that lie on a way from the input to the output."""
    edges = [(edge, name) for edge, name in zip(EDGES, operations(cell)) if name != "none"]
    fed, read = {0}, {3}
    for (start, end), _ in sorted(edges, key=lambda found: found[0][0]):
        if start in fed:
            fed.add(end)
    for (start, end), _ in sorted(edges, key=lambda found: -found[0][1]):
        if end in read:
            read.add(start)
    return [name for (start, end), name in edges if start in fed and end in read]
