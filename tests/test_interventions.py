"""Interventions do to attention what they say, and reach the agents that play."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.agents import DecisionAgent, LeapAgent
from helpers.analysis.interventions import (
    INTERVENTIONS,
    Even,
    Knockout,
    Patch,
    Recorder,
    Silence,
    action_change,
    distribution_change,
    earlier_keys,
    first_keys,
    keys_further_than,
    keys_of_kind,
    later_keys,
    probing,
    without_heads,
)
from helpers.data.catalogue import load_dataset
from helpers.evaluate import rollout
from helpers.methods import METHODS, agent_maker
from helpers.models.checkpoints import save_model
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.leap import Leap, LeapConfig
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.models.transformer import Probe
from helpers.names import UnknownName
from helpers.planning.gibbs import GibbsConfig
from helpers.tasks import get_task

SMALL = DecisionConfig(3, 2, context_length=4, horizon=9, width=8, layers=2)
LEAP = LeapConfig(3, 2, plan_length=3, width=8, layers=2, heads=2)


def decision(heads: int = 1) -> DecisionTransformer:
    torch.manual_seed(0)
    model = DecisionTransformer(dataclasses.replace(SMALL, heads=heads)).eval()
    return louder(model)


def louder(model):
    """Larger weights, so that a change shows."""
    with torch.no_grad():
        for weight in model.transformer.parameters():
            weight.mul_(8.0 if weight.ndim == 2 else 1.0)
    return model


def leap() -> Leap:
    torch.manual_seed(0)
    return louder(Leap(LEAP).eval())


def window(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "returns_to_go": 1000 * torch.rand(2, 4, generator=generator),
        "observations": torch.randn(2, 4, 3, generator=generator),
        "actions": torch.rand(2, 4, 2, generator=generator),
        "timesteps": torch.arange(4).expand(2, -1),
    }


@torch.inference_mode()
def under(model, probe, inputs):
    with probing(model, probe):
        return model(**inputs)


@pytest.mark.parametrize("heads", [1, 2])
@torch.inference_mode()
def test_a_probe_that_does_nothing_changes_nothing(heads):
    model = decision(heads)
    torch.testing.assert_close(under(model, Probe(), window()), model(**window()))
    assert model.transformer.probe is None
    tt = TrajectoryTransformer(TrajectoryConfig(2, 1, width=8, layers=2, heads=heads)).eval()
    tokens = torch.zeros(1, 10, dtype=torch.int64)
    with probing(tt, Probe()):
        probed = tt(tokens)
    torch.testing.assert_close(probed, tt(tokens))


def test_the_probe_is_taken_out_after_an_error():
    model = decision()
    with pytest.raises(KeyError), probing(model, Probe()):
        raise KeyError
    assert model.transformer.probe is None


@pytest.mark.parametrize("heads", [1, 2])
def test_without_attention_to_returns_nothing_depends_on_them(heads):
    model, inputs = decision(heads), window()
    other = {**inputs, "returns_to_go": inputs["returns_to_go"] + 500.0}
    blind = Knockout(keys_of_kind(0, 3))
    torch.testing.assert_close(under(model, blind, inputs), under(model, blind, other))
    assert not torch.allclose(under(model, Probe(), inputs), under(model, Probe(), other))
    # In one layer only, the other one still tells.
    half = Knockout(keys_of_kind(0, 3), layers=[0])
    assert not torch.allclose(under(model, half, inputs), under(model, half, other))


def test_without_attention_to_the_past_only_the_present_counts():
    model, inputs = decision(2), window()
    other = {**inputs, "observations": inputs["observations"].clone()}
    other["observations"][:, 1] += 1.0
    present = Knockout(keys_further_than(0, 3))
    before, after = under(model, present, inputs), under(model, present, other)
    torch.testing.assert_close(before[:, 2:], after[:, 2:])
    assert not torch.allclose(before[:, 1], after[:, 1])
    one_back = Knockout(keys_further_than(1, 3))
    assert not torch.allclose(
        under(model, one_back, inputs)[:, 2], under(model, one_back, other)[:, 2]
    )


def test_selections_by_hand():
    assert keys_of_kind(1, 3)(4).tolist() == [[False, True, False, False]] * 4
    assert keys_of_kind(0, 2, first=1)(4).tolist() == [[False, True, False, True]] * 4
    further = keys_further_than(0, 2)(4)
    assert further.tolist() == [[False] * 4] * 2 + [[True, True, False, False]] * 2
    assert not keys_further_than(0, 2, first=1)(5)[:, 0].any()  # the map is no past
    assert earlier_keys()(3).tolist() == [[False] * 3, [False] * 3, [False, True, False]]
    assert first_keys(1)(2).tolist() == [[True, False]] * 2
    assert later_keys()(3).tolist() == [[False, True, True], [False, False, True], [False] * 3]


def test_without_the_future_a_plan_is_judged_from_its_beginning():
    model = leap()
    seen = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    plans = torch.tensor([[0, 1, 0], [0, 1, 1]])
    states = model.encode(seen).expand(2, -1)
    with torch.inference_mode():
        free = model(states, plans)
        with probing(model, Knockout(later_keys())):
            bound = model(states, plans)
    torch.testing.assert_close(bound[0, :2], bound[1, :2])
    assert not torch.allclose(free[0, :2], free[1, :2])


def test_what_is_done_to_weights_by_hand():
    weights = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])[None, None]  # 2 queries... of 3 keys
    weights = torch.cat([weights, weights[:, :, :1]], dim=2)
    first_two = lambda length: torch.tensor([True, True, False]).expand(length, -1)  # noqa: E731
    gone = Knockout(first_two).weights(0, weights)[0, 0]
    torch.testing.assert_close(gone, torch.tensor([[0.0, 0, 1], [1.0, 0, 0], [0.0, 0, 1]]))
    even = Even(first_two).weights(0, weights)[0, 0]
    torch.testing.assert_close(even[0], torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(even[1], torch.tensor([1.0, 0.0, 0.0]))  # may not look at key 1
    both = weights.expand(-1, 2, -1, -1)
    one = Silence(heads=[1]).weights(0, both)
    assert torch.equal(one[:, 0], weights[:, 0]) and not one[:, 1].any()
    assert torch.equal(Silence(layers=[1]).weights(0, both), both)


@pytest.mark.parametrize("heads", [1, 2])
@torch.inference_mode()
def test_a_silent_layer_adds_its_bias_only(heads):
    model, inputs = decision(heads), window()
    block, x = model.transformer.blocks[0], torch.randn(2, 5, 8)
    with torch.no_grad():
        block.attention.project.bias.add_(0.3)
        block.attention.key_value.bias.add_(0.2)
    mask = torch.zeros(1, 1, 5, 5)
    out = block.attention(x, x, mask, look=torch.zeros_like)
    torch.testing.assert_close(out, block.attention.project.bias.expand_as(out))
    if heads == 2:
        copy = without_heads(model, 1, [0])
        expected = under(model, Silence(layers=[1], heads=[0]), inputs)
        torch.testing.assert_close(copy(**inputs), expected)
        assert not torch.allclose(expected, model(**inputs))
    with pytest.raises(ValueError, match="cannot take out"):
        without_heads(model, 1, [2])


@torch.inference_mode()
def test_patching_gives_the_donors_features():
    model, inputs, other = decision(2), window(0), window(1)
    donor = Recorder()
    theirs = under(model, donor, other)
    assert len(donor.streams) == len(donor.maps) == 2
    everything = torch.ones(12, dtype=torch.bool)
    for layer in (0, 1):
        patched = under(model, Patch(donor, layer, everything), inputs)
        torch.testing.assert_close(patched, theirs)
        untouched = under(model, Patch(donor, layer, ~everything), inputs)
        torch.testing.assert_close(untouched, model(**inputs))
    # Earlier steps are not told what a later token knows.
    last = torch.arange(12) >= 9
    part = under(model, Patch(donor, 1, last), inputs)
    torch.testing.assert_close(part[:, :3], model(**inputs)[:, :3])
    assert not torch.allclose(part[:, 3], model(**inputs)[:, 3])
    short = {name: value[:, :3] for name, value in inputs.items()}
    with pytest.raises(ValueError, match="window of the same size"):
        under(model, Patch(donor, 0, everything), short)


def test_agents_play_under_an_intervention():
    task = get_task("gamble")
    config = DecisionConfig(
        task.observation_size, task.action_size, context_length=3, horizon=5, width=8, layers=2,
        discrete=True, return_scale=5.0,
    )  # fmt: skip
    torch.manual_seed(1)
    model = louder(DecisionTransformer(config))

    def first_scores(target):
        agent = DecisionAgent(model, np.array([target]))
        agent.reset(1)
        return agent.scores(task.pack(task.make().reset(seed=0)[0])[None])[0]

    # Neither action is preferred whatever is asked.
    model.predict_action.bias.data -= (first_scores(50.0) + first_scores(-50.0)) / 2
    seeds = list(range(40))

    def play(target, probe):
        agent = DecisionAgent(model, np.full(len(seeds), target))
        with probing(model, probe):
            return rollout(agent, task, seeds).returns

    free = rollout(DecisionAgent(model, np.full(len(seeds), 50.0)), task, seeds).returns
    assert np.array_equal(play(50.0, Probe()), free)
    blind = Knockout(keys_of_kind(0, 3))
    assert np.array_equal(play(50.0, blind), play(-50.0, blind))
    assert not np.array_equal(play(50.0, Probe()), play(-50.0, Probe()))


def test_planners_plan_under_an_intervention():
    model = leap()
    seen = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)

    def plans(probe):
        agent = LeapAgent(model, GibbsConfig(iterations=6))
        agent.reset(30)
        with probing(model, probe):
            return agent.plan(seen).actions

    free = LeapAgent(model, GibbsConfig(iterations=6))
    free.reset(30)
    assert np.array_equal(plans(Probe()), free.plan(seen).actions)
    assert not np.array_equal(plans(Silence()), free.plan(seen).actions)


def test_runs_play_under_a_named_intervention(tmp_path):
    task = get_task("babyai-gotolocal-s7n5")
    dataset = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
    for method, named in INTERVENTIONS.items():
        shape = {"plan_length": 3, "heads": 2} if method == "leap" else {"context_length": 3}
        torch.manual_seed(0)
        model = METHODS[method].make(task, dataset, width=8, layers=2, **shape)
        save_model(tmp_path / "m.safetensors", louder(model), {})
        path = tmp_path / "m.safetensors"
        for name in named:
            agent = agent_maker(METHODS[method], {"intervention": name}, path)(np.ones(3))
            layers, change = set(), agent.probe.weights
            agent.probe.weights = lambda n, w, c=change, seen=layers: seen.add(n) or c(n, w)
            rollout(agent, task, [0, 1, 2])
            assert layers == {0, 1}, name
            assert agent.model.transformer.probe is None
        make = agent_maker(METHODS[method], {"intervention": "no retuns"}, path)
        with pytest.raises(UnknownName, match="unknown intervention 'no retuns'"):
            make(np.ones(1))


def test_effects_by_hand():
    before, after = torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]])
    torch.testing.assert_close(distribution_change(before, after), torch.tensor([0.5]))
    change = action_change(
        torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 8.0]]), torch.tensor([1.0, 2.0])
    )
    torch.testing.assert_close(change, torch.tensor([12.5]).sqrt())
