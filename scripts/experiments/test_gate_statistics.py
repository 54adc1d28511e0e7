"""Tests of the gate's statistics: python3 -m unittest discover scripts/experiments."""

import math
import random
import unittest

import gate_statistics as gate

CHAIN = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
ZERO = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|none~2|"
SIDE_BRANCH = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


class Ranks(unittest.TestCase):
    def test_equal_values_share_the_mean_of_their_ranks(self):
        self.assertEqual(gate.ranks([3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0])

    def test_an_infinite_value_has_a_rank_like_any_other(self):
        self.assertEqual(gate.ranks([0.5, -math.inf, 0.1]), [3.0, 1.0, 2.0])


class Spearman(unittest.TestCase):
    def test_is_one_for_any_rising_function_and_minus_one_for_a_falling_one(self):
        values = [0.3, 1.2, 5.0, 9.9]
        self.assertAlmostEqual(gate.spearman(values, [math.exp(value) for value in values]), 1.0)
        self.assertAlmostEqual(gate.spearman(values, [-value for value in values]), -1.0)

    def test_equals_the_textbook_formula_without_ties(self):
        left, right = [1, 2, 3, 4, 5], [2, 1, 4, 5, 3]
        squares = sum((a - b) ** 2 for a, b in zip(left, right))
        self.assertAlmostEqual(gate.spearman(left, right), 1 - 6 * squares / (5 * 24))

    def test_ties_give_the_value_of_other_programs(self):
        # scipy.stats.spearmanr([1, 2, 2, 3], [1, 3, 2, 4])
        self.assertAlmostEqual(gate.spearman([1, 2, 2, 3], [1, 3, 2, 4]), 0.9486832980505138)

    def test_a_constant_list_has_no_correlation(self):
        self.assertTrue(math.isnan(gate.spearman([1, 1, 1], [1, 2, 3])))

    def test_lists_of_two_lengths_are_refused(self):
        with self.assertRaisesRegex(ValueError, "one length, got 2 and 3"):
            gate.spearman([1, 2], [1, 2, 3])


class Intervals(unittest.TestCase):
    def setUp(self):
        stream = random.Random(7)
        self.truth = [stream.gauss(0, 1) for _ in range(60)]
        self.near = [value + stream.gauss(0, 0.5) for value in self.truth]
        self.far = [value + stream.gauss(0, 3.0) for value in self.truth]

    def test_an_interval_lies_around_its_estimate_and_repeats(self):
        estimate, low, high = gate.with_interval(self.near, self.truth)
        self.assertTrue(low < estimate < high < 1.0)
        self.assertEqual((estimate, low, high), gate.with_interval(self.near, self.truth))

    def test_the_ends_hold_nineteen_of_twenty_draws(self):
        low, high = gate.interval(lambda places: sum(places) / len(places), 100)
        # The mean of 100 draws from 0..99 has a standard error of 2.89.
        self.assertAlmostEqual(low, 49.5 - 1.96 * 2.89, delta=0.6)
        self.assertAlmostEqual(high, 49.5 + 1.96 * 2.89, delta=0.6)

    def test_a_difference_is_that_of_the_two_correlations_and_is_paired(self):
        gain, low, high = gate.difference_with_interval(self.near, self.far, self.truth)
        self.assertAlmostEqual(gain, gate.spearman(self.near, self.truth) - gate.spearman(self.far, self.truth))
        self.assertTrue(0 < low < gain < high)
        self.assertEqual(gate.difference_with_interval(self.near, self.near, self.truth), (0.0, 0.0, 0.0))


class Gate(unittest.TestCase):
    def test_the_smallest_loss_ranks_first_and_a_diverged_training_last(self):
        self.assertEqual(gate.ranks(gate.signal_of([0.9, None, 0.2])), [2.0, 1.0, 3.0])

    def test_both_marks_belong_to_the_side_that_passes(self):
        self.assertTrue(gate.passes(0.75, 900))
        self.assertFalse(gate.passes(0.7499, 900))
        self.assertFalse(gate.passes(0.75, 900.1))

    def test_without_a_correlation_nothing_passes(self):
        self.assertFalse(gate.passes(math.nan, 1))


class Cells(unittest.TestCase):
    def test_only_operations_between_input_and_output_are_live(self):
        self.assertEqual(gate.live_operations(CHAIN), ["nor_conv_3x3", "skip_connect", "nor_conv_1x1"])
        self.assertEqual(gate.live_operations(SIDE_BRANCH), ["skip_connect"])

    def test_an_always_zero_cell_has_no_live_operation(self):
        self.assertEqual(gate.live_operations(ZERO), [])

    def test_a_string_that_is_no_cell_is_named(self):
        with self.assertRaisesRegex(ValueError, "six operations, got `.none~0.`"):
            gate.live_operations("|none~0|")


if __name__ == "__main__":
    unittest.main()
