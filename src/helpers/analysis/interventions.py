"""Interventions: change what a transformer attends to, or knows, and see what that does.

A picture of attention shows where a model looks, not what the look is good for (Jain and Wallace
2019; Wiegreffe and Pinter 2019). Here attention is taken away, spread evenly, or a layer is given
the features of another episode (activation patching, Vig et al. 2020), while everything else stays.
As agents and planners call the same core, an episode can be played under an intervention:

    with probing(model, Knockout(keys_of_kind(0, 3))):
        rollout(agent, task, seeds)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from helpers.agents import Actions, Agent
from helpers.models.transformer import Probe

Select = Callable[[int], Bool[Tensor, "L L"]]
"""Which keys (columns) are meant for which queries (rows) in a window of L tokens."""


@contextmanager
def probing(model: Any, probe: Probe) -> Iterator[None]:
    """Everything that `model` computes in this block passes `probe`.

    A Trajectory Transformer's planner decodes with code of its own (`models.decoding`), which
    knows no probes; use its option `context` there, or `without_heads`.
    """
    core = model.transformer
    before, core.probe = core.probe, probe
    try:
        yield
    finally:
        core.probe = before


# --- which keys --------------------------------------------------------------------------------


def keys_of_kind(kind: int, tokens_per_step: int, first: int = 0) -> Select:
    """Keys at place `kind` of each step (Decision Transformer: 0 return, 1 state, 2 action).

    Args:
        kind: place within a step.
        tokens_per_step: 3 for Decision Transformer.
        first: tokens in front of the first step (the map of a grid level).
    """
    return lambda length: _keys((torch.arange(length) - first) % tokens_per_step == kind, first)


def keys_further_than(steps: int, tokens_per_step: int, first: int = 0) -> Select:
    """Keys that lie more than `steps` time steps before the query's own; -1 is all of them."""

    def select(length: int) -> Bool[Tensor, "L L"]:
        step = torch.div(torch.arange(length) - first, tokens_per_step, rounding_mode="floor")
        return (step[:, None] - step[None, :] > steps) & (step >= 0)[None, :]

    return select


def later_keys(first: int = 1) -> Select:
    """Keys behind the query, of those from `first` on: the future that LEAP may look at."""

    def select(length: int) -> Bool[Tensor, "L L"]:
        place = torch.arange(length)
        return (place[None, :] > place[:, None]) & (place >= first)[None, :]

    return select


def earlier_keys(first: int = 1) -> Select:
    """Keys before the query, of those from `first` on."""
    later = later_keys(0)
    return lambda length: later(length).T & (torch.arange(length) >= first)


def first_keys(count: int) -> Select:
    """The first `count` keys: LEAP's level, the map of a grid level."""
    return lambda length: (torch.arange(length) < count).expand(length, -1)


def _keys(chosen: Bool[Tensor, " L"], first: int) -> Bool[Tensor, "L L"]:
    chosen[:first] = False
    return chosen.expand(len(chosen), -1)


# --- what is done to them ----------------------------------------------------------------------


class Knockout(Probe):
    """Take attention away from some keys; the other keys of a query share what is freed."""

    def __init__(
        self,
        select: Select,
        *,
        layers: Collection[int] | None = None,
        heads: Collection[int] | None = None,
    ) -> None:
        """Choose.

        Args:
            select: keys to lose attention, by query. A query left with none keeps all.
            layers: where; default everywhere.
            heads: which; default all.
        """
        self.select, self.layers, self.heads = select, layers, heads

    def weights(self, layer: int, weights: Float[Tensor, "B H L L"]) -> Float[Tensor, "B H L L"]:
        """The weights to use."""
        if self.layers is not None and layer not in self.layers:
            return weights
        changed = self.change(weights, self.select(weights.shape[-1]))
        if self.heads is None:
            return changed
        chosen = torch.zeros(weights.shape[1], dtype=torch.bool)
        chosen[list(self.heads)] = True
        return torch.where(chosen[:, None, None], changed, weights)

    def change(
        self, weights: Float[Tensor, "B H L L"], selected: Bool[Tensor, "L L"]
    ) -> Float[Tensor, "B H L L"]:
        """New weights, in rows that sum to 1 again."""
        kept = weights.masked_fill(selected, 0.0)
        total = kept.sum(dim=-1, keepdim=True)
        return torch.where(
            total > 0, kept / total.clamp(min=torch.finfo(total.dtype).tiny), weights
        )


class Even(Knockout):
    """Spread each query's attention to some keys evenly over those of them that it may look at.

    What the query takes from them together stays; which of them it prefers is lost.
    """

    def change(
        self, weights: Float[Tensor, "B H L L"], selected: Bool[Tensor, "L L"]
    ) -> Float[Tensor, "B H L L"]:
        """New weights."""
        meant = selected & (weights > 0)
        share = (weights * meant).sum(-1, keepdim=True) / meant.sum(-1, keepdim=True).clamp(min=1)
        return torch.where(meant, share, weights)


class Silence(Knockout):
    """Heads whose output is nothing at all; their weights need not sum to 1."""

    def __init__(
        self, *, layers: Collection[int] | None = None, heads: Collection[int] | None = None
    ) -> None:
        super().__init__(_everything, layers=layers, heads=heads)

    def change(
        self, weights: Float[Tensor, "B H L L"], selected: Bool[Tensor, "L L"]
    ) -> Float[Tensor, "B H L L"]:
        """Zeros."""
        return torch.zeros_like(weights)


def _everything(length: int) -> Bool[Tensor, "L L"]:
    return torch.ones(length, length, dtype=torch.bool)


def without_heads(model: Any, layer: int, heads: Collection[int]) -> Any:
    """A copy of `model` in which those heads of a layer put nothing out: `Silence` for planners.

    Raises:
        ValueError: the layer has one head only, or lacks one of `heads`.
    """
    attention = model.transformer.blocks[layer].attention
    if attention.heads == 1 or not set(heads) <= set(range(attention.heads)):
        raise ValueError(
            f"layer {layer} has {attention.heads} heads; cannot take out {sorted(heads)}"
        )
    copied = copy.deepcopy(model)
    project = copied.transformer.blocks[layer].attention.project
    with torch.no_grad():
        project.weight.unflatten(1, (attention.heads, -1))[:, list(heads)] = 0.0
    return copied


class Recorder(Probe):
    """Remembers the features that each layer was given, and its attention weights.

    Of the last pass: a planner calls its model many times.
    """

    def __init__(self) -> None:
        self.streams: list[Float[Tensor, "B L D"]] = []
        self.maps: list[Float[Tensor, "B H L L"]] = []
        self.allowed: Bool[Tensor, "#B 1 L L"] | None = None

    def begin(self, allowed: Bool[Tensor, "#B 1 L L"]) -> None:
        """Forget the pass before."""
        self.streams, self.maps, self.allowed = [], [], allowed

    def weights(self, layer: int, weights: Float[Tensor, "B H L L"]) -> Float[Tensor, "B H L L"]:
        """Take down."""
        self.maps.append(weights)
        return weights

    def stream(self, layer: int, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Take down."""
        self.streams.append(x)
        return x


class Patch(Probe):
    """Gives a layer the features that some tokens had in another episode (a `Recorder`'s).

    Raises:
        ValueError: the other episode's window has another shape.
    """

    def __init__(self, donor: Recorder, layer: int, tokens: Bool[Tensor, " L"]) -> None:
        self.donor, self.layer, self.tokens = donor.streams[layer], layer, tokens

    def stream(self, layer: int, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The donor's features in place of the tokens' own."""
        if layer != self.layer:
            return x
        if x.shape != self.donor.shape:
            raise ValueError(
                f"the donor's features have shape {tuple(self.donor.shape)}, these "
                f"{tuple(x.shape)}; record it on a window of the same size"
            )
        return torch.where(self.tokens[:, None], self.donor, x)


# --- in play ----------------------------------------------------------------------------------

INTERVENTIONS: dict[str, dict[str, Callable[[], Probe]]] = {
    "dt": {
        "no returns": lambda: Knockout(keys_of_kind(0, 3)),
        "even returns": lambda: Even(keys_of_kind(0, 3)),
        "no states": lambda: Knockout(keys_of_kind(1, 3)),
        "no actions": lambda: Knockout(keys_of_kind(2, 3)),
        "no past": lambda: Knockout(keys_further_than(0, 3)),
        "last 5 steps": lambda: Knockout(keys_further_than(4, 3)),
        "no attention": lambda: Silence(),
    },
    "leap": {
        "no later actions": lambda: Knockout(later_keys()),
        "no earlier actions": lambda: Knockout(earlier_keys()),
        "no level": lambda: Knockout(first_keys(1)),
        "no attention": lambda: Silence(),
    },
}
"""What a run may do to a method's attention in play (its planner's option `intervention`)."""


class ProbedAgent:
    """An agent that decides under an intervention."""

    def __init__(self, agent: Agent, model: Any, probe: Probe) -> None:
        self.agent, self.model, self.probe = agent, model, probe

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""
        self.agent.reset(n)

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The agent's actions under the intervention."""
        with probing(self.model, self.probe):
            return self.agent.act(observations)

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Pass on."""
        self.agent.observe(rewards)

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Pass on."""
        self.agent.keep(rows)


# --- effects on the action ---------------------------------------------------------------------


def distribution_change(
    before: Float[Tensor, "*n A"], after: Float[Tensor, "*n A"]
) -> Float[Tensor, "*n"]:
    """Total variation distance between the softmaxes of two sets of logits: 0 same, 1 disjoint."""
    return 0.5 * (before.softmax(dim=-1) - after.softmax(dim=-1)).abs().sum(dim=-1)


def action_change(
    before: Float[Tensor, "*n A"], after: Float[Tensor, "*n A"], scale: Float[Tensor, " A"]
) -> Float[Tensor, "*n"]:
    """Root mean square difference of two actions, each entry over its `scale` (say, its std)."""
    return ((before - after) / scale).square().mean(dim=-1).sqrt()
