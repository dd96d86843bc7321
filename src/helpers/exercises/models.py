"""Exercises of chapters 4 to 6: sequences, their models, their planners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helpers.agents import DecisionAgent
from helpers.exercises.compare import Numbers, compare, passed
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.planning.beam import keep_mass


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
    passed("interleaved tokens")


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
    passed("attention mask")


def check_never_satisfied(agent_class: Callable[..., DecisionAgent]) -> None:
    """Chapter 4: an agent whose return-to-go stays at its target, a subclass of DecisionAgent."""
    if not (isinstance(agent_class, type) and issubclass(agent_class, DecisionAgent)):
        raise AssertionError(
            "constant target: hand over the class itself, `class NeverSatisfied(DecisionAgent)`"
        )
    shape = DecisionConfig(observation_size=3, action_size=2, context_length=2, horizon=9, width=8,
                           layers=1)  # fmt: skip
    targets, rewards = np.array([[5.0], [9.0]]), np.array([[1.0, 3.0, 0.5], [2.0, 0.0, 4.0]])
    agent = agent_class(DecisionTransformer(shape), targets[:, 0])
    agent.reset(2)
    for now in rewards.T:
        agent.act(np.zeros((2, 3), np.float32))
        agent.observe(now.copy())
    if agent.step != 3:
        raise AssertionError(
            f"constant target: after three steps, `self.step` is {agent.step}; `observe` must "
            "advance it by one, as the one that it replaces did"
        )
    spent = np.hstack([np.zeros((2, 1)), rewards.cumsum(axis=1)])
    kept = np.repeat(targets, 4, axis=1)
    compare(
        agent.returns_to_go[:, :4].numpy(),
        kept,
        {
            "the return-to-go is lowered by the rewards, as before; copy the column": kept - spent,
            "the columns of later steps are still 0; write the one behind `self.step`": kept
            * np.eye(4)[0],
            "it grows by the rewards; copy the column": kept + spent,
            "all episodes have the target of the first": np.full((2, 4), 5.0),
            "only the last reward is taken off; take off none": kept
            - np.hstack([np.zeros((2, 1)), rewards]),
        },
        what="constant target",
    )
    passed("constant target")


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
    passed("quantile bins")


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
    passed("nucleus")


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
    passed("cached mask")


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
    passed("energy of a plan")


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
    passed("Gibbs iteration")


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
    passed("no left turns")
