"""Attention weights with what each token is, and statistics of them that mean something.

Three rules keep the numbers honest. Only keys that a query *may* look at count: the zeros of a
causal mask are no finding. Everything is relative to a query that spreads its attention evenly,
because a row of a softmax sums to 1 and says by itself only how many keys there are. And every
statistic is also taken of null models: even attention, attention with its keys shuffled, and the
same network before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from helpers.analysis.interventions import Recorder, probing
from helpers.data.episodes import Dataset
from helpers.models.decision import DecisionTransformer
from helpers.models.leap import Leap
from helpers.models.trajectory import TrajectoryTransformer

LEVEL = -1
"""Time step of a token that stands in front of all steps: a grid level with its mission."""


@dataclass(frozen=True)
class AttentionMaps:
    """Exact attention weights of B windows of L tokens, layer by layer, head by head."""

    weights: Float[Tensor, "layers B H L L"]
    """Rows are queries and sum to 1."""
    allowed: Bool[Tensor, "B L L"]
    """Which keys a query may look at."""
    kinds: Int[Tensor, "B L"]
    """What each token is, as a number of `names`."""
    names: tuple[str, ...]
    steps: Int[Tensor, "B L"]
    """Time step of each token within the window, or LEVEL."""

    @property
    def keys(self) -> Int[Tensor, "B L"]:
        """n, keys that each query may look at."""
        return self.allowed.sum(dim=-1)

    def select(self, windows: Sequence[int] | Int[Tensor, " W"]) -> AttentionMaps:
        """The maps of some windows."""
        rows = torch.as_tensor(windows)
        return AttentionMaps(
            self.weights[:, rows],
            self.allowed[rows],
            self.kinds[rows],
            self.names,
            self.steps[rows],
        )


# --- extraction --------------------------------------------------------------------------------


def recorded_windows(
    dataset: Dataset, last: Int[np.ndarray, " B"], steps: int
) -> dict[str, Tensor]:
    """What a Decision Transformer is given of recorded windows that end with the steps `last`.

    Args:
        dataset: recorded episodes.
        last: numbers of steps, counted over the whole dataset.
        steps: T, length of the windows.

    Raises:
        ValueError: a window that begins before its episode.
    """
    time = np.concatenate([np.arange(length) for length in dataset.lengths])
    if (time[last] < steps - 1).any():
        raise ValueError(f"a window of {steps} steps begins before its episode; choose later steps")
    rows = last[:, None] + np.arange(1 - steps, 1)
    inputs = {
        "returns_to_go": dataset.returns_to_go(),
        "observations": dataset.observations,
        "actions": dataset.actions,
    }
    windows = {name: torch.from_numpy(values[rows]).float() for name, values in inputs.items()}
    return {**windows, "timesteps": torch.from_numpy(time[rows])}


def decision_attention(
    model: DecisionTransformer,
    returns_to_go: Float[Tensor, "B T"],
    observations: Real[Tensor, "B T S"],
    actions: Real[Tensor, "B T ..."],
    timesteps: Int[Tensor, "B T"],
    valid: Bool[Tensor, "B T"] | None = None,
) -> AttentionMaps:
    """Attention of a Decision Transformer in windows of T steps; L = 3 T."""
    inputs = (returns_to_go, observations, actions, timesteps, valid)
    batch, steps = returns_to_go.shape
    place = torch.arange(3 * steps)
    return _extract(
        model, inputs, (place % 3).expand(batch, -1), ("return", "state", "action"),
        (place // 3).expand(batch, -1),
    )  # fmt: skip


def trajectory_attention(
    model: TrajectoryTransformer,
    tokens: Int[Tensor, "B P"],
    prefix: Float[Tensor, "B 1 D"] | None = None,
) -> AttentionMaps:
    """Attention of a Trajectory Transformer; L = P, and one more where a level stands in front."""
    batch, length = tokens.shape
    config, place = model.config, torch.arange(length)
    first_action, reward = config.observation_size, config.step_size - 2
    dimension = place % config.step_size
    kinds = sum((dimension >= edge).long() for edge in (first_action, reward, reward + 1))
    steps, names = place // config.step_size, ("state", "action", "reward", "value", "level")
    if prefix is not None:
        kinds = torch.cat([torch.tensor([names.index("level")]), kinds])
        steps = torch.cat([torch.tensor([LEVEL]), steps])
    return _extract(
        model, (tokens, prefix), kinds.expand(batch, -1), names, steps.expand(batch, -1)
    )


def leap_attention(
    model: Leap, states: Float[Tensor, "B D"], plans: Int[Tensor, "B H"]
) -> AttentionMaps:
    """Attention of LEAP among the level and the H words of a plan; L = 1 + H."""
    batch, length = plans.shape
    config = model.config
    words = 1 + (plans == config.end).long() + 2 * (plans == config.mask).long()
    kinds = torch.cat([torch.zeros(batch, 1, dtype=torch.long), words], dim=1)
    steps = torch.arange(-1, length).expand(batch, -1)
    return _extract(model, (states, plans), kinds, ("level", "action", "END", "MASK"), steps)


@torch.inference_mode()
def _extract(
    model: Any,
    inputs: tuple[Any, ...],
    kinds: Int[Tensor, "B L"],
    names: tuple[str, ...],
    steps: Int[Tensor, "B L"],
) -> AttentionMaps:
    recorder = Recorder()
    with probing(model, recorder):
        model(*inputs)
    weights = torch.stack(recorder.maps)
    allowed = recorder.allowed.squeeze(1).expand(weights.shape[1], -1, -1)
    return AttentionMaps(weights, allowed, kinds, names, steps)


# --- null models -------------------------------------------------------------------------------


def uniform(maps: AttentionMaps) -> AttentionMaps:
    """Attention spread evenly over the allowed keys: what shares and distances are measured by."""
    even = maps.allowed / maps.keys[..., None]
    return replace(maps, weights=even[None, :, None].expand_as(maps.weights))


def shuffled(maps: AttentionMaps, seed: int = 0) -> AttentionMaps:
    """Each row's weights dealt out anew among its allowed keys: as peaked, but aimed at nothing."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(maps.weights.shape, generator=generator)
    draws = draws.masked_fill(~maps.allowed[None, :, None], 2.0)
    order = draws.argsort(dim=-1)  # allowed keys first, in random order
    ranked = maps.weights.gather(-1, _allowed_first(maps).expand_as(order))
    return replace(maps, weights=torch.zeros_like(maps.weights).scatter(-1, order, ranked))


def untrained(model: Any, seed: int = 0) -> Any:
    """A model of the same shape and normalisation, as it was before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    for name, value in model.named_buffers():
        fresh.get_buffer(name).copy_(value)
    return fresh.eval()


def _allowed_first(maps: AttentionMaps) -> Int[Tensor, "1 B 1 L L"]:
    return (~maps.allowed).long().argsort(dim=-1, stable=True)[None, :, None]


# --- groupings of (query, key) pairs -----------------------------------------------------------

Groups = Int[Tensor, "B L L"]
"""A number for each pair of query and key; each pair belongs to one group, so shares add up."""


def by_key_kind(maps: AttentionMaps) -> Groups:
    """What the key is: a number of `maps.names`."""
    return maps.kinds[:, None, :].expand_as(maps.allowed)


def by_kinds(maps: AttentionMaps) -> Groups:
    """What query and key are."""
    return maps.kinds[:, :, None] * len(maps.names) + maps.kinds[:, None, :]


def by_key(maps: AttentionMaps) -> Groups:
    """Which key: the stripes of a map."""
    return torch.arange(maps.allowed.shape[-1]).expand_as(maps.allowed)


def by_offset(maps: AttentionMaps) -> Groups:
    """How many tokens the key is away: the bands along the diagonal."""
    place = torch.arange(maps.allowed.shape[-1])
    return (place[:, None] - place + len(place) - 1).expand_as(maps.allowed)


def by_age(maps: AttentionMaps, edges: Sequence[int]) -> Groups:
    """How many time steps ago: group i holds ages from `edges[i - 1]` to below `edges[i]`.

    The first group is younger than the first edge (the future included), the last one everything
    from the last edge on. Tokens in front of all steps are as old as the window.
    """
    age = maps.steps[:, :, None] - maps.steps[:, None, :]
    return torch.bucketize(age, torch.tensor(list(edges)), right=True)


def by_direction(maps: AttentionMaps) -> Groups:
    """0 the level in front, 1 an earlier place, 2 the query itself, 3 a later one."""
    place = torch.arange(maps.allowed.shape[-1])
    direction = 2 + torch.sign(place[None, :] - place[:, None])
    return torch.where(maps.steps[:, None, :] == LEVEL, 0, direction.expand_as(maps.allowed))


# --- statistics --------------------------------------------------------------------------------


def shares(maps: AttentionMaps, groups: Groups, count: int) -> Float[Tensor, "layers B H L G"]:
    """What part of each query's attention goes to each of `count` groups of keys; sums to 1."""
    index = groups[None, :, None].expand_as(maps.weights)
    empty = maps.weights.new_zeros(*maps.weights.shape[:-1], count)
    return empty.scatter_add(-1, index, maps.weights)


def lift(
    maps: AttentionMaps, groups: Groups, count: int, queries: Bool[Tensor, "B L"] | None = None
) -> Float[Tensor, "layers B H G"]:
    """Attention to each group over what even attention would give it; 1 is no preference.

    Args:
        maps: of B windows.
        groups: of (query, key) pairs.
        count: G, number of groups.
        queries: those that count; default those that have a choice (two keys or more). NaN where
            none of them may look at a group.
    """
    chosen = maps.keys > 1 if queries is None else queries
    got, even = (
        (shares(each, groups, count) * chosen[None, :, None, :, None]).sum(dim=-2)
        for each in (maps, uniform(maps))
    )
    return got / even


def normalised_entropy(maps: AttentionMaps) -> Float[Tensor, "layers B H"]:
    """Mean over queries of the entropy of a row over ln n: 0 one key, 1 spread evenly."""
    choice = maps.keys > 1
    entropy = torch.special.entr(maps.weights).sum(dim=-1)
    relative = entropy / maps.keys.clamp(min=2).log()[None, :, None]
    return _over_queries(relative, choice)


def look_back(maps: AttentionMaps, *, absolute: bool = False) -> Float[Tensor, "layers B H"]:
    """Mean over queries of how many *time steps* back attention lies; tokens in front left out.

    Args:
        maps: of B windows.
        absolute: count a step ahead like a step back, for a model that looks both ways.
    """
    age = (maps.steps[:, :, None] - maps.steps[:, None, :]).float()
    age = age.abs() if absolute else age
    timed = (maps.steps != LEVEL)[:, None, :]
    weights = maps.weights * timed[None, :, None]
    mean = (weights * age[None, :, None]).sum(-1) / weights.sum(-1).clamp(min=1e-12)
    within = (maps.allowed & timed).sum(dim=-1) > 1
    return _over_queries(mean, within & (maps.steps != LEVEL))


def small_weights(maps: AttentionMaps, below: float = 0.1) -> Float[Tensor, "layers B H"]:
    """Sparsity: share of the allowed keys that get less than `below` times an even share."""
    choice = (maps.keys > 1)[:, :, None] & maps.allowed
    small = maps.weights * maps.keys[None, :, None, :, None] < below
    counted = (small & choice[None, :, None]).sum(dim=(-2, -1))
    return counted / choice.sum(dim=(-2, -1))[None, :, None]


def explained(maps: AttentionMaps, groups: Groups) -> Float[Tensor, "layers B H"]:
    """Share of the variance of the lift among allowed pairs that a grouping explains (R squared).

    With `by_key` it says how striped a map is, with `by_offset` how banded, with `by_kinds` how
    much of a grid it is. Shuffled keys explain (groups - 1) / (pairs - 1) by accident.
    """
    chosen = (maps.allowed & (maps.keys > 1)[..., None]).flatten(1)[None, :, None]
    values = (maps.weights * maps.keys[None, :, None, :, None]).flatten(-2)
    index = groups.flatten(1)[None, :, None].expand_as(values)
    pairs = chosen.sum(dim=-1, keepdim=True)
    mean = (values * chosen).sum(dim=-1, keepdim=True) / pairs
    off = (values - mean) * chosen
    empty = values.new_zeros(*values.shape[:-1], int(groups.max()) + 1)
    total = empty.scatter_add(-1, index, off)
    size = empty.scatter_add(-1, index, chosen.to(values.dtype).expand_as(values))
    between = (total.square() / size.clamp(min=1)).sum(dim=-1)
    return between / off.square().sum(dim=-1).clamp(min=1e-12)


def _over_queries(
    values: Float[Tensor, "layers B H L"], chosen: Bool[Tensor, "B L"]
) -> Float[Tensor, "layers B H"]:
    """Mean over the chosen queries of each window."""
    weight = chosen[None, :, None].to(values.dtype)
    return (values * weight).sum(dim=-1) / weight.sum(dim=-1)
