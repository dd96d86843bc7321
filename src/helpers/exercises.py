"""The checks that exercises call.

Each check takes the reader's function, runs it on a tiny case, and either returns quietly after
printing one line or raises an AssertionError that names the usual slip behind the wrong answer.
A check lists its slips as the wrong results they lead to, so the message is a diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

TdStep = Callable[..., ArrayLike]
"""(weights, features, next_features, reward, discount, step_size, ratio) to new weights."""


def compare(
    result: ArrayLike | None,
    expected: ArrayLike,
    slips: Mapping[str, ArrayLike],
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


def check_interleave(interleave: Callable[..., Tensor]) -> None:
    """Chapter 3: tokens (B, 3 T, D) in the order return-to-go, state, action of every step."""
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
    """Chapter 3: which tokens each token may attend to, causal and without padding."""
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
