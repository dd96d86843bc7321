"""Exercises of the chapter on limits: right answers pass, wrong ones are told why."""

import functools
import itertools

import numpy as np
import pytest

from helpers import exercises
from helpers.analysis.luck import condition
from helpers.tasks import get_task


def kept_share(changed, own):
    return changed.mean() / own.mean()


def plays(rounds, win=0.25):
    ways = [(0.5, 0, 1), (0.5 * win, 1, 5), (0.5 * (1 - win), 1, -3)]
    for way in itertools.product(ways, repeat=rounds):
        yield np.prod([p for p, *_ in way]), way[0][1], sum(r for *_, r in way)


def bet_chance(asked, rounds, win=0.25):
    chosen = [(p, bet) for p, bet, total in plays(rounds, win) if total == asked]
    return sum(p for p, bet in chosen if bet) / sum(p for p, _ in chosen)


def after_bet(asked, rounds):
    """The wrong conditional: of the return, given the bet."""
    return 2 * sum(p for p, bet, total in plays(rounds) if bet and total == asked)


def earned(asked, rounds, chance, lower=1.0, win=0.25):
    if rounds == 0:
        return 0.0
    bet = chance(asked, rounds)
    after = lambda r: r + earned(asked - lower * r, rounds - 1, chance, lower, win)  # noqa: E731
    return (1 - bet) * after(1) + bet * (win * after(5) + (1 - win) * after(-3))


def test_right_answers_pass(capsys):
    exercises.check_kept_share(kept_share)
    exercises.check_bet_chance(bet_chance)
    exercises.check_earned(earned)
    assert capsys.readouterr().out.count("correct") == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c, o: np.mean(c / o), "mean of ratios"),
        (lambda c, o: np.mean(c.mean(axis=1) / o.mean(axis=1)), "ratios of models"),
        (lambda c, o: 1 - kept_share(c, o), "share that is lost"),
        (lambda c, o: 100 * kept_share(c, o), "in percent"),
        (lambda c, o: kept_share(o, c), "wrong way round"),
        (lambda c, o: np.mean(c - o), "difference"),
        (lambda c, o: None, "forget `return`"),
        (lambda c, o: np.median(c) / np.median(o), "no usual slip"),
    ],
)
def test_kept_share_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_kept_share(answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (functools.partial(bet_chance, win=0.5), "does not win as often"),
        (lambda a, n: after_bet(a, n) / 2, "divide by that of the return"),
        (after_bet, "by Bayes"),
        (lambda a, n: 1 - bet_chance(a, n), "first round was safe"),
        (lambda a, n: 0.5, "no usual slip"),
    ],
)
def test_bet_chance_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_bet_chance(answer)


def test_bet_chance_slips_of_the_condition():
    def at_least(asked, rounds):
        chosen = [(p, bet) for p, bet, total in plays(rounds) if total >= asked]
        return sum(p for p, bet in chosen if bet) / sum(p for p, _ in chosen)

    def anywhere(asked, rounds):
        total = sum(p for p, _, t in plays(rounds) if t == asked)
        never = 0.5**rounds if asked == rounds else 0.0  # safe throughout
        return 1 - never / total

    with pytest.raises(AssertionError, match="just that"):
        exercises.check_bet_chance(at_least)
    with pytest.raises(AssertionError, match="in any round"):
        exercises.check_bet_chance(anywhere)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (functools.partial(earned, lower=0.0), "lowered by every reward"),
        (functools.partial(earned, lower=-1.0), "you raise it"),
        (functools.partial(earned, win=0.5), "probability 1/4"),
        (lambda a, n, c: earned(a, n, lambda s, left: c(s, n)), "go down by one"),
        (lambda a, n, c: earned(a, n, lambda s, left: float(c(s, left) >= 0.5)), "is drawn"),
        (lambda a, n, c: 1 - 2 * c(a, n), "first round alone"),
        (lambda a, n, c: n * (1 - 2 * c(a, n)), "decided anew"),
        (lambda a, n, c: float(a), "no usual slip"),
    ],
)
def test_earned_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_earned(answer)


def test_the_exercises_agree_with_the_chapter():
    """Two ways to compute the same: by enumeration, and backwards through the table."""
    gamble = get_task("gamble").make().unwrapped
    known = condition(gamble.P, gamble.rounds)
    for asked in (-11, -3, 5, 9, 21):
        assert known.actions(0, 0, asked)[1] == pytest.approx(bet_chance(asked, 5))
        chance = lambda still, left: known.actions(5 - left, 5 - left, still)[1]  # noqa: E731
        assert known.earned(asked, likeliest=False) == pytest.approx(earned(asked, 5, chance))
