"""Intervals that cover, ranks that recover what was planted, and nothing claimed from one seed."""

import numpy as np
import pytest

from aebench.results.statistics import interval, rank


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_intervals_cover_the_true_mean(n):
    rng = np.random.default_rng(n)
    intervals = [interval(rng.normal(10, 2, size=n)) for _ in range(4000)]
    covered = np.mean([found.low <= 10 <= found.high for found in intervals])
    assert 0.93 < covered < 0.97


def test_one_value_has_no_interval():
    assert interval([3.0]) is None
    assert interval([3.0, 3.0]).half_width == 0


def simulated(rng, means, seeds, spread):
    """Tables of paired values: every seed shifts all models alike, and each has noise of its own."""
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


def test_models_without_a_difference_are_rarely_told_apart():
    rng = np.random.default_rng(3)
    means = dict.fromkeys("abcdefghi", 1.0)
    alarms = sum(len(rank(simulated(rng, means, 3, 0.1), True).groups()) > 1 for _ in range(400))
    assert alarms / 400 < 0.07  # one or more of 36 pairs


def test_one_seed_tells_nothing_apart():
    ranking = rank({"a": [1.0], "b": [100.0]}, higher_is_better=False)
    assert ranking.order == ("a", "b")
    assert ranking.groups() == (("a", "b"),)
    assert [ranking.place(name) for name in "ab"] == [1, 1]


def test_constant_differences():
    ranking = rank({"a": [1.0, 2.0], "b": [2.0, 3.0], "c": [1.0, 2.0]}, higher_is_better=False)
    assert ranking.groups() == (("a", "c"), ("b",))


def test_values_have_to_be_paired():
    with pytest.raises(ValueError, match="a value for every seed"):
        rank({"a": [1.0], "b": [1.0, 2.0]}, higher_is_better=True)
