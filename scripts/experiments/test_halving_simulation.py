"""Tests of the simulated halving: python3 -m unittest discover scripts/experiments."""

import unittest

import halving_simulation as halving
from halving_simulation import Plan, Training


def training(cell, losses, fit_loss=None, accuracies=None):
    return Training(cell, losses, accuracies or [None] * len(losses), losses[-1] if fit_loss is None else fit_loss)


# The third starts well and ends badly.
FOUR = [
    training(0, [4.0, 4.0, 4.0, 4.0]),
    training(1, [3.0, 3.0, 3.0, 0.1]),
    training(2, [1.0, 3.5, 3.5, 3.5]),
    training(3, [2.0, 1.0, 1.0, 1.0]),
]


class Stops(unittest.TestCase):
    def test_the_worse_half_stops_at_each_rung(self):
        self.assertEqual(halving.stops(FOUR, Plan((1, 2), 0.5), "train-loss-sum"), [1, 1, 2, None])

    def test_of_equal_ones_the_earlier_goes_on(self):
        same = [training(cell, [1.0, 1.0]) for cell in range(3)]
        self.assertEqual(halving.stops(same, Plan((1,), 0.5), "train-loss-sum"), [None, None, 1])

    def test_one_alone_is_never_stopped_and_shares_are_rounded_up_as_they_are_meant(self):
        self.assertEqual(halving.stops(FOUR[:1], Plan((1,), 0.5), "train-loss-sum"), [None])
        self.assertEqual([halving.kept(0.5, 5), halving.kept(0.07, 100), halving.kept(0.01, 5)], [3, 7, 1])

    def test_more_accuracy_is_better_and_an_epoch_without_one_is_refused(self):
        two = [training(cell, [1.0, 1.0], accuracies=[accuracy, None]) for cell, accuracy in ((0, 0.2), (1, 0.3))]
        self.assertEqual(halving.stops(two, Plan((1,), 0.5), "valid-accuracy"), [1, None])
        with self.assertRaisesRegex(ValueError, "epoch 2 of cell 0"):
            halving.stops(two, Plan((2,), 0.5), "valid-accuracy")


class Scores(unittest.TestCase):
    def test_who_was_stopped_stands_below_whoever_got_farther(self):
        stopped = halving.stops(FOUR, Plan((1, 2), 0.5), "train-loss-sum")
        # The second would have been the best in the end, and stands by its first epoch.
        self.assertEqual(halving.scores(FOUR, stopped, "train-loss-sum"), [0, 1, 2, 3])

    def test_equal_figures_share_a_place(self):
        same = [training(cell, [1.0, 1.0]) for cell in range(2)]
        self.assertEqual(halving.scores(same, [None, None], "train-loss-sum"), [0, 0])


class Cost(unittest.TestCase):
    def test_of_one_bundle_of_all_is_that_of_its_stops(self):
        cost = halving.cost(FOUR, Plan((1, 2), 0.5), "train-loss-sum", 4, truth=[0, 1, 2, 3])
        self.assertEqual((cost.saved, cost.best_kept, cost.truth), (1 - 8 / 16, 0, 1.0))
        # By -fit_loss: the second, the fourth, the third, the first.
        self.assertAlmostEqual(cost.spearman, 1 - 6 * (4 + 1 + 1) / (4 * 15))

    def test_without_stops_is_nothing(self):
        cost = halving.cost(FOUR, Plan((), 0.5), "train-loss-sum", 2)
        self.assertEqual((cost.saved, cost.best_kept, cost.truth), (0, 1, None))
        self.assertAlmostEqual(cost.spearman, 1.0)


if __name__ == "__main__":
    unittest.main()
