"""Open-loop prediction and the cost of a decision."""

import dataclasses

import numpy as np
import pytest
import torch
from test_trajectory import SMALL, episodes, model_of, tokens_of

from helpers.analysis import open_loop as analysis
from helpers.analysis.cost import (
    beam_cost,
    beam_milliseconds,
    decision_cost,
    decision_milliseconds,
    power_law,
    recomputing_cost,
)
from helpers.analysis.open_loop import open_loop
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.decoding import Decoder
from helpers.planning.beam import BeamConfig, BeamPlanner

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
