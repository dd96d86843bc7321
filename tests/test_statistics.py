"""Summaries over tasks: by hand, by SciPy, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from helpers.analysis.statistics import (
    Interval,
    difference_interval,
    improvement_interval,
    iqm_interval,
    mean_interval,
    performance_profile,
    side,
    success_interval,
)


def draws(tasks, seeds, rng, shift=0.0):
    return {f"task {i}": 10.0 * i + shift + rng.normal(size=seeds) for i in range(tasks)}


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    scores = {"a": np.array([0.0, 1.0, 2.0, 3.0]), "b": np.array([4.0, 5.0, 6.0, 1000.0])}
    assert iqm_interval(scores).score == np.mean([2, 3, 4, 5])
    # One outstanding run does not carry it.
    tame = {**scores, "b": np.array([4.0, 5.0, 6.0, 7.0])}
    assert iqm_interval(tame).score == iqm_interval(scores).score


def test_tasks_are_not_redrawn():
    """Runs that agree within each task leave nothing uncertain, however far the tasks lie apart."""
    interval = iqm_interval({"a": np.full(3, 1.0), "b": np.full(3, 50.0)})
    assert interval.low == interval.score == interval.high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Five seeds on four tasks; a percentile bootstrap of so few is known to be a little narrow."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(150):
        interval = iqm_interval(draws(4, 5, rng))
        hits += interval.low <= 15.0 <= interval.high
    assert 0.8 <= hits / 150 <= 0.99


def test_the_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(1)
    ours, theirs = draws(2, 6, rng, 0.5), draws(2, 4, rng)
    expected = np.mean([stats.mannwhitneyu(ours[t], theirs[t]).statistic / (6 * 4) for t in ours])
    interval = improvement_interval(ours, theirs)
    assert interval.score == pytest.approx(expected)
    assert interval.low <= interval.score <= interval.high
    assert improvement_interval(ours, ours).score == 0.5
    certain = improvement_interval({"a": np.ones(3)}, {"a": np.zeros(3)})
    assert (certain.low, certain.score, certain.high) == (1, 1, 1)


def test_a_profile_falls_from_one_to_zero_and_weighs_tasks_alike():
    scores = {"a": np.array([1.0, 1.0]), "b": np.array([3.0, 3.0, 3.0, 5.0])}
    profile = performance_profile(scores, np.array([0.0, 1.0, 2.0, 4.0, 9.0]))
    assert [p.score for p in profile] == [1.0, 0.5, 0.5, 0.125, 0.0]
    assert all(p.low <= p.score <= p.high for p in profile)


def test_what_cannot_be_compared_is_refused():
    runs = np.ones(2)
    with pytest.raises(ValueError, match=r"same tasks: \['a'\] and \['b'\]"):
        improvement_interval({"a": runs}, {"b": runs})
    with pytest.raises(ValueError, match=r"no runs of \['b'\]"):
        iqm_interval({"a": runs, "b": np.zeros(0)})
    with pytest.raises(ValueError, match="no task"):
        performance_profile({}, runs)


def test_episodes_of_one_model_are_not_evidence_about_the_method():
    rng = np.random.default_rng(2)
    seeds = rng.normal(size=(4, 1))
    one = mean_interval(seeds + 0.01 * rng.normal(size=(4, 200)))
    assert one.high - one.low > 0.5


def test_a_difference_resamples_both_methods_on_their_own():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(5.0, size=(3, 40)), rng.normal(3.0, size=(2, 20))
    interval = difference_interval(ours, theirs)
    assert interval.score == pytest.approx(ours.mean() - theirs.mean())
    assert interval.low < interval.score < interval.high
    # Seed 0 of both happens to be lucky: were they resampled together, nothing would be uncertain.
    luck = np.array([[1.0], [0.0]]) * np.ones((2, 5))
    together = difference_interval(luck, luck)
    assert together.score == 0 and together.low == -1.0 and together.high == 1.0


def test_differences_cover_the_truth_about_as_often_as_they_say():
    """Six models against four of another method, whose episodes vary as much as models do."""
    rng, hits = np.random.default_rng(4), 0
    for _ in range(100):
        ours = rng.normal(size=(6, 1)) + rng.normal(size=(6, 30))
        theirs = rng.normal(size=(4, 1)) + rng.normal(size=(4, 30))
        interval = difference_interval(ours, theirs)
        hits += interval.low <= 0.0 <= interval.high
    assert 0.8 <= hits / 100 <= 1.0


def test_an_interval_is_written_by_one_format():
    found = Interval(41.46, -0.04, 4300.0)
    assert f"{found:z.1f}" == "41.5 (0.0 to 4300.0)"
    assert f"{found:+,.0f}" == "+41 (-0 to +4,300)"
    assert f"{found}" == str(found) == "41 (-0 to 4,300)"


def test_an_interval_takes_sides_as_a_whole():
    assert [side(Interval(2.0, 1.0, 3.0), zero) for zero in (0.5, 1.0, 2.0, 3.0, 3.5)] == [
        1,
        0,
        0,
        0,
        -1,
    ]


def test_an_interval_in_another_unit():
    interval = Interval(2.0, 1.0, 4.0)
    assert interval.scaled(100) == Interval(200.0, 100.0, 400.0)
    assert interval.scaled(-1) == Interval(-2.0, -4.0, -1.0)


@pytest.mark.parametrize(("seeds", "episodes"), [(1, 50), (2, 25), (1, 200), (1, 1)])
def test_episodes_that_agree_have_the_exact_binomial_bounds(seeds, episodes):
    """None of n: a chance of success p is refuted at 2.5 % where (1 - p)^n is below that."""
    never = success_interval(np.zeros((seeds, episodes)))
    bound = 100 * (1 - 0.025 ** (1 / (seeds * episodes)))
    assert (never.score, never.low, never.high) == pytest.approx((0, 0, bound))
    always = success_interval(np.full((seeds, episodes), 100.0))
    assert (always.score, always.low, always.high) == pytest.approx((100, 100 - bound, 100))
    share = success_interval(np.ones((seeds, episodes)), full=1.0)
    assert share.low == pytest.approx(1 - bound / 100)


def test_other_successes_have_the_bootstrap():
    values = 100.0 * (np.random.default_rng(5).random((2, 40)) < 0.9)
    assert success_interval(values) == mean_interval(values)
    with pytest.raises(ValueError, match="a success is 100 and a failure 0; found .*1"):
        success_interval(np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match="a success is 1 "):
        success_interval(np.zeros((1, 0)), full=1.0)
