"""What a decision costs: passes of the model, tokens, arithmetic, and measured milliseconds."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.leap import Leap, LeapConfig
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.models.transformer import (
    Block,
    Probe,
    Transformer,
    TransformerConfig,
    causal_mask,
)
from helpers.models.windowed import windowed_block
from helpers.names import look_up
from helpers.planning.beam import BeamConfig, BeamPlanner
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner

Work = Callable[[], object]


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


def gibbs_cost(model: LeapConfig, search: GibbsConfig) -> Cost:
    """Of iterative planning: one call an iteration for all chains, and one for their energies.

    The energy of a plan masks each of its H places in turn, so that call holds H sequences a chain.
    """
    sequences = search.chains * (search.iterations + model.plan_length)
    return Cost(passes=search.iterations + 1, tokens=sequences * (1 + model.plan_length))


def beam_memory(model: TrajectoryConfig, search: BeamConfig, context: int) -> int:
    """Bytes of a search's keys and values: the past, two generations of beams, and candidates.

    Value tokens have none, as nobody looks at them.
    """
    seen, beams = model.step_size - 1, search.beam_width
    tokens = context * seen + model.observation_size
    tokens += 2 * beams * search.horizon * seen
    tokens += beams * search.expansions * (model.action_size + 1)
    return 2 * 4 * model.layers * model.width * tokens


def block_operations(
    lengths: Real[np.ndarray, " n"], width: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Floating-point operations of one block on L tokens: with weights, and between tokens.

    Four D x D matrices of attention and eight of the perceptron, 24 L D^2 in all; scores and
    mixing, L x L dot products of D numbers each, 4 L^2 D. They are equal at L = 6 D. Neither the
    number of heads nor a causal mask changes them: kernels compute blocks that are masked in part.
    """
    return 24.0 * lengths * width**2, 4.0 * lengths**2 * width


# --- measured ----------------------------------------------------------------------------------


def decision_work(model: DecisionTransformer) -> Work:
    """A Decision Transformer's decision with a full window."""
    config = model.config
    tokens = torch.randn(1, 3 * config.context_length - 1, config.width)

    @torch.inference_mode()
    def decide() -> None:
        model.act(model.transformer.prepare(tokens))

    return decide


def beam_work(model: TrajectoryTransformer, search: BeamConfig, context: int) -> Work:
    """A beam search from a past of random tokens."""
    shape = model.config
    planner, generator = BeamPlanner(model, search), torch.Generator().manual_seed(0)
    length = context * shape.step_size + shape.observation_size
    past = torch.randint(shape.bins, (1, length), generator=generator)
    return lambda: planner.plan(past, generator)


def gibbs_work(model: Leap, search: GibbsConfig, observations: Real[Tensor, "1 S"]) -> Work:
    """Iterative planning for one environment, its encoder of observations included."""
    planner, generator = GibbsPlanner(model, search), torch.Generator().manual_seed(0)
    return lambda: planner.plan(observations, generator)


def block_work(core: Transformer, length: int, attention: str, window: int = 64) -> Work:
    """One block on a sequence of random tokens.

    Args:
        core: of one block and two heads or more, without dropout.
        length: L, tokens.
        attention: fused (PyTorch's kernel, a mask given), exact (weights formed, as an analysis
            needs them), banded (the last `window` tokens), or none (every token keeps its own
            value; the rest of the block alone).
        window: of banded.

    Raises:
        ValueError: another kind of attention.
    """
    x, allowed = torch.randn(1, length, core.norm.normalized_shape[0]), causal_mask(length)
    exact, block = copy.copy(core), core.blocks[0]
    exact.probe = Probe()
    works = {
        "fused": lambda: core(x, allowed),
        "exact": lambda: exact(x, allowed),
        "banded": lambda: windowed_block(block, x, window),
        "none": lambda: block.after_attention(x, _own_values(block, x)),
    }
    return torch.inference_mode()(look_up(works, attention, "kind of attention"))


def _own_values(block: Block, x: Float[Tensor, "1 L D"]) -> Float[Tensor, "1 L D"]:
    """Attention's products with weights, of which the queries and keys are thrown away."""
    values = block.attention.parts(block.norm_attention(x))[2]
    return block.attention.project(values)


def beam_milliseconds(
    model: TrajectoryTransformer, search: BeamConfig, context: int, rounds: int = 3
) -> float:
    """Median time of a decision, after one that warms up."""
    return float(np.median(milliseconds([beam_work(model, search, context)], rounds)))


def decision_milliseconds(model: DecisionTransformer, rounds: int = 20) -> float:
    """Median time of a Decision Transformer's decision with a full window."""
    return float(np.median(milliseconds([decision_work(model)], rounds)))


def milliseconds(
    works: Sequence[Work], rounds: int, least: float = 0.0
) -> Float[np.ndarray, "rounds works"]:
    """Processor times of several works that take turns, after a first turn that warms up.

    With one thread, this is what a clock shows on a core that does nothing else. What other
    programs do to caches and clock speed, they do to all works alike: compare within a round.

    Args:
        works: to be timed.
        rounds: turns of each.
        least: milliseconds that a turn should last; a shorter work is repeated and divided up.
    """
    repeats = [max(1, round(least / max(_milliseconds(work, 1), 1e-3))) for work in works]
    return np.array(
        [
            [_milliseconds(work, n) for work, n in zip(works, repeats, strict=True)]
            for _ in range(rounds)
        ]
    )


def _milliseconds(work: Work, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return 1e3 * (time.process_time() - start) / repeats


class _Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Tensor):
                self.bytes = max(self.bytes, part.nbytes)
        return result


@torch.no_grad()
def largest_tensor(work: Work) -> int:
    """Bytes of the largest tensor that a work makes: exact, and the same on every machine."""
    with _Largest() as seen:
        work()
    return seen.bytes


def power_law(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]
) -> tuple[float, float]:
    """Exponent and factor of y = factor x^exponent, by least squares of the logarithms."""
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return float(exponent), float(np.exp(intercept))
