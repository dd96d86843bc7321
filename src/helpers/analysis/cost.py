"""What a decision costs: passes of the model, tokens, arithmetic, and measured milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.models.transformer import TransformerConfig
from helpers.planning.beam import BeamConfig, BeamPlanner


@dataclass(frozen=True)
class Cost:
    """Of one decision in one environment."""

    passes: int
    """Times that the model is called, one after another."""
    tokens: int
    """Tokens that go through all layers, summed over calls and beams."""

    def multiplications(self, core: TransformerConfig) -> float:
        """Floating-point operations of the products with weights; attention comes on top."""
        return 2.0 * self.tokens * 12 * core.layers * core.width**2


def beam_cost(model: TrajectoryConfig, search: BeamConfig, context: int) -> Cost:
    """Of a beam search from `context` whole steps and an observation, with kept keys and values.

    Linear in the beam width, as the number of beams enters every decoded token once.
    """
    candidates = search.beam_width * search.expansions
    deciding = search.horizon * (model.action_size + 1)
    imagining = (search.horizon - 1) * (model.observation_size + 1)
    prefix = context * model.step_size + model.observation_size
    return Cost(
        passes=1 + deciding + imagining,
        tokens=prefix + deciding * candidates + imagining * search.beam_width,
    )


def recomputing_cost(model: TrajectoryConfig, search: BeamConfig, context: int) -> Cost:
    """Of the same search when every token passes the whole sequence of every beam again."""
    candidates = search.beam_width * search.expansions
    length = context * model.step_size + model.observation_size
    passes = tokens = 0
    for step in range(search.horizon):
        decisions = model.action_size + 2
        passes += decisions
        tokens += candidates * sum(range(length, length + decisions))
        length += decisions
        if step < search.horizon - 1:
            passes += model.observation_size
            tokens += search.beam_width * sum(range(length, length + model.observation_size))
            length += model.observation_size
    return Cost(passes, tokens)


def decision_cost(model: DecisionConfig) -> Cost:
    """Of a Decision Transformer: its window once, without the last action."""
    return Cost(passes=1, tokens=3 * model.context_length - 1)


def beam_milliseconds(
    model: TrajectoryTransformer, search: BeamConfig, context: int, rounds: int = 3
) -> float:
    """Median time of a decision, after one that warms up."""
    shape = model.config
    planner, generator = BeamPlanner(model, search), torch.Generator().manual_seed(0)
    length = context * shape.step_size + shape.observation_size
    past = torch.randint(shape.bins, (1, length), generator=generator)
    return _milliseconds(lambda: planner.plan(past, generator), rounds)


def decision_milliseconds(model: DecisionTransformer, rounds: int = 20) -> float:
    """Median time of a Decision Transformer's decision with a full window."""
    config = model.config
    tokens = torch.randn(1, 3 * config.context_length - 1, config.width)

    @torch.inference_mode()
    def decide() -> None:
        model.act(model.transformer.prepare(tokens))

    return _milliseconds(decide, rounds)


def _milliseconds(work: Callable[[], object], rounds: int) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def power_law(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]
) -> tuple[float, float]:
    """Exponent and factor of y = factor x^exponent, by least squares of the logarithms."""
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return float(exponent), float(np.exp(intercept))
