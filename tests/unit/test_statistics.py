"""Coverage of confidence and prediction intervals, and rankings that recover planted orders and ties."""

import numpy as np
import pytest

from aebench.results.statistics import confidence_interval, prediction_interval, rank


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_confidence_intervals_cover_the_true_mean(n):
    rng = np.random.default_rng(n)
    intervals = [confidence_interval(rng.normal(10, 2, size=n)) for _ in range(4000)]
    covered = np.mean([interval.low <= 10 <= interval.high for interval in intervals])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_prediction_intervals_cover_one_more_value(n):
    rng = np.random.default_rng(n)
    pairs = [(prediction_interval(rng.normal(10, 2, size=n)), rng.normal(10, 2)) for _ in range(4000)]
    covered = np.mean([interval.low <= value <= interval.high for interval, value in pairs])
    assert 0.93 < covered < 0.97


def test_one_value_has_no_interval():
    assert confidence_interval([3.0]) is None
    assert prediction_interval([3.0]) is None
    assert confidence_interval([3.0, 3.0]).half_width == 0


def simulated(rng, means, seeds, spread):
    """Paired values by model: each seed shifts all models equally, and each value has noise of its own."""
    shift = rng.normal(0, 1, size=seeds)
    return {name: mean + shift + rng.normal(0, spread, size=seeds) for name, mean in means.items()}


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_a_planted_order_is_recovered(higher_is_better):
    rng = np.random.default_rng(1)
    means = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    expected = tuple("dcba" if higher_is_better else "abcd")
    for _ in range(200):
        ranking = rank(simulated(rng, means, 5, 0.02), higher_is_better)
        assert ranking.order == expected
        assert [ranking.place(name) for name in expected] == [1, 2, 3, 4]
        assert ranking.groups() == tuple((name,) for name in expected)


def test_a_planted_tie_is_recovered():
    rng = np.random.default_rng(2)
    means = {"best": 1.0, "tied": 2.0, "twin": 2.0, "last": 3.0}
    right = 0
    for _ in range(200):
        ranking = rank(simulated(rng, means, 5, 0.02), higher_is_better=False)
        right += [set(group) for group in ranking.groups()] == [{"best"}, {"tied", "twin"}, {"last"}]
        assert min(ranking.place("tied"), ranking.place("twin")) == 2
    assert right >= 0.93 * 200


def test_equal_models_rarely_differ_significantly():
    rng = np.random.default_rng(3)
    means = dict.fromkeys("abcdefghi", 1.0)
    alarms = sum(len(rank(simulated(rng, means, 3, 0.1), True).groups()) > 1 for _ in range(400))
    assert alarms / 400 < 0.07  # one or more of 36 pairs


def test_one_seed_shows_no_significant_difference():
    ranking = rank({"a": [1.0], "b": [100.0]}, higher_is_better=False)
    assert ranking.order == ("a", "b")
    assert ranking.groups() == (("a", "b"),)
    assert [ranking.place(name) for name in "ab"] == [1, 1]


def test_differences_without_spread():
    ranking = rank({"a": [1.0, 2.0], "b": [2.0, 3.0], "c": [1.0, 2.0]}, higher_is_better=False)
    assert ranking.groups() == (("a", "c"), ("b",))


def test_values_must_be_paired():
    with pytest.raises(ValueError, match="a value for every seed"):
        rank({"a": [1.0], "b": [1.0, 2.0]}, higher_is_better=True)
