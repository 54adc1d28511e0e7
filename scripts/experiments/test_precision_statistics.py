"""Tests of the precisions' statistics: python3 -m unittest discover scripts/experiments."""

import unittest

import precision_statistics as precision


def cells(shift=0.0, spread=0.01):
    """Figures of 20 cells with three seeds."""
    return {cell: [cell / 100 + shift + spread * seed for seed in (-1, 0, 1)] for cell in range(20)}


class Paired(unittest.TestCase):
    def test_equal_figures_differ_by_nothing(self):
        self.assertEqual(precision.paired(cells(), cells()), (0.0, 0.0))

    def test_the_interval_is_students_over_the_cells(self):
        other = {cell: [value + (0.01 if cell % 2 else -0.01) for value in of] for cell, of in cells().items()}
        mean, half = precision.paired(cells(), other)
        self.assertAlmostEqual(mean, 0.0)
        # The standard deviation of ten 0.01 and ten -0.01 is 0.01 * sqrt(20 / 19).
        self.assertAlmostEqual(half, 2.093 * 0.01 / 19**0.5)

    def test_other_cells_and_fewer_cells_are_refused(self):
        fewer = {cell: of for cell, of in cells().items() if cell}
        for one, other in ((cells(), fewer), (fewer, fewer)):
            with self.assertRaises(ValueError):
                precision.paired(one, other)


class Verdict(unittest.TestCase):
    def test_noise_is_that_of_seeds_whatever_the_cells(self):
        self.assertAlmostEqual(precision.noise_of(cells(spread=0.02)), 0.02)

    def test_a_difference_that_is_seen_or_could_hide_more_than_noise_fails(self):
        self.assertTrue(precision.passes(0.001, 0.002, 0.005))
        self.assertFalse(precision.passes(0.003, 0.002, 0.05))
        self.assertFalse(precision.passes(-0.001, 0.005, 0.005))


if __name__ == "__main__":
    unittest.main()
