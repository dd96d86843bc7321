"""What the chapter on limits computes: shares that are kept, and what asking for luck earns."""

import numpy as np
import pytest

from helpers.analysis.luck import condition
from helpers.analysis.robustness import (
    Kept,
    kept_by_seed,
    kept_of,
    lead_intervals,
    share_intervals,
)
from helpers.tasks import get_task

RNG = np.random.default_rng(0)
OWN = 5000 + RNG.normal(0, 200, (2, 10))


def kept(*shares, own=OWN):
    """A method that keeps these shares of every episode, in worlds named by number."""
    return Kept(own, {("gravity", float(i)): share * own for i, share in enumerate(shares)})


# --- shares ------------------------------------------------------------------------------------


def test_pairs_take_away_what_episodes_have_in_common():
    """Every episode keeps just half of its own, so that nothing is uncertain."""
    each, mean = share_intervals(kept(0.5, 1.0))
    assert [(x.score, x.low, x.high) for x in each] == [pytest.approx([s] * 3) for s in (0.5, 1.0)]
    assert (mean.score, mean.low, mean.high) == pytest.approx((0.75,) * 3)


def test_a_share_is_a_ratio_of_means():
    own = np.array([[5000.0, 50.0]])
    changed = Kept(own, {("gravity", 2.0): np.array([[2500.0, 5000.0]])})
    assert changed.shares == pytest.approx([7500 / 5050])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Many models, so that the bootstrap over them is not the weak point."""
    hits = []
    for trial in range(100):
        rng = np.random.default_rng(trial)
        models = rng.normal(0.8, 0.05, (12, 1))
        own = rng.normal(1000, 100, (12, 8))
        changed = own * models + rng.normal(0, 50, (12, 8))
        (found,), _ = share_intervals(Kept(own, {("gravity", 2.0): changed}))
        hits.append(found.low <= 0.8 <= found.high)
    assert 0.85 <= np.mean(hits) <= 0.99


def test_partners_are_found_by_seed():
    calm = {0: [10.0, 20.0, 40.0], 1: [30.0, 40.0, 50.0], 2: [1.0, 1.0, 1.0]}
    found = kept_by_seed({1: [15.0, 20.0], 0: [5.0, 10.0]}, calm, ("noise", 0.2))
    assert found.own.tolist() == [[10.0, 20.0], [30.0, 40.0]]
    assert found.shares == pytest.approx([0.5])
    with pytest.raises(ValueError, match=r"no seed of \[3\] among those of \[0, 1, 2\]"):
        kept_by_seed({3: [1.0]}, calm, ("noise", 0.2))


def test_models_that_differ_make_it_uncertain():
    alike = kept(0.8)
    apart = Kept(OWN, {("gravity", 0.0): OWN * np.array([[0.6], [1.0]])})
    width = [i[0][0].high - i[0][0].low for i in (share_intervals(alike), share_intervals(apart))]
    assert width[0] < 1e-9 < 0.3 < width[1]


def test_leads():
    each, mean = lead_intervals(kept(0.9, 0.5), kept(0.8, 0.6))
    assert [x.score for x in each] == pytest.approx([0.1, -0.1])
    assert mean.score == pytest.approx(0.0, abs=1e-12)
    assert each[0].low > 0 > each[1].high
    with pytest.raises(ValueError, match="worlds differ"):
        lead_intervals(kept(0.9), kept(0.9, 0.8))


def test_resampling_follows_the_seed():
    noisy = Kept(OWN, {("gravity", 2.0): OWN * RNG.uniform(0.5, 1.0, OWN.shape)})
    assert share_intervals(noisy, 1) == share_intervals(noisy, 1) != share_intervals(noisy, 2)


def result(returns, shifts):
    return {"returns": returns, "shifts": shifts}


def test_results_become_pairs_of_episodes():
    found = kept_of(
        [
            result([10.0, 20.0, 99.0], {"start": {"10": [1.0, 2.0], "2": [3.0, 4.0]},
                                        "gravity": {"2": [5.0, 6.0]}}),
            result([30.0, 40.0, 99.0], {"gravity": {"2": [7.0, 8.0]},
                                        "start": {"2": [9.0, 1.0], "10": [2.0, 3.0]}}),
        ]
    )  # fmt: skip
    assert found.own.tolist() == [[10, 20], [30, 40]]
    assert list(found.changed) == [("gravity", 2.0), ("start", 2.0), ("start", 10.0)]
    assert found.changed["start", 2.0].tolist() == [[3, 4], [9, 1]]


def test_results_that_do_not_fit_are_refused():
    one = result([1.0], {"gravity": {"2": [1.0]}})
    with pytest.raises(ValueError, match="different ones by seed"):
        kept_of([one, result([1.0], {"gravity": {"3": [1.0]}})])
    with pytest.raises(ValueError, match="without changed worlds"):
        kept_of([result([1.0], {})])
    with pytest.raises(ValueError, match="each episode needs a partner"):
        Kept(np.ones((1, 2)), {("gravity", 2.0): np.ones((1, 3))})


# --- luck --------------------------------------------------------------------------------------

GAMBLE = get_task("gamble").make().unwrapped
KNOWN = condition(GAMBLE.P, GAMBLE.rounds)


def play(rng, episodes):
    """Random choices, rounds by episodes: bets and rewards."""
    bets = rng.integers(2, size=(GAMBLE.rounds, episodes))
    wins = rng.random(bets.shape) < GAMBLE.chance
    return bets, np.where(bets == 1, np.where(wins, 5, -3), 1)


def test_returns_of_random_choices():
    """A sum of five independent rounds: 5 plus 4 for each win, minus 4 for each loss."""
    chances = KNOWN.returns()
    assert sum(chances.values()) == pytest.approx(1)
    assert sum(r * p for r, p in chances.items()) == pytest.approx(0)
    assert chances[25.0] == pytest.approx(0.125**5) and chances[-15.0] == pytest.approx(0.375**5)
    assert sorted(chances) == list(range(-15, 26, 4))


def test_frequencies_are_those_of_many_episodes():
    bets, rewards = play(np.random.default_rng(1), 400_000)
    to_go = rewards[::-1].cumsum(axis=0)[::-1]
    for step, asked in ((0, 5), (0, 9), (2, 3), (4, 1), (4, 5)):
        chosen = bets[step, to_go[step] == asked]
        frequency = KNOWN.actions(step, step, asked)[1]
        assert chosen.mean() == pytest.approx(frequency, abs=0.01), (step, asked)


@pytest.mark.parametrize("likeliest", [True, False])
def test_asking_earns_what_it_earns_in_play(likeliest):
    rng, asked, episodes = np.random.default_rng(2), 9, 4000
    total = 0.0
    for _ in range(episodes):
        still = asked
        for step in range(GAMBLE.rounds):
            chances = KNOWN.actions(step, step, still)
            if likeliest and not np.isclose(*chances):
                bet = chances[1] > 0.5
            else:
                bet = rng.random() < (0.5 if likeliest else chances[1])
            reward = (5 if rng.random() < GAMBLE.chance else -3) if bet else 1
            still, total = still - reward, total + reward
    earned = KNOWN.earned(asked, likeliest=likeliest)
    assert total / episodes == pytest.approx(earned, abs=0.35)


def test_asking_for_the_best_plan_or_for_more():
    """What the chapter says of the exact curves."""
    likeliest = [KNOWN.earned(a, likeliest=True) for a in (5, 9, 13, 17, 21, 25)]
    assert likeliest[0] == pytest.approx(5) and (np.diff(likeliest) < 0).all()
    assert likeliest[-1] == pytest.approx(-5), "nobody gets 25 who does not bet each time"
    drawn = [KNOWN.earned(a, likeliest=False) for a in sorted(KNOWN.returns())]
    assert max(drawn) < 1


def test_a_request_that_nobody_met_is_read_as_the_nearest():
    assert np.array_equal(KNOWN.actions(4, 4, 100), KNOWN.actions(4, 4, 5))
    assert np.array_equal(KNOWN.actions(0, 0, 7), KNOWN.actions(0, 0, 5)), "the lower of two"


def test_a_world_without_chance_delivers_what_is_asked():
    """Two rounds of 0 or 1: the request decides, however actions are chosen."""
    table = {
        t: {a: [(1.0, t + 1, float(a), t == 1)] for a in (0, 1)} for t in (0, 1)
    } | {2: {a: [(1.0, 2, 0.0, True)] for a in (0, 1)}}  # fmt: skip
    known = condition(table, 2)
    for asked in (0, 1, 2):
        assert known.earned(asked, likeliest=True) == pytest.approx(asked)
        assert known.earned(asked, likeliest=False) == pytest.approx(asked)
