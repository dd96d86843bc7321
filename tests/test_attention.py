"""Attention is extracted exactly, and its statistics keep their invariants."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers import paths
from helpers.analysis.attention import (
    LEVEL,
    AttentionMaps,
    by_age,
    by_direction,
    by_key,
    by_key_kind,
    by_kinds,
    by_offset,
    decision_attention,
    explained,
    leap_attention,
    lift,
    look_back,
    normalised_entropy,
    recorded_windows,
    shares,
    shuffled,
    small_weights,
    trajectory_attention,
    uniform,
    untrained,
)
from helpers.analysis.interventions import Recorder, probing
from helpers.data.catalogue import load_dataset
from helpers.models.decision import DecisionConfig, DecisionTransformer, load_decision
from helpers.models.leap import Leap, LeapConfig
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer


def louder(model):
    """Larger weights, so that attention is not nearly even."""
    with torch.no_grad():
        for weight in model.transformer.parameters():
            weight.mul_(6.0 if weight.ndim == 2 else 1.0)
    return model.eval()


def decision(heads: int = 2) -> DecisionTransformer:
    torch.manual_seed(0)
    return louder(DecisionTransformer(DecisionConfig(3, 2, 5, 9, width=8, layers=2, heads=heads)))


def window(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "returns_to_go": 1000 * torch.rand(batch, 5, generator=generator),
        "observations": torch.randn(batch, 5, 3, generator=generator),
        "actions": torch.rand(batch, 5, 2, generator=generator),
        "timesteps": torch.arange(5).expand(batch, -1),
    }


def trajectory() -> TrajectoryTransformer:
    torch.manual_seed(0)
    config = TrajectoryConfig(3, 2, context_length=3, bins=5, width=8, layers=2, heads=2)
    return louder(TrajectoryTransformer(config))


def leap() -> Leap:
    torch.manual_seed(0)
    return louder(Leap(LeapConfig(3, 2, plan_length=4, width=8, layers=2, heads=2)))


def maps_of(name: str) -> AttentionMaps:
    generator = torch.Generator().manual_seed(2)
    if name == "dt":
        return decision_attention(decision(), **window())
    if name == "tt":
        return trajectory_attention(
            trajectory(), torch.randint(5, (3, 20), generator=generator), None
        )
    model = leap()
    plans = torch.tensor([[0, 1, 2, 2], [1, 3, 0, 1], [3, 3, 3, 3]])  # END, MASK, all MASK
    with torch.inference_mode():
        return leap_attention(model, model.encode(torch.randn(3, 3, generator=generator)), plans)


ALL = pytest.mark.parametrize("name", ["dt", "tt", "leap"])


# --- extraction --------------------------------------------------------------------------------


@ALL
def test_rows_sum_to_one_and_only_allowed_keys_get_something(name):
    maps = maps_of(name)
    assert torch.allclose(maps.weights.sum(-1), torch.ones(()), atol=1e-6)
    forbidden = ~maps.allowed[None, :, None].expand_as(maps.weights)
    assert (maps.weights[forbidden] == 0).all()
    assert (maps.weights[~forbidden] > 0).all()


@pytest.mark.parametrize("heads", [1, 2])
def test_outputs_with_extraction_equal_those_of_the_fused_kernel(heads):
    """The weights are those that the model uses: applied to its values, they give its output."""
    model, inputs = decision(heads), window()
    recorder = Recorder()
    with torch.inference_mode():
        fused = model(**inputs)
        with probing(model, recorder):
            written_out = model(**inputs)
    assert torch.allclose(fused, written_out, atol=1e-6)
    assert torch.equal(torch.stack(recorder.maps), decision_attention(model, **inputs).weights)


def test_tokens_are_named():
    maps = maps_of("dt")
    assert [maps.names[k] for k in maps.kinds[0, :4]] == ["return", "state", "action", "return"]
    assert maps.steps[0].tolist() == [t for t in range(5) for _ in range(3)]
    maps = maps_of("tt")
    named = [maps.names[k] for k in maps.kinds[0, :8]]
    assert named == [*["state"] * 3, *["action"] * 2, "reward", "value", "state"]
    assert maps.steps[0, [0, 6, 7, 19]].tolist() == [0, 0, 1, 2]
    maps = maps_of("leap")
    assert [maps.names[k] for k in maps.kinds[0]] == ["level", "action", "action", "END", "END"]
    assert [maps.names[k] for k in maps.kinds[1]][2] == "MASK"
    assert maps.steps[0].tolist() == [LEVEL, 0, 1, 2, 3]
    assert not maps.allowed[0, :, 4].any(), "padding behind the first END"


def test_a_level_in_front_is_a_token_of_its_own():
    model = trajectory()
    prefix = torch.zeros(2, 1, 8)
    tokens = torch.zeros(2, 10, dtype=torch.long)
    maps = trajectory_attention(model, tokens, prefix)
    assert maps.names[maps.kinds[0, 0]] == "level" and maps.steps[0, 0] == LEVEL
    assert maps.allowed[0, :, 0].all() and maps.weights.shape[-1] == 11
    assert maps.names[maps.kinds[0, 1]] == "state" and maps.steps[0, 1] == 0


def test_values_are_nobodys_keys():
    maps = maps_of("tt")
    values = maps.kinds[0] == maps.names.index("value")
    assert not maps.allowed[:, :, values].any()


# --- statistics --------------------------------------------------------------------------------

GROUPINGS = {
    "kind": by_key_kind,
    "age": lambda maps: by_age(maps, (1, 3)),
    "direction": by_direction,
    "key": by_key,
}


@ALL
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_shares_over_disjoint_groups_sum_to_one(name, grouping):
    maps = maps_of(name)
    groups = GROUPINGS[grouping](maps)
    found = shares(maps, groups, int(groups.max()) + 1)
    assert torch.allclose(found.sum(-1), torch.ones(()), atol=1e-6) and (found >= 0).all()


def test_shares_by_hand():
    maps = maps_of("dt")
    found = shares(maps, by_key_kind(maps), 3)
    assert torch.allclose(found[1, 2, 1, 7, 0], maps.weights[1, 2, 1, 7, 0:8:3].sum())
    assert torch.allclose(found[0, 0, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


@ALL
def test_even_attention_is_the_zero_of_every_statistic(name):
    maps = uniform(maps_of(name))
    kinds = by_key_kind(maps)
    lifts = lift(maps, kinds, len(maps.names))
    assert torch.allclose(lifts[~lifts.isnan()], torch.ones(()), atol=1e-5)
    assert torch.allclose(normalised_entropy(maps), torch.ones(()), atol=1e-6)
    assert (small_weights(maps, below=0.99) == 0).all()
    assert (small_weights(maps, below=1.01) == 1).all()


def test_entropy_lies_between_none_and_even_whatever_the_window():
    """The post's heads of 7.59 exceed the greatest entropy that 100 keys can have."""
    for length in (2, 5):
        inputs = {key: value[:, :length] for key, value in window().items()}
        found = normalised_entropy(decision_attention(decision(), **inputs))
        assert ((found > 0) & (found < 1)).all()
    maps = maps_of("dt")
    pointed = torch.zeros_like(maps.weights)
    pointed[..., 0] = 1.0
    assert (normalised_entropy(dataclasses.replace(maps, weights=pointed)) == 0).all()


def test_entropy_by_hand():
    maps = maps_of("dt")
    rows = maps.weights[1, 0, 1]
    by_hand = [-(r[: n + 1] * r[: n + 1].log()).sum() / math.log(n + 1) for n, r in enumerate(rows)]
    assert torch.allclose(normalised_entropy(maps)[1, 0, 1], torch.stack(by_hand[1:]).mean())


def test_looking_back_counts_steps_not_tokens():
    maps = maps_of("dt")
    weights = torch.zeros_like(maps.weights)
    for query in range(15):
        weights[..., query, max(0, query - 6)] = 1.0  # six tokens are two steps
    found = look_back(dataclasses.replace(maps, weights=weights))
    by_hand = np.mean([query // 3 - max(0, query - 6) // 3 for query in range(1, 15)])
    assert torch.allclose(found, torch.tensor(by_hand, dtype=torch.float32))


def test_looking_both_ways_cancels_unless_distances_are_absolute():
    maps = uniform(maps_of("leap")).select([2])
    assert torch.allclose(look_back(maps), torch.zeros(()), atol=1e-6)
    assert torch.allclose(look_back(maps, absolute=True), torch.tensor(1.25))


def test_ages_and_directions():
    maps = maps_of("dt")
    ages = by_age(maps, (1, 3))
    assert ages[0, 14, [14, 12, 11, 6, 5, 0]].tolist() == [0, 0, 1, 1, 2, 2]
    maps = maps_of("leap")
    assert by_direction(maps)[0, 2].tolist() == [0, 1, 2, 3, 3]


@ALL
def test_shuffled_rows_keep_their_weights_and_lose_their_aim(name):
    maps = maps_of(name)
    dealt = shuffled(maps)
    assert torch.equal(dealt.weights.sort(dim=-1).values, maps.weights.sort(dim=-1).values)
    assert (dealt.weights[~maps.allowed[None, :, None].expand_as(dealt.weights)] == 0).all()
    assert not torch.equal(dealt.weights, maps.weights)
    assert torch.allclose(normalised_entropy(dealt), normalised_entropy(maps), atol=1e-6)
    assert torch.equal(shuffled(maps).weights, dealt.weights), "the seed decides"


def test_patterns_are_told_apart():
    maps = maps_of("dt")
    allowed = maps.allowed[None, :, None]
    place = torch.arange(15)

    def pattern(values):
        weights = torch.where(allowed, values, 0.0).expand_as(maps.weights)
        return dataclasses.replace(maps, weights=weights / weights.sum(-1, keepdim=True))

    groupings = {"stripe": by_key, "band": by_offset, "grid": by_kinds}
    made = {
        "stripe": pattern(torch.where(place == 3, 20.0, 1.0).expand(15, 15)),
        "band": pattern(torch.where(place[:, None] - place == 1, 20.0, 1.0)),
        "grid": pattern(torch.where((place % 3)[:, None] == (place + 1) % 3, 20.0, 1.0)),
    }
    for name, drawn in made.items():
        scores = {key: explained(drawn, group(drawn)) for key, group in groupings.items()}
        assert all((0 <= s).all() and (s <= 1 + 1e-6).all() for s in scores.values())
        best = max(scores, key=lambda key: scores[key].mean())
        assert best == name, scores
        for key, group in groupings.items():
            pairs = int(maps.allowed[0].sum()) - 1
            chance = (len(group(maps)[0][maps.allowed[0]].unique()) - 1) / (pairs - 1)
            many = torch.stack([explained(shuffled(drawn, i), group(drawn)) for i in range(20)])
            assert abs(many.mean() - chance) < 0.1, (name, key)


def test_a_grouping_of_single_pairs_explains_everything():
    maps = maps_of("tt")
    length = maps.allowed.shape[-1]
    single = torch.arange(length**2).view(length, length).expand(3, -1, -1)
    assert torch.allclose(explained(maps, single), torch.ones(()), atol=1e-4)


def test_untrained_models_differ_only_in_their_weights():
    model = decision()
    model.observation_mean.fill_(3.0)
    fresh = untrained(model, seed=1)
    assert fresh.config == model.config and (fresh.observation_mean == 3.0).all()
    assert not torch.equal(fresh.predict_action.weight, model.predict_action.weight)
    assert torch.equal(untrained(model, seed=1).predict_action.weight, fresh.predict_action.weight)


# --- a trained model ---------------------------------------------------------------------------


@torch.inference_mode()
def test_training_aims_attention_at_something():
    model, _ = load_decision(paths.CHECKPOINTS / "dt" / "halfcheetah" / "medium-s0.safetensors")
    data = load_dataset("halfcheetah/medium", sample=True)
    windows = recorded_windows(data, np.array([19, 1500]), 20)
    found = {}
    for name, each in (("trained", model), ("untrained", untrained(model))):
        maps = decision_attention(each, **windows)
        found[name] = (lift(maps, by_key_kind(maps), 3) - 1).abs().max()
    assert found["trained"] > 0.3 and found["untrained"] < 0.1, found


def test_recorded_windows_stay_in_their_episodes():
    data = load_dataset("halfcheetah/medium", sample=True)
    windows = recorded_windows(data, np.array([1004]), 5)
    assert windows["timesteps"].tolist() == [[0, 1, 2, 3, 4]]
    assert torch.equal(
        windows["observations"][0, 0], torch.from_numpy(data.observations[1000]).float()
    )
    with pytest.raises(ValueError, match="begins before its episode"):
        recorded_windows(data, np.array([1003]), 5)
