"""Exercises of the first three chapters: updates, episodes, data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from helpers.envs.grids import grid_layout, unpack
from helpers.exercises.compare import Numbers, compare, passed

TdStep = Callable[..., ArrayLike]
"""(weights, features, next_features, reward, discount, step_size, ratio) to new weights."""


def check_td_step(td_step: TdStep) -> None:
    """Chapter 1: one importance-weighted semi-gradient TD(0) step with linear features."""
    weights = np.array([1.0, -2.0, 0.5])
    here, there = np.array([2.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    reward, discount, step_size, ratio = 0.7, 0.9, 0.1, 3.0
    kept = weights.copy()
    result = td_step(weights, here, there, reward, discount, step_size, ratio)
    if not np.array_equal(weights, kept):
        raise AssertionError(
            "TD step: your function changed the weights it was given (`+=` on an array works in "
            "place); compute new ones, `weights + ...`"
        )
    error = reward + discount * kept @ there - kept @ here
    undiscounted = reward + kept @ there - kept @ here
    scale = step_size * ratio
    compare(
        result,
        kept + scale * error * here,
        {
            "you followed the gradient of the target as well. The target is held fixed: only "
            "`features`, not `features - discount * next_features`, multiplies the error": kept
            + scale * error * (here - discount * there),
            "the importance ratio is missing from the update": kept + step_size * error * here,
            "the sign is the wrong way round: the error is target minus prediction and the step "
            "goes along it": kept - scale * error * here,
            "the next value is not discounted": kept + scale * undiscounted * here,
            "the error should multiply the features of the state that was left, not of the next "
            "one": kept + scale * error * there,
            "the step size is missing": kept + ratio * error * here,
        },
        what="TD step",
    )
    passed("TD step")


def check_update_matrix(update_matrix: Callable[..., ArrayLike]) -> None:
    """Chapter 1: M = K D (I - discount P) from (features, state_weights, transitions, discount)."""
    features = np.array([[2.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    state_weights = np.array([0.5, 0.3, 0.2])
    transitions = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.2, 0.8]])
    discount = 0.9
    kernel, diagonal = features @ features.T, np.diag(state_weights)
    change = np.eye(3) - discount * transitions
    result = update_matrix(features, state_weights, transitions, discount)
    compare(
        result,
        kernel @ diagonal @ change,
        {
            "the kernel of the features, `features @ features.T`, is missing": diagonal @ change,
            "`state_weights` belong on the diagonal of a matrix; `*` scaled columns or rows of "
            "the wrong factor": kernel @ change * state_weights,
            "the weights of the states are missing": kernel @ change,
            "the discount is missing": kernel @ diagonal @ (np.eye(3) - transitions),
            "the order of the factors matters: the kernel stands on the left": diagonal
            @ change
            @ kernel,
        },
        what="update matrix",
    )
    passed("update matrix")


def check_conditional_policy(conditional_policy: Callable[..., ArrayLike]) -> None:
    """Chapter 1: action frequencies given a return, from (actions, returns, target, count)."""
    actions = np.array([0, 0, 1, 1, 2, 1, 0])
    returns = np.array([1, 1, 1, 3, 3, 3, 0])
    result = conditional_policy(actions, returns, 3, 4)
    compare(
        result,
        [0.0, 2 / 3, 1 / 3, 0.0],
        {
            "these are counts; divide by their sum": [0.0, 2.0, 1.0, 0.0],
            "you divided by the number of all episodes instead of those with the asked return": [
                0.0,
                2 / 7,
                1 / 7,
                0.0,
            ],
            "this is the frequency over all episodes; keep only those with the asked return": [
                3 / 7,
                3 / 7,
                1 / 7,
                0.0,
            ],
        },
        what="conditional policy",
    )
    at_one = conditional_policy(actions, returns, 1, 4)
    compare(
        at_one,
        [2 / 3, 1 / 3, 0.0, 0.0],
        {
            "you kept every episode with *at least* the asked return; keep those that are equal "
            "to it": [2 / 6, 3 / 6, 1 / 6, 0.0],
        },
        what="conditional policy",
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        unseen = conditional_policy(actions, returns, 9, 4)
    hint = "no episode has the asked return, which gives 0 / 0; fall back to equal probabilities"
    compare(
        unseen,
        np.full(4, 0.25),
        {hint: np.zeros(4), f"{hint} (yours are not numbers)": np.full(4, np.nan)},
        what="conditional policy for an unseen return",
    )
    passed("conditional policy")


def check_best_episodes(best_episodes: Callable[..., ArrayLike]) -> None:
    """Chapter 2: indices of the best fraction of episodes, from (returns, fraction)."""
    returns = np.array([3.0, -1.0, 7.0, 5.0, 0.0])
    compare(
        best_episodes(returns, 0.4),
        [2, 3],
        {
            "these are the worst episodes; argsort puts the smallest first": [1, 4],
            "the best episode comes first": [3, 2],
            "these are the returns themselves, not their indices": [7.0, 5.0],
        },
        what="best episodes",
    )
    one = best_episodes(returns, 0.01)
    compare(one, [2], {}, what="best episodes, when the fraction is less than one episode")
    passed("best episodes")


def check_returns_to_go(returns_to_go: Callable[..., ArrayLike]) -> None:
    """Chapter 2: returns-to-go of episodes laid end to end, from (rewards, lengths)."""
    rewards, lengths = np.array([1.0, 2.0, 3.0, 10.0, 20.0]), np.array([3, 2])
    compare(
        returns_to_go(rewards, lengths),
        [6.0, 5.0, 3.0, 30.0, 20.0],
        {
            "the second episode leaks into the first; sum within each episode": [
                *(36, 35, 33, 30, 20),
            ],
            "this is the return so far; sum what is still to come": [1, 3, 6, 10, 30],
            "the reward of the step itself belongs to the return-to-go": [5, 3, 0, 20, 0],
            "this is the whole return at every step": [6, 6, 6, 30, 30],
        },
        what="returns-to-go",
    )
    passed("returns-to-go")


def check_return_of(return_of: Callable[[float, float, float], Numbers]) -> None:
    """Chapter 2: the return of a normalised score, from (score, low, high)."""
    score, low, high = 30.0, -200.0, 9800.0
    compare(
        return_of(score, low, high),
        low + score / 100 * (high - low),
        {
            "a score is in percent; divide it by 100": low + score * (high - low),
            "a score of 0 is the return of the random policy; add it": score / 100 * (high - low),
            "100 points are the way from random to expert, `high - low`": low + score / 100 * high,
            "a score of 0 is not a return of 0; it is that of the random policy": (
                score / 100 * high
            ),
            "this is the way from a return to its score; solve it for the return": (
                100 * (score - low) / (high - low)
            ),
            "low and high are swapped": high + score / 100 * (low - high),
        },
        what="return of a score",
    )
    passed("return of a score")


def check_target_kind(target_kind: Callable[..., ArrayLike]) -> None:
    """Chapter 3: object and colour at each observation's target, from (packed, layout)."""
    rng = np.random.default_rng(0)
    layout = grid_layout(5, 5)
    packed = rng.integers(11, 30, (3, sum(int(np.prod(s)) for s in layout.values())), np.uint8)
    parts = unpack(packed, layout)  # views, so that what is written here is in `packed`
    parts["target"][:] = [[1, 3], [2, 4], [3, 0]]
    parts["pose"][:, :2] = [[4, 4], [0, 1], [2, 2]]
    rows = np.arange(3)
    x, y = parts["target"].T
    agent_x, agent_y = parts["pose"][:, :2].T
    cells = parts["grid"][rows, x, y]
    compare(
        target_kind(packed, layout),
        cells[:, :2],
        {
            "x and y are swapped; the grid is indexed (x, y), not (row, column)": parts["grid"][
                rows, y, x, :2
            ],
            "this is where the agent stands; `target` says where to look, not `pose`": parts[
                "grid"
            ][rows, agent_x, agent_y, :2],
            "this is colour and state; a cell holds object, colour, state": cells[:, 1:],
            "colour comes before object; a cell holds object, colour, state": cells[:, 1::-1],
            "all targets were looked up in the first grid": parts["grid"][0, x, y, :2],
            "this is the agent's view; `target` counts cells of the whole grid": parts["view"][
                rows, x, y, :2
            ],
        },
        what="target kind",
    )
    passed("target kind")


def check_success_interval(success_interval: Callable[..., ArrayLike]) -> None:
    """Chapter 3: Wilson's 95 % interval of a success rate, from (successes, episodes)."""
    successes, episodes, z = 3, 40, 1.96
    rate = successes / episodes
    around = np.array([-1.0, 1.0])

    def wilson(z: float) -> np.ndarray:
        middle = rate + z**2 / (2 * episodes)
        half = z * np.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2))
        return (middle + half * around) / (1 + z**2 / episodes)

    deviation = np.sqrt(rate * (1 - rate))
    compare(
        success_interval(successes, episodes),
        wilson(z),
        {
            "this is the rate plus and minus 1.96 standard errors, which reaches below 0 for rare "
            "successes; use Wilson's formula": rate + z * deviation / np.sqrt(episodes) * around,
            "one standard error holds 68 %; for 95 % it takes z = 1.96": wilson(1.0),
            "the middle and the half-width are both divided by 1 + z^2 / n": wilson(z)
            * (1 + z**2 / episodes),
            "these are counts; divide by the number of episodes": wilson(z) * episodes,
            "the lower end comes first": wilson(z)[::-1],
            "this is the standard deviation of one episode; that of a rate is smaller by the "
            "root of their number": rate + z * deviation * around,
        },
        what="success interval",
        tolerance=1e-4,  # 1.96 or more digits
    )
    never = np.asarray(success_interval(0, 40), float)
    if not (abs(never[0]) < 1e-9 and never[1] > 0.05):
        raise AssertionError(
            f"success interval: no success in 40 episodes gave {never}; the interval should reach "
            "from 0 to almost 0.09, for a rate that is not 0 can stay unseen"
        )
    passed("success interval")


def check_best_with_prize(best_with_prize: Callable[..., Numbers]) -> None:
    """Chapter 3: best expected return of the five rounds with a prize, from (goal, prize)."""

    def best(goal: float, prize: float, rounds: int = 5, total: float = 0.0) -> float:
        if rounds == 0:
            return prize * float(total >= goal)
        safe = 1 + best(goal, prize, rounds - 1, total + 1)
        bet = sum(
            p * (r + best(goal, prize, rounds - 1, total + r)) for p, r in ((0.25, 5), (0.75, -3))
        )
        return max(safe, bet)

    def fixed(goal: float, prize: float) -> float:
        """Best of the plans that are made before the first round."""
        values = []
        for bets in range(6):
            wins = np.arange(bets + 1)
            chance = scipy.stats.binom.pmf(wins, bets, 0.25)
            totals = 5 - bets + 5 * wins - 3 * (bets - wins)
            values.append(chance @ (totals + prize * (totals >= goal)))
        return max(values)

    goal, prize = 9.0, 100.0
    compare(
        best_with_prize(goal, prize),
        best(goal, prize),
        {
            "this is the return without the prize; pay it where no round is left and the total is "
            "at least the goal": 5.0,
            "you fixed the number of bets beforehand; choose in each round, knowing the total so "
            "far": fixed(goal, prize),
            "the prize is paid only above the goal; a total equal to it is enough": best(
                goal + 1, prize
            ),
            "you played a round too many": best(goal, prize, 6),
            "you played a round too few": best(goal, prize, 4),
            "the prize alone was counted; the rewards of the rounds belong to the return": (
                _best_chance(goal) * prize
            ),
            "you took the better outcome of the bet; it wins with probability 1/4": 25.0 + prize,
        },
        what="best return with a prize",
    )
    compare(best_with_prize(5, 10), 15.0, {}, what="best return, when playing safe wins the prize")
    compare(best_with_prize(9, 0), 5.0, {}, what="best return without a prize")
    passed("best return with a prize")


def _best_chance(goal: float, rounds: int = 5, total: float = 0.0) -> float:
    """Largest probability that five rounds end with `goal` or more."""
    if rounds == 0:
        return float(total >= goal)
    win, lose = (_best_chance(goal, rounds - 1, total + r) for r in (5, -3))
    return max(_best_chance(goal, rounds - 1, total + 1), 0.25 * win + 0.75 * lose)
