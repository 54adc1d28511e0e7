"""What the comparison of precisions computes from figures by cell. Pure, without any package."""

import math
import statistics

# Of Student's distribution with 19 degrees of freedom, for 95 %.
QUANTILE = 2.093
CELLS = 20


def paired(one, other):
    """Mean difference of the cells' means, other less one, and half of its 95 % interval over the cells.

    Both are the figures of each seed by cell, of the same CELLS cells.
    """
    if one.keys() != other.keys():
        raise ValueError("the precisions were trained with different cells")
    if len(one) != CELLS:
        raise ValueError(f"the interval is for {CELLS} cells, got {len(one)}")
    differences = [statistics.mean(other[cell]) - statistics.mean(one[cell]) for cell in one]
    return statistics.mean(differences), QUANTILE * statistics.stdev(differences) / math.sqrt(CELLS)


def noise_of(cells):
    """Standard deviation of a cell's figure over seeds, pooled over the cells."""
    return math.sqrt(statistics.mean(statistics.variance(values) for values in cells.values()))


def passes(mean, half, noise):
    """The declared rule: the interval holds zero, and lies within the noise of one seed on both sides."""
    return abs(mean) <= half and abs(mean) + half < noise
