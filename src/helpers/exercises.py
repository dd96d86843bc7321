"""The checks that exercises call.

Each check takes the reader's function, runs it on a tiny case, and either returns quietly after
printing one line or raises an AssertionError that names the usual slip behind the wrong answer.
A check lists its slips as the wrong results they lead to, so the message is a diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import scipy.stats
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helpers.envs.grids import grid_layout, unpack
from helpers.planning.beam import keep_mass

TdStep = Callable[..., ArrayLike]
"""(weights, features, next_features, reward, discount, step_size, ratio) to new weights."""


Numbers = ArrayLike | float
"""A float is ArrayLike to type checkers, but not to those that run."""


def compare(
    result: Numbers | tuple | None,
    expected: Numbers,
    slips: Mapping[str, Numbers],
    *,
    what: str,
    tolerance: float = 1e-6,
) -> None:
    """Accept `result` if it equals `expected`; otherwise explain.

    Args:
        result: what the reader's function gave.
        expected: what the reference gives.
        slips: hint to the wrong result that the slip would give.
        what: name of the quantity, for the message.
        tolerance: largest absolute difference.

    Raises:
        AssertionError: with the hint of the slip that fits, or both values when none does.
    """
    if result is None:
        raise AssertionError(f"{what}: your function returned None; did you forget `return`?")
    try:
        got = np.asarray(result, dtype=float)
    except (TypeError, ValueError):
        raise AssertionError(
            f"{what}: your function returned a {type(result).__name__}; return numbers"
        ) from None
    wanted = np.asarray(expected, dtype=float)
    if got.shape != wanted.shape:
        raise AssertionError(f"{what}: the shape is {got.shape}, it should be {wanted.shape}")
    if np.allclose(got, wanted, rtol=0.0, atol=tolerance):
        return
    for hint, wrong in slips.items():
        if np.allclose(
            got, np.asarray(wrong, dtype=float), rtol=0.0, atol=tolerance, equal_nan=True
        ):
            raise AssertionError(f"{what}: {hint}")
    raise AssertionError(
        f"{what}: no usual slip fits.\n  yours:    {np.array2string(got, precision=4)}"
        f"\n  expected: {np.array2string(wanted, precision=4)}"
    )


def _passed(what: str) -> None:
    print(f"{what}: correct")


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
    _passed("TD step")


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
    _passed("update matrix")


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
    _passed("conditional policy")


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
    _passed("best episodes")


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
    _passed("returns-to-go")


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
    _passed("target kind")


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
    _passed("success interval")


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
    _passed("best return with a prize")


def _best_chance(goal: float, rounds: int = 5, total: float = 0.0) -> float:
    """Largest probability that five rounds end with `goal` or more."""
    if rounds == 0:
        return float(total >= goal)
    win, lose = (_best_chance(goal, rounds - 1, total + r) for r in (5, -3))
    return max(_best_chance(goal, rounds - 1, total + 1), 0.25 * win + 0.75 * lose)


def check_interleave(interleave: Callable[..., Tensor]) -> None:
    """Chapter 4: tokens (B, 3 T, D) in the order return-to-go, state, action of every step."""
    kinds = [torch.arange(12.0).view(2, 3, 2) + 100 * kind for kind in range(3)]
    stacked = torch.stack(kinds, dim=2)
    compare(
        interleave(*kinds),
        stacked.flatten(1, 2),
        {
            "all returns come first, then all states, then all actions; the three tokens of a "
            "step belong together: stack behind the time axis": torch.cat(kinds, dim=1),
            "the kinds are in another order; it is return-to-go, state, action": stacked.flip(
                2
            ).flatten(1, 2),
        },
        what="interleaved tokens",
    )
    _passed("interleaved tokens")


def check_allowed(allowed: Callable[[Tensor], Tensor]) -> None:
    """Chapter 4: which tokens each token may attend to, causal and without padding."""
    valid = torch.tensor([False, False, True, True])
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    expected = causal & (valid[None] | torch.eye(4, dtype=torch.bool))
    compare(
        allowed(valid),
        expected,
        {
            "the rows of padded tokens are empty, and the softmax of an empty row is not a "
            "number; let a token always see itself": causal & valid[None],
            "padding is still visible: mask its columns": causal,
            "you masked the rows of padded tokens; it is their columns that must be hidden": causal
            & valid[:, None],
            "tokens see the future: keep the lower triangle": valid[None].expand(4, 4)
            | torch.eye(4, dtype=torch.bool),
            "the triangle is the wrong way round: rows look, columns are looked at": expected.T,
        },
        what="attention mask",
    )
    _passed("attention mask")


def check_quantile_round_trip(quantile_round_trip: Callable[..., tuple]) -> None:
    """Chapter 5: tokens and decoded numbers of quantile bins, from (data, numbers, bins)."""
    data = np.array([0.0, 1.0, 1.5, 2.0, 4.0, 8.0, 9.0, 20.0, 40.0])
    numbers, bins = np.array([-3.0, 0.5, 1.5, 3.0, 9.0, 25.0, 40.0, 100.0]), 4
    edges = np.quantile(data, np.linspace(0, 1, bins + 1))  # 0, 1.5, 4, 9, 40

    def trip(edges: np.ndarray, side: str = "right", shift: int = 1) -> np.ndarray:
        tokens = (np.searchsorted(edges, numbers, side=side) - shift).clip(0, len(edges) - 2)
        return np.stack([tokens, (edges[tokens] + edges[tokens + 1]) / 2])

    expected = trip(edges)
    tokens = expected[0].astype(int)
    unclipped = np.searchsorted(edges, numbers, side="right") - 1
    result = quantile_round_trip(data, numbers, bins)
    if result is None or len(result) != 2:
        raise AssertionError("quantile bins: return two things, tokens and decoded numbers")
    compare(
        result[0],
        expected[0],
        {
            "a number outside the data is in no bin; clip tokens to 0 and bins - 1": unclipped,
            "the last edge ends the last bin: the largest token is bins - 1, not bins": (
                unclipped.clip(0, bins)
            ),
            "these are one too many: `searchsorted` counts the edges at or below a number, and the "
            "first bin begins at the first edge": trip(edges, shift=0)[0],
            "one too many, and not clipped: `searchsorted` counts the edges at or below a number": (
                unclipped + 1
            ),
            'a number on an edge belongs to the bin above; use `side="right"`': trip(edges, "left")[
                0
            ],
            "these bins are equally wide; take quantiles of the data": trip(
                np.linspace(data.min(), data.max(), bins + 1)
            )[0],
            "the bins were fitted on the numbers to encode; fit them on `data`": trip(
                np.quantile(numbers, np.linspace(0, 1, bins + 1))
            )[0],
        },
        what="tokens of quantile bins",
    )
    compare(
        result[1],
        expected[1],
        {
            "this is the lower edge of each bin; decode to its middle": edges[tokens],
            "this is the upper edge of each bin; decode to its middle": edges[tokens + 1],
            "these are the numbers themselves; decoding knows only the tokens": numbers,
        },
        what="decoded numbers of quantile bins",
    )
    _passed("quantile bins")


def check_nucleus(nucleus: Callable[[Tensor, float], Tensor]) -> None:
    """Chapter 5: zero what is outside the nucleus, from (probabilities, mass)."""
    probabilities = torch.tensor([0.15, 0.4, 0.05, 0.3, 0.1])

    def only(*indices: int) -> Tensor:
        kept = torch.zeros(5)
        kept[list(indices)] = probabilities[list(indices)]
        return kept

    result = nucleus(probabilities.clone(), 0.8)
    compare(
        result,
        only(1, 3, 0),
        {
            "the entry that crosses the mass is missing: .40 and .30 hold only 0.7 of 0.8": only(
                1, 3
            ),
            "this is `keep_mass`, which counts from the unlikely end": keep_mass(
                probabilities, 0.8
            ),
            "you kept the least likely entries": only(2, 4, 0, 3),
            "the entries are sorted; put them back in their places": torch.tensor(
                [0.4, 0.3, 0.15, 0.0, 0.0]
            ),
            "leave the kept probabilities as they are; do not divide by their sum": only(1, 3, 0)
            / 0.85,
            "this tells which entries are inside; return their probabilities": only(1, 3, 0) > 0,
            "one entry too many: three hold 0.85 already": only(1, 3, 0, 4),
        },
        what="nucleus",
    )
    kept = int((torch.as_tensor(nucleus(torch.full((4,), 0.25), 0.3)) > 0).sum())
    if kept != 2:
        raise AssertionError(
            f"nucleus: of four equal entries and a mass of 0.3 you kept {kept}; two hold enough, "
            "and any two will do. Count entries; a threshold of probability cannot part equal ones"
        )
    compare(
        nucleus(probabilities.clone(), 0.1),
        only(1),
        {"nothing is left; the likeliest entry is always inside": torch.zeros(5)},
        what="nucleus of a small mass",
    )
    _passed("nucleus")


def check_cached_mask(cached_mask: Callable[[int, int, int], Tensor]) -> None:
    """Chapter 5: what new tokens may see of kept keys, from (cached, new, step_size)."""
    cached, new, size = 4, 3, 3
    everything = torch.ones(new, cached + new, dtype=torch.bool)
    causal = everything.tril(cached)
    values = torch.arange(cached + new) % size == size - 1
    late = torch.cat([torch.zeros(cached), torch.arange(new) % size == size - 1]).bool()
    rows = torch.arange(cached, cached + new) % size == size - 1
    compare(
        cached_mask(cached, new, size),
        causal & ~values,
        {
            "values are visible; hide their columns, those of cached ones too": causal,
            "only new values are hidden; cached ones are hidden as well": causal
            & ~(values & (torch.arange(cached + new) >= cached)),
            "only cached values are hidden; new ones are hidden as well": causal
            & ~(values & (torch.arange(cached + new) < cached)),
            "positions count from the start of the sequence, not of the new part; the wrong "
            "columns are hidden": causal & ~late,
            "the triangle must be shifted by `cached`: a new token sees all cached ones": (
                everything.tril() & ~values
            ),
            "a token may look at itself": everything.tril(cached - 1) & ~values,
            "new tokens see those behind them": everything & ~values,
            "you emptied the rows of values; it is their columns that must be hidden": causal
            & ~rows[:, None],
        },
        what="cached mask",
    )
    one = torch.arange(7) % 3 != 2
    compare(cached_mask(6, 1, 3), one[None], {}, what="cached mask of a single token")
    _passed("cached mask")


def check_plan_energy(plan_energy: Callable[..., Numbers]) -> None:
    """Chapter 6: energy of a plan, from (log_probabilities, plan, end)."""
    table = np.array(
        [[0.2, 0.6, 0.1, 0.1], [0.3, 0.4, 0.1, 0.2], [0.2, 0.3, 0.1, 0.4], [0.1, 0.1, 0.5, 0.3]]
    )
    scores, plan, end = np.log(table), np.array([1, 0, 3, 3]), 3
    chosen = scores[np.arange(4), plan]
    compare(
        plan_energy(scores, plan, end),
        -chosen[:3].sum(),
        {
            "what stands behind the first END is padding and costs nothing": -chosen.sum(),
            "END is paid for like any other word: the sum runs up to the first one, itself "
            "included": -chosen[:2].sum(),
            "the sign is the wrong way round: likely plans have a low energy": chosen[:3].sum(),
            "the energy is a sum over places, not their mean": -chosen[:3].mean(),
            "these are probabilities multiplied; add their negative logarithms": float(
                np.exp(chosen[:3].sum())
            ),
            "you took the likeliest word of each place; take the plan's own": -scores[:3]
            .max(axis=1)
            .sum(),
        },
        what="energy of a plan",
    )
    whole = np.array([1, 0, 2, 2])
    compare(
        plan_energy(scores, whole, end),
        -scores[np.arange(4), whole].sum(),
        {
            "this plan has no END, so all of its places count": -scores[np.arange(3), whole[:3]]
            .sum()
            .item()
        },
        what="energy of a plan without END",
    )
    _passed("energy of a plan")


def check_gibbs_iteration(gibbs_iteration: Callable[..., ArrayLike]) -> None:
    """Chapter 6: (predict, plan, place, mask, temperature, uniform) to a plan with a new word."""
    mask = 3
    places = np.array([[0.0, 1.0, -1.0], [0.5, 0.0, 0.2], [-0.3, 0.4, 0.9]])
    influence = np.array([[1.5, 0.0, -1.0], [-0.5, 1.0, 0.3], [0.2, -0.8, 1.2], [0.0, 0.0, 0.0]])

    def predict(plan: ArrayLike) -> np.ndarray:
        return places + influence[np.asarray(plan, int)].sum(axis=0)

    def drawn(scores: np.ndarray, uniform: float) -> int:
        weights = np.exp(scores - scores.max())
        return int((weights.cumsum() / weights.sum() <= uniform).sum())

    plan = np.array([2, 0, 1])
    cases = [(i, t, u) for i in range(3) for t in (0.4, 2.5) for u in (0.07, 0.3, 0.55, 0.8, 0.95)]

    def replies(choose: Callable[[int, np.ndarray, float, float], int], masked: bool = True):
        rows = []
        for place, temperature, uniform in cases:
            seen, new = plan.copy(), plan.copy()
            seen[place] = mask if masked else plan[place]
            new[place] = choose(place, predict(seen), temperature, uniform)
            rows.append(new)
        return np.stack(rows)

    kept = plan.copy()
    answers = []
    for place, temperature, uniform in cases:
        answers.append(gibbs_iteration(predict, plan, place, mask, temperature, uniform))
        if not np.array_equal(plan, kept):
            raise AssertionError(
                "Gibbs iteration: your function changed the plan it was given; copy it first"
            )
    if any(answer is None for answer in answers):
        raise AssertionError(
            "Gibbs iteration: your function returned None; did you forget `return`?"
        )
    compare(
        np.stack([np.asarray(answer) for answer in answers]),
        replies(lambda i, s, t, u: drawn(s[i] / t, u)),
        {
            "the word was not masked, so the model saw what it should predict": replies(
                lambda i, s, t, u: drawn(s[i] / t, u), masked=False
            ),
            "divide the logits by the temperature; you multiplied": replies(
                lambda i, s, t, u: drawn(s[i] * t, u)
            ),
            "the temperature is missing": replies(lambda i, s, t, u: drawn(s[i], u)),
            "this is the likeliest word, what LEAP's released code writes; draw one": replies(
                lambda i, s, t, u: int(s[i].argmax())
            ),
            "you read the prediction of another place": replies(
                lambda i, s, t, u: drawn(s[0] / t, u)
            ),
            "MASK is left in the plan": replies(lambda i, s, t, u: mask),
        },
        what="Gibbs iteration",
    )
    _passed("Gibbs iteration")


def check_no_left(no_left: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Chapter 6: an energy of 1,000 for each left turn, from (plans, environments)."""
    plans = torch.tensor([[0, 2, 0, 7, 7], [2, 0, 2, 2, 2], [1, 1, 2, 7, 7]])
    turns = torch.tensor([2.0, 1.0, 0.0])
    compare(
        no_left(plans, torch.arange(3)),
        1000 * turns,
        {
            "the sign is the wrong way round: what is forbidden has a high energy": -1000 * turns,
            "these are the left turns; each costs 1,000, or the model outvotes you": turns,
            "each left turn costs 1,000, not each plan that has one": 1000 * (turns > 0),
            "only the first action of each plan counts in yours; look at all of them": 1000
            * (plans[:, 0] == 0),
            "these are right turns: left is action 0": 1000 * (plans == 1).sum(dim=1),
        },
        what="no left turns",
    )
    _passed("no left turns")
