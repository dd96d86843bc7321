"""Exercises of chapter 10: shares that are kept, what a return says of a bet, what asking earns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from helpers.exercises.compare import Numbers, compare, passed

WIN = 0.25
"""Gamble: a bet pays 5 with this probability and costs 3 otherwise; a safe round pays 1."""


def check_kept_share(kept_share: Callable[..., Numbers]) -> None:
    """Chapter 10: share of the return that is kept, from (changed, own), models x episodes."""
    changed = np.array([[4000.0, 3000.0], [2000.0, 400.0]])
    own = np.array([[5000.0, 4800.0], [4000.0, 200.0]])
    share = changed.mean() / own.mean()
    compare(
        kept_share(changed.copy(), own.copy()),
        share,
        {
            "a mean of ratios is ruled by a single bad partner; divide the means": (
                np.mean(changed / own)
            ),
            "this averages the ratios of models; divide the means over all episodes": (
                np.mean(changed.mean(axis=1) / own.mean(axis=1))
            ),
            "this is the share that is lost": 1 - share,
            "this is in percent; return a share": 100 * share,
            "the wrong way round: divide by the return of the old world": 1 / share,
            "this is a difference; divide": changed.mean() - own.mean(),
        },
        what="share kept",
    )
    passed("share kept")


def check_bet_chance(bet_chance: Callable[..., Numbers]) -> None:
    """Chapter 10: how often the first round was a bet, from (asked, rounds)."""
    cases = ((5, 5), (9, 5), (-8, 4), (2, 2), (3, 3))

    def over_cases(
        event: Callable[[tuple[int, ...]], bool] = lambda bets: bets[0] == 1,
        *,
        win: float = WIN,
        matches: Callable[[int, int], bool] = lambda total, asked: total == asked,
        given: bool = True,
    ) -> list[float]:
        found = []
        for asked, rounds in cases:
            plays = [(p, bets) for p, bets, t in _plays(rounds, win) if matches(t, asked)]
            both = math.fsum(p for p, bets in plays if event(bets))
            found.append(both / math.fsum(p for p, _ in plays) if given else both)
        return found

    right = np.array(over_cases())
    compare(
        [bet_chance(*case) for case in cases],
        right,
        {
            "a bet does not win as often as it loses; its probability is 1/4": over_cases(win=0.5),
            "this is the probability of the bet and the return; divide by that of the return": (
                over_cases(given=False)
            ),
            "this is the probability of the return after a bet; turn it round, by Bayes": [
                2 * both for both in over_cases(given=False)
            ],
            "this counts episodes with a bet in any round; look at the first": over_cases(any),
            "these episodes returned at least what is asked; take those that returned just that": (
                over_cases(matches=lambda total, asked: total >= asked)
            ),
            "this is the chance that the first round was safe": 1 - right,
        },
        what="chance of a bet",
    )
    passed("chance of a bet")


def _plays(rounds: int, win: float) -> Iterator[tuple[float, tuple[int, ...], int]]:
    """Probability, bets and return of every way in which that many random rounds can go."""
    ways = ((0.5, 0, 1), (0.5 * win, 1, 5), (0.5 * (1 - win), 1, -3))
    for way in itertools.product(ways, repeat=rounds):
        chances, bets, rewards = zip(*way, strict=True)
        yield math.prod(chances), bets, sum(rewards)


def check_earned(earned: Callable[..., Numbers]) -> None:
    """Chapter 10: what asking earns, from (asked, rounds, chance), with chance(still, left)."""

    def chance(still: float | int, left: int) -> float:
        return min(1.0, 0.1 * left + 0.4 * (still > left))

    def expected(
        still: float | int,
        left: int,
        *,
        win: float = WIN,
        lower: float = 1.0,
        fixed: bool = False,
        certain: bool = False,
    ) -> float:
        if left == 0:
            return 0.0
        bet = chance(still, 3 if fixed else left)
        bet = float(bet >= 0.5) if certain else bet
        total = 0.0
        for p, reward in ((1 - bet, 1), (bet * win, 5), (bet * (1 - win), -3)):
            options = {"win": win, "lower": lower, "fixed": fixed, "certain": certain}
            total += p * (reward + expected(still - lower * reward, left - 1, **options))
        return total

    cases = ((5, 3), (2, 3))
    wrong = {
        "what is asked has to be lowered by every reward": {"lower": 0.0},
        "lower what is asked by the reward; you raise it": {"lower": -1.0},
        "a bet wins with probability 1/4": {"win": 0.5},
        "the rounds that are left go down by one each time": {"fixed": True},
        "the bet is drawn with its probability, not taken when it is the likelier": {
            "certain": True
        },
    }
    first = [1 - 2 * chance(asked, rounds) for asked, rounds in cases]
    slips = {hint: [expected(*case, **how) for case in cases] for hint, how in wrong.items()}
    slips["this is the first round alone"] = first
    slips["later rounds are decided anew, for what is then still asked"] = [
        rounds * one for (_, rounds), one in zip(cases, first, strict=True)
    ]
    got = [earned(asked, rounds, chance) for asked, rounds in cases]
    compare(got, [expected(*case) for case in cases], slips, what="what asking earns")
    passed("what asking earns")
