r"""Sums, events and scenarios of joint samples."""

import numpy as np
import pytest

from adapts.forecast.scenarios import aggregate, probability, scenarios

PATHS = np.random.default_rng(0).normal(size=(200, 6, 3))


class TestAggregate:
    def test_weights_of_channels_and_of_cells(self):
        np.testing.assert_allclose(aggregate(PATHS, [1, 0, 2]), PATHS[..., 0] + 2 * PATHS[..., 2])
        cells = np.zeros((6, 3))
        cells[2, 1] = 3
        np.testing.assert_allclose(aggregate(PATHS, cells), 3 * PATHS[:, 2, 1])

    def test_a_function_of_a_path(self):
        np.testing.assert_array_equal(aggregate(PATHS, lambda path: path.sum(1).max()), PATHS.sum(2).max(1))
        assert aggregate(PATHS, lambda path: path.max(0)).shape == (200, 3)

    def test_error(self):
        with pytest.raises(ValueError, match=r"shape \(3,\), one per channel, or \(6, 3\), one per cell, got \(6,\)"):
            aggregate(PATHS, np.ones(6))
        with pytest.raises(ValueError, match=r"one per cell, got 'sum': pass a function of a path"):
            aggregate(PATHS, "sum")


class TestProbability:
    def test_is_the_share_of_paths(self):
        assert probability(PATHS, lambda path: path[0, 0] > 0) == np.mean(PATHS[:, 0, 0] > 0)
        assert probability(PATHS, lambda path: True) == 1.0

    def test_several_events(self):
        np.testing.assert_allclose(probability(PATHS, lambda path: path[-1] > 0), (PATHS[:, -1] > 0).mean(0))

    def test_error(self):
        with pytest.raises(ValueError, match=r"must return true or false for a path, got float64: compare"):
            probability(PATHS, lambda path: path.max())
        with pytest.raises(ValueError, match="probability expects a function of a path, such as .*, got 0.5"):
            probability(PATHS, 0.5)


class TestScenarios:
    def test_clusters_are_found_with_their_weights(self):
        rng = np.random.default_rng(1)
        which = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
        paths = 10.0 * which[:, None, None] + rng.normal(size=(300, 6, 2))
        found = scenarios(paths, 3)
        np.testing.assert_allclose(found.weights, np.bincount(which) / 300)
        np.testing.assert_allclose(found.paths.mean((1, 2)), [0, 10, 20], atol=1)

    def test_each_is_a_sample_and_weights_sum_to_one(self):
        found = scenarios(PATHS, 5)
        assert found.weights.sum() == pytest.approx(1) and (np.diff(found.weights) <= 0).all()
        np.testing.assert_array_equal(found.paths, PATHS[found.members])
        assert len(set(found.members)) == 5

    def test_units_do_not_matter(self):
        scaled = scenarios(PATHS * np.array([1, 100, 0.01]) + 5, 4)
        np.testing.assert_array_equal(scaled.members, scenarios(PATHS, 4).members)

    def test_as_many_as_samples_and_equal_paths(self):
        assert sorted(scenarios(PATHS[:4], 4).members) == [0, 1, 2, 3]
        same = scenarios(np.ones((10, 2, 2)), 3)
        assert same.weights.sum() == pytest.approx(1) and len(set(same.members)) == 3

    def test_one_is_the_medoid(self):
        line = np.array([0.0, 1.0, 2.0, 3.0, 100.0]).reshape(5, 1, 1)
        assert scenarios(line, 1).members.tolist() == [2]

    def test_error(self):
        for k in (2.5, "x", True, None, 201):
            with pytest.raises(ValueError, match=f"k from 1 to 200, the number of samples, got k={k!r}"):
                scenarios(PATHS, k)
        with pytest.raises(ValueError, match="scenarios expects k from 1 to 200, the number of samples, got k=0"):
            scenarios(PATHS, 0)
