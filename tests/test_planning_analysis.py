"""Open-loop prediction and the cost of a decision."""

import dataclasses

import numpy as np
import pytest
import torch
from test_trajectory import SMALL, episodes, model_of, tokens_of
from torch.utils.flop_counter import FlopCounterMode

from helpers.analysis import open_loop as analysis
from helpers.analysis.cost import (
    beam_cost,
    beam_memory,
    beam_milliseconds,
    block_operations,
    block_work,
    decision_cost,
    decision_milliseconds,
    gibbs_cost,
    gibbs_work,
    largest_tensor,
    milliseconds,
    power_law,
    recomputing_cost,
)
from helpers.analysis.open_loop import open_loop, simulate
from helpers.data.catalogue import load_dataset
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.decoding import Decoder
from helpers.models.leap import Leap, LeapConfig, PlaceReader
from helpers.models.transformer import Transformer, TransformerConfig
from helpers.planning.beam import BeamConfig, BeamPlanner
from helpers.planning.gibbs import GibbsConfig
from helpers.tasks import get_task

DATA = episodes((9, 12), (False, False))


def by_full_passes(model, tokens: torch.Tensor, actions: np.ndarray) -> list[np.ndarray]:
    """Greedy prediction, one full pass a token, the window sliding as in `open_loop`."""
    found = []
    for action in actions:
        tokens = torch.cat([tokens, torch.from_numpy(action)[None]], 1)
        for _ in range(2 + SMALL.observation_size):
            tokens = torch.cat([tokens, model(tokens)[:, -1, :-1].argmax(-1, keepdim=True)], 1)
        found.append(tokens[0, -SMALL.observation_size :].numpy())
        tokens = tokens[:, -(2 * SMALL.step_size + SMALL.observation_size) :]
    return found


def test_imagination_equals_full_passes_of_the_model():
    model = model_of()
    starts = np.array([3, 12])
    result = open_loop(model, DATA, starts, context=2, horizon=4)
    encoded = model.discretiser.encode(analysis.columns(DATA, SMALL))
    centres = model.discretiser.centres
    for i, start in enumerate(starts):
        past = np.concatenate([encoded[start - 2 : start].ravel(), encoded[start, :3]])
        with torch.inference_mode():
            found = by_full_passes(
                model, torch.from_numpy(past)[None], encoded[start : start + 4, 3:5]
            )
        assert np.allclose(result.predicted[i], centres[np.arange(3), np.stack(found)])
        assert np.allclose(result.recorded[i], DATA.observations[start + 1 : start + 5])
        assert np.allclose(result.recorded_rewards[i], DATA.rewards[start : start + 4])


def test_errors_by_hand():
    result = open_loop(model_of(), DATA, np.array([3]), context=2, horizon=2)
    scale = np.array([1.0, 2.0, 4.0])
    gap = (result.predicted[0, 1] - result.recorded[0, 1]) / scale
    assert result.errors(scale)[0, 1] == pytest.approx(np.sqrt((gap**2).mean()))
    still = (DATA.observations[3] - DATA.observations[5]) / scale
    assert result.errors_of_standing_still(scale)[0, 1] == pytest.approx(np.sqrt((still**2).mean()))


def test_warm_predictions_vary_with_the_seed():
    def predict(**options):
        return open_loop(
            model_of(), DATA, np.array([3, 4]), context=2, horizon=3, **options
        ).predicted

    assert np.array_equal(predict(), predict(seed=1))
    warm = {"temperature": 1.0}
    assert np.array_equal(predict(**warm), predict(**warm))
    assert not np.array_equal(predict(**warm), predict(**warm, seed=1))


@pytest.mark.parametrize("start", [1, 8, 10, 20])
def test_windows_must_stay_in_their_episode(start):
    with pytest.raises(ValueError, match="leaves its episode"):
        open_loop(model_of(), DATA, np.array([start]), context=2, horizon=3)


def test_the_context_must_leave_room():
    with pytest.raises(ValueError, match="leaves no room"):
        open_loop(model_of(), DATA, np.array([5]), context=3, horizon=2)


@pytest.mark.parametrize("search", [
    BeamConfig(beam_width=1, expansions=1, horizon=1, context=2),
    BeamConfig(beam_width=3, expansions=2, horizon=2, context=1),
    BeamConfig(beam_width=4, expansions=3, horizon=3, context=0),
])  # fmt: skip
def test_the_counted_cost_is_what_the_planner_does(search, monkeypatch):
    model, calls = model_of(), []
    step, prefill = Decoder.step, Decoder.prefill
    monkeypatch.setattr(
        Decoder, "step", lambda self, x, *a, **o: calls.append(x.shape[1]) or step(self, x, *a, **o)
    )
    monkeypatch.setattr(
        Decoder, "prefill", lambda self, x, *a: calls.append(x.shape[1]) or prefill(self, x, *a)
    )
    length = search.context * SMALL.step_size + SMALL.observation_size
    planner = BeamPlanner(model, search)
    planner.plan(tokens_of(SMALL, 1, length), torch.Generator().manual_seed(0))
    cost = beam_cost(SMALL, search, search.context)
    assert (len(calls), sum(calls)) == (cost.passes, cost.tokens)


def test_recomputing_by_hand():
    """One action of two tokens from three observation tokens: 3 + 4 + 5 + 6 tokens, per beam."""
    search = BeamConfig(beam_width=1, expansions=2, horizon=1, context=0)
    cost = recomputing_cost(SMALL, search, 0)
    assert (cost.passes, cost.tokens) == (4, 2 * (3 + 4 + 5 + 6))


def test_cost_grows_in_proportion_to_the_beam():
    costs = [
        beam_cost(SMALL, BeamConfig(beam_width=k), 1).tokens - (SMALL.step_size + 3)
        for k in (1, 2, 4)
    ]
    assert costs[1] == 2 * costs[0] and costs[2] == 4 * costs[0]
    assert decision_cost(DecisionConfig(context_length=20)).tokens == 59


def test_times_are_measured():
    search = BeamConfig(beam_width=2, horizon=2, context=1)
    assert beam_milliseconds(model_of(), search, 1, rounds=1) > 0
    small = DecisionConfig(context_length=3, width=16, layers=1)
    assert decision_milliseconds(DecisionTransformer(small).eval(), rounds=2) > 0


def test_power_laws_are_recovered():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert power_law(x, 3 * x**1.5) == pytest.approx((1.5, 3.0))


def test_multiplications_of_a_token():
    """12 D^2 weights a layer, a multiplication and an addition each."""
    cost = dataclasses.replace(decision_cost(DecisionConfig()), tokens=1)
    assert cost.multiplications(DecisionConfig().core) == 2 * 12 * 128**2 * 3


# --- the simulator as a model --------------------------------------------------------------------


def test_the_simulator_gives_the_recording_back():
    data = load_dataset("halfcheetah/medium", sample=True)
    starts = np.array([5, 700])
    actions = data.actions[starts[:, None] + np.arange(8)]
    found = simulate(get_task("halfcheetah"), data.observations[starts], actions)
    recorded = data.observations[starts[:, None] + np.arange(1, 9)]
    assert np.allclose(found, recorded, atol=1e-6)
    moved = simulate(get_task("halfcheetah"), data.observations[starts] + 1e-3, actions)
    assert (np.abs(moved - recorded).max(axis=2) > 1e-4).all()


def test_an_observation_must_be_the_state():
    with pytest.raises(ValueError, match="'gamble' does not give the simulator's state"):
        simulate(get_task("gamble"), np.zeros((1, 6)), np.zeros((1, 2, 1)))


# --- blocks, plans and clocks --------------------------------------------------------------------


@pytest.mark.parametrize(("iterations", "chains"), [(1, 1), (4, 1), (3, 2)])
def test_the_counted_cost_of_a_plan_is_what_the_planner_does(iterations, chains, monkeypatch):
    calls, original = [], PlaceReader.__call__

    def counted(self, plans, places, owner):
        calls.append(plans.numel() + len(plans))  # each with its state in front
        return original(self, plans, places, owner)

    monkeypatch.setattr(PlaceReader, "__call__", counted)
    shape = LeapConfig(3, 4, plan_length=5, width=8, layers=2, heads=2)
    search = GibbsConfig(iterations=iterations, chains=chains, sampler="gibbs")
    gibbs_work(Leap(shape), search, torch.zeros(1, 3))()
    cost = gibbs_cost(shape, search)
    assert (len(calls), sum(calls)) == (cost.passes, cost.tokens)


def test_the_counted_memory_is_what_the_planner_sets_aside():
    search = BeamConfig(beam_width=3, expansions=2, horizon=2, context=1)
    model = model_of()
    planner = BeamPlanner(model, search)
    past = tokens_of(SMALL, 1, SMALL.step_size + SMALL.observation_size)
    visible = model.allowed(past.shape[1])[0, 0, -1]
    _, context = planner.decoder.prefill(model.embed(past), visible)
    kept = [context, *planner.memory(1)]
    size = sum(segment.keys.nbytes + segment.values.nbytes for segment in kept)
    assert size == beam_memory(SMALL, search, 1)


def block(heads: int = 4) -> Transformer:
    torch.manual_seed(0)
    return Transformer(TransformerConfig(width=32, layers=1, heads=heads, dropout=0.0)).eval()


def test_operations_of_a_block_are_those_that_pytorch_counts():
    for length in (6, 40):
        with FlopCounterMode(display=False) as counter:
            block_work(block(), length, "exact")()
        assert counter.get_total_flops() == sum(block_operations(np.array([length]), 32))
    linear, square = block_operations(np.array([6 * 32, 12 * 32]), 32)
    assert np.allclose(square / linear, [1, 2]), "they are equal at L = 6 D"


@torch.inference_mode()
def test_kinds_of_attention_give_the_same_where_they_should():
    results = {}
    for kind in ("fused", "exact", "banded", "none"):
        torch.manual_seed(1)
        results[kind] = block_work(core := block(), 20, kind, window=20)()
    assert torch.allclose(results["fused"], results["exact"], atol=1e-5)
    assert torch.allclose(core.norm(results["banded"]), results["fused"], atol=1e-5)
    assert not torch.allclose(core.norm(results["none"]), results["fused"], atol=1e-3)
    with pytest.raises(ValueError, match="did you mean banded"):
        block_work(block(), 20, "bandit")


def test_exact_weights_and_masks_need_the_square_and_a_band_does_not():
    sizes = {
        kind: [largest_tensor(block_work(block(), n, kind, window=8)) for n in (256, 512)]
        for kind in ("fused", "exact", "banded", "none")
    }
    assert sizes["exact"] == [4 * 4 * 256**2, 4 * 4 * 512**2], "four heads of four bytes"
    assert sizes["fused"] == [4 * 256**2, 4 * 512**2], "the mask"
    assert sizes["none"] == [4 * 4 * 32 * 256, 4 * 4 * 32 * 512], "the perceptron's middle"
    assert sizes["banded"][1] == 2 * sizes["banded"][0] < sizes["fused"][1]


def test_works_take_turns():
    turns = []
    times = milliseconds([lambda: turns.append("a"), lambda: turns.append("b")], 3)
    assert times.shape == (3, 2) and (times >= 0).all()
    assert "".join(turns) == "ab" * 4, "one turn warms up"


def test_a_short_work_is_repeated():
    done = []
    times = milliseconds([lambda: done.append(sum(range(2000)))], 2, least=5.0)
    assert len(done) > 20 and (times < 5.0).all()
