"""Statistics of attention for `claims.yml`, of the models and windows of `claim_models`.

The definitions are those of the chapter on attention: allowed keys only, relative to even
attention, means over heads, intervals over trained models and episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor

from helpers.analysis.attention import (
    AttentionMaps,
    by_age,
    by_direction,
    by_key,
    by_key_kind,
    by_offset,
    decision_attention,
    explained,
    leap_attention,
    lift,
    look_back,
    normalised_entropy,
    shuffled,
    small_weights,
    trajectory_attention,
    uniform,
)
from helpers.analysis.interventions import Silence, action_change, distribution_change, probing
from helpers.analysis.plans import first_plans
from helpers.analysis.statistics import (
    RESAMPLES,
    Interval,
    difference_interval,
    mean_draws,
    mean_interval,
    percentile_interval,
)
from helpers.claim_models import (
    CONTEXT,
    TIERS,
    WINDOWS_AN_EPISODE,
    decision_models,
    decision_windows,
    demonstrations,
    episodes,
    intended,
    leap_model,
    moments,
    trajectory_models,
    trajectory_tokens,
)
from helpers.models.trajectory import TrajectoryTransformer

RECENT = 5
"""Time steps that count as recent: a quarter of Decision Transformer's window."""
SHORT = 4
"""Steps of a window of 100 tokens, in which Trajectory Transformer's sparsity is taken."""


@cache
def decision_maps(tier: str, profile: str) -> tuple[AttentionMaps, ...]:
    """Of the Decision Transformers of a tier, in the windows of `claim_models`."""
    window = decision_windows(tier, profile)
    return tuple(decision_attention(model, **window) for model in decision_models(tier, profile))


@cache
def trajectory_maps(
    profile: str, steps: int = 0, per_episode: int = 2
) -> tuple[AttentionMaps, ...]:
    """In windows of as many steps as a model was trained on, or fewer."""
    models = trajectory_models(profile)
    longest = models[0].config.context_length
    tokens = trajectory_tokens(profile, min(steps or longest, longest), per_episode)
    return tuple(trajectory_attention(model, tokens) for model in models)


@cache
def leap_map(profile: str) -> tuple[AttentionMaps, Int[Tensor, " B"]]:
    """One model's attention in the plans of the bot with one place masked, and which one it is."""
    leap, data = leap_model(profile), demonstrations(profile)
    plans = first_plans(data, leap.config.plan_length, leap.config.end)
    used = leap.active(plans).sum(dim=1).numpy()  # actions and one END
    places = torch.from_numpy((np.random.default_rng(0).random(len(used)) * used).astype(int))
    masked = plans.scatter(1, places[:, None], leap.config.mask)
    with torch.inference_mode():
        states = leap.encode(torch.from_numpy(data.observations[data.starts]))
    return leap_attention(leap, states, masked), places


def by_episode(
    values: Sequence[Float[Tensor, " windows"]], count: int
) -> Float[np.ndarray, "models episodes"]:
    """Means over the windows of an episode, whose windows stand together."""
    return np.stack([v.double().numpy().reshape(count, -1).mean(axis=1) for v in values])


def _over_decisions(
    statistic: Callable[[AttentionMaps], Float[Tensor, " windows"]],
    profile: str,
    tiers: Sequence[str] = TIERS,
) -> Interval:
    """A statistic of each window, over models and episodes, mean over tiers.

    Tiers are chosen and not drawn, so models are resampled within each.
    """
    rng, scores, draws = np.random.default_rng(0), [], []
    for tier in tiers:
        maps, count = decision_maps(tier, profile), len(episodes(tier, profile).lengths)
        found = by_episode([statistic(one) for one in maps], count)
        scores.append(found.mean())
        draws.append(mean_draws(found, rng))
    return percentile_interval(float(np.mean(scores)), np.mean(draws, axis=0))


def _over_trajectories(
    statistic: Callable[[AttentionMaps], Float[Tensor, " windows"]], profile: str
) -> Interval:
    """A statistic of each window, over the models and episodes of Trajectory Transformer."""
    count = len(episodes("medium", profile).lengths)
    maps = trajectory_maps(profile)
    return mean_interval(by_episode([statistic(found) for found in maps], count))


def _rise(values: Float[Tensor, "layers B H"]) -> Float[Tensor, " B"]:
    """Last minus first layer."""
    return (values[-1] - values[0]).mean(dim=-1)


# --- Decision Transformer ----------------------------------------------------------------------


def return_lift(profile: str) -> Interval:
    """Lift that states give to return tokens, mean over layers."""

    def statistic(maps: AttentionMaps) -> Float[Tensor, " windows"]:
        states = maps.kinds == maps.names.index("state")
        return lift(maps, by_key_kind(maps), 3, states)[..., 0].mean(dim=(0, 2))

    return _over_decisions(statistic, profile)


def dt_stripes_rise(profile: str) -> Interval:
    """Striped share of the lift's variance, last minus first layer."""
    return _over_decisions(lambda maps: _rise(explained(maps, by_key(maps))), profile)


def _present(maps: AttentionMaps) -> Bool[Tensor, "B L"]:
    """The last state, from which the action is predicted."""
    chosen = torch.zeros_like(maps.kinds, dtype=torch.bool)
    chosen[:, -2] = True
    return chosen


def _change_in_episode(
    statistic: Callable[[AttentionMaps], Float[Tensor, " windows"]], profile: str
) -> Interval:
    """Second minus first half of an episode."""
    half = WINDOWS_AN_EPISODE // 2
    sign = torch.tensor([-1.0] * half + [1.0] * half) * 2  # the mean over windows halves it
    return _over_decisions(
        lambda maps: statistic(maps) * sign.repeat(len(maps.kinds) // len(sign)), profile
    )


def returns_early(profile: str) -> Interval:
    """Last layer's lift of returns for the present state, first minus second half."""
    return _change_in_episode(
        lambda maps: -lift(maps, by_key_kind(maps), 3, _present(maps))[-1, :, :, 0].mean(dim=1),
        profile,
    )


def shift_to_recent(profile: str) -> Interval:
    """Last layer's lift of recent steps for the present state, second minus first half."""
    return _change_in_episode(
        lambda maps: lift(maps, by_age(maps, (RECENT,)), 2, _present(maps))[-1, :, :, 0].mean(
            dim=1
        ),
        profile,
    )


# --- Trajectory Transformer --------------------------------------------------------------------


def tt_look_back(profile: str) -> Interval:
    """Mean distance of attention in time steps."""
    return _over_trajectories(lambda maps: look_back(maps).mean(dim=(0, 2)), profile)


def tt_nearer_than_even(profile: str) -> Interval:
    """Time steps by which even attention would look further back."""

    def statistic(maps: AttentionMaps) -> Float[Tensor, " windows"]:
        return (look_back(uniform(maps)) - look_back(maps)).mean(dim=(0, 2))

    return _over_trajectories(statistic, profile)


def tt_stripes_rise(profile: str) -> Interval:
    """Striped share of the lift's variance, last minus first layer."""
    return _over_trajectories(lambda maps: _rise(explained(maps, by_key(maps))), profile)


def tt_bands_persist(profile: str) -> Interval:
    """Banded share of the lift's variance beyond shuffled weights': each window's least layer."""

    def statistic(maps: AttentionMaps) -> Float[Tensor, " windows"]:
        dealt = shuffled(maps.select(range(0, len(maps.kinds), 4)))
        null = explained(dealt, by_offset(dealt)).mean(dim=(1, 2))
        return (explained(maps, by_offset(maps)).mean(dim=2) - null[:, None]).amin(dim=0)

    return _over_trajectories(statistic, profile)


def tt_sparser(profile: str) -> Interval:
    """Share of neglected allowed keys: TT's in windows of 100 tokens minus DT's."""
    count = len(episodes("medium", profile).lengths)
    theirs, ours = (
        by_episode([small_weights(maps).mean(dim=(0, 2)) for maps in found], count)
        for found in (decision_maps("medium", profile), trajectory_maps(profile, SHORT))
    )
    return difference_interval(ours, theirs)


@torch.inference_mode()
def peaked_heads_matter(profile: str) -> Interval:
    """Rank correlation of how peaked a head is and what changes without it, within layers.

    The interval resamples the heads of each model.
    """
    models = trajectory_models(profile)
    shape = models[0].config
    context = min(CONTEXT, shape.context_length - 1)
    acting = slice(context * shape.step_size + shape.observation_size - 1, None)
    seen = trajectory_tokens(profile, context + 1, 3)[:, : acting.start + shape.action_size]
    pairs = []
    for model, maps in zip(models, trajectory_maps(profile), strict=True):
        peaked = 1 - normalised_entropy(maps).mean(dim=1).numpy()
        free, effects = model(seen)[:, acting], np.zeros(peaked.shape)
        for layer, head in np.ndindex(*peaked.shape):
            with probing(model, Silence(layers=[layer], heads=[head])):
                changed = distribution_change(free, model(seen)[:, acting])
            effects[layer, head] = np.log(max(float(changed.mean()), 1e-12))
        apart = [values - values.mean(axis=1, keepdims=True) for values in (peaked, effects)]
        pairs.append(np.stack([values.ravel() for values in apart]))
    return _correlation(np.array(pairs), blocks=pairs[0].shape[1], shared=False)


# --- LEAP --------------------------------------------------------------------------------------


def leap_future_lift(profile: str) -> Interval:
    """Lift that the masked place gives to later places, over the plans that have some."""
    maps, places = leap_map(profile)
    rows = torch.arange(len(places))
    asked = torch.zeros_like(maps.kinds, dtype=torch.bool)
    asked[rows, places + 1] = True
    later = lift(maps, by_direction(maps), 4, asked)[..., 3].mean(dim=(0, 2)).numpy()
    return mean_interval(later[np.isfinite(later)][None])


def leap_entropy_rise(profile: str) -> Interval:
    """Entropy of attention over its maximum, last minus first layer."""
    return mean_interval(_rise(normalised_entropy(leap_map(profile)[0])).numpy()[None])


# --- sparsity and errors -----------------------------------------------------------------------


@torch.inference_mode()
def dt_sparse_less_error(profile: str) -> Interval:
    """Negative rank correlation over windows of sparsity and error, mean over DT's models.

    The error is the distance of the last action from what the policy intends.
    """
    data, window = episodes("medium", profile), decision_windows("medium", profile)
    scale = torch.from_numpy(data.actions.std(axis=0))
    wanted = torch.from_numpy(intended(data.observations[moments(data, WINDOWS_AN_EPISODE)]))
    models, maps = decision_models("medium", profile), decision_maps("medium", profile)
    errors = [action_change(model(**window)[:, -1], wanted, scale) for model in models]
    return _less_error(maps, errors, len(data.lengths))


@torch.inference_mode()
def tt_sparse_less_error(profile: str) -> Interval:
    """The same of TT, whose error is the cross-entropy of the action's entries."""
    models = trajectory_models(profile)
    maps = trajectory_maps(profile, SHORT, WINDOWS_AN_EPISODE)
    steps = maps[0].kinds.shape[1] // models[0].config.step_size
    tokens = trajectory_tokens(profile, steps, WINDOWS_AN_EPISODE)
    errors = [_action_nats(model, tokens) for model in models]
    return _less_error(maps, errors, len(episodes("medium", profile).lengths))


def _less_error(
    maps: Sequence[AttentionMaps], errors: Sequence[Float[Tensor, " windows"]], count: int
) -> Interval:
    """Negative correlation of sparsity with errors in windows of that many episodes."""
    pairs = [
        torch.stack([small_weights(one).mean(dim=(0, 2)).double(), error.double()])
        for one, error in zip(maps, errors, strict=True)
    ]
    return _correlation(torch.stack(pairs).numpy(), blocks=count, shared=True).scaled(-1)


def _action_nats(model: TrajectoryTransformer, tokens: Int[Tensor, "B P"]) -> Float[Tensor, " B"]:
    """Mean cross-entropy of the actions' entries of each window."""
    shape = model.config
    logits = model(tokens)[:, :-1].log_softmax(dim=-1)
    nats = -logits.gather(-1, tokens[:, 1:, None])[..., 0]
    entry = torch.arange(1, tokens.shape[1]) % shape.step_size
    acts = (entry >= shape.observation_size) & (entry < shape.step_size - 2)
    return nats[:, acts].mean(dim=1)


def _correlation(pairs: Float[np.ndarray, "models 2 n"], blocks: int, *, shared: bool) -> Interval:
    """Rank correlation of two rows, mean over models; models and blocks are resampled.

    If all models share the blocks (the same episodes), one draw of blocks serves all of them; if
    each has its own (its heads), they are drawn for each.
    """
    models, _, n = pairs.shape
    order = np.arange(n).reshape(blocks, -1)
    rng = np.random.default_rng(0)

    def mean_of(rows: Int[np.ndarray, "models n"], chosen: Int[np.ndarray, " models"]) -> float:
        found = []
        for model, own in zip(chosen, rows, strict=True):
            looks, effects = pairs[model][:, own]
            varied = np.ptp(looks) > 0 and np.ptp(effects) > 0
            ranked = rankdata(looks), rankdata(effects)
            found.append(np.corrcoef(*ranked)[0, 1] if varied else 0.0)
        return float(np.mean(found))

    def resampled() -> Int[np.ndarray, "models n"]:
        drawn = rng.integers(blocks, size=(1 if shared else models, blocks))
        return np.broadcast_to(order[drawn].reshape(len(drawn), n), (models, n))

    draws = [mean_of(resampled(), rng.integers(models, size=models)) for _ in range(RESAMPLES // 4)]
    everything = np.broadcast_to(order.ravel(), (models, n))
    return percentile_interval(mean_of(everything, np.arange(models)), np.array(draws))


ATTENTION: Mapping[str, Callable[[str], Interval]] = {
    function.__name__: function
    for function in (
        return_lift, dt_stripes_rise, returns_early, shift_to_recent, tt_look_back,
        tt_nearer_than_even, tt_stripes_rise, tt_bands_persist, tt_sparser, peaked_heads_matter,
        leap_future_lift, leap_entropy_rise, dt_sparse_less_error, tt_sparse_less_error,
    )
}  # fmt: skip
