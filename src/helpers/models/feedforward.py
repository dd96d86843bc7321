"""Memoryless networks: what BC, CQL and IQL are made of, how they are configured and stored.

A network is an encoder of the observation and a stack of perceptrons behind it. The perceptrons of
twin critics have stacked weights: one batched product a layer instead of a loop over networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.data.windows import observation_statistics
from helpers.models.grid_encoder import GridEncoder, GridEncoderConfig
from helpers.tasks import Task

SMALLEST_STD = 1e-3
"""An observation entry that varies less is only centred: what the data never showed must not
become a huge number (a cell of a maze that no episode visits)."""


@dataclass(frozen=True)
class NetworkConfig:
    """What all memoryless methods have in common."""

    observation_size: int = 17
    action_size: int = 6
    discrete: bool = False
    """Actions are numbers 0 to A - 1."""
    grid_size: int = 0
    """Cells along an edge of a grid level; 0 where observations are vectors of numbers."""
    sight: str = "grid"
    """What is seen of a grid level: grid or view (`GridEncoderConfig`)."""
    oracle: bool = False
    """Whether the cell that the mission asks for is marked (`GridEncoderConfig`)."""
    width: int = 256
    layers: int = 2
    """Hidden layers of every network."""

    def __post_init__(self) -> None:
        for name in ("width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; set it to 1 or more")


Config = TypeVar("Config", bound=NetworkConfig)


class VectorEncoder(nn.Module):
    """Normalises observation vectors; nothing here is trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "B S"]:
        """Zero mean and unit variance over the dataset."""
        return (observations.float() - self.mean) / self.std


def make_encoder(config: NetworkConfig) -> tuple[nn.Module, int]:
    """The encoder of a task's observations, and how many features it gives."""
    if not config.grid_size:
        return VectorEncoder(config.observation_size), config.observation_size
    encoder = GridEncoderConfig(config.grid_size, config.width, config.sight, config.oracle)
    return GridEncoder(encoder), config.width


class Perceptrons(nn.Module):
    """`count` multilayer perceptrons of one shape (ReLU), computed together.

    Initialised like `nn.Linear`.
    """

    def __init__(self, count: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.count = count
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            bound = 1.0 / math.sqrt(inputs)
            weight = torch.empty(count, inputs, outputs).uniform_(-bound, bound)
            bias = torch.empty(count, 1, outputs).uniform_(-bound, bound)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))

    def forward(
        self, x: Float[Tensor, "B I"] | Float[Tensor, "count B I"], frozen: bool = False
    ) -> Float[Tensor, "count B O"]:
        """Outputs of all perceptrons, for the same inputs or for inputs of their own.

        Args:
            x: inputs.
            frozen: let gradients reach the inputs and not the weights.
        """
        if x.dim() == 2:
            x = x.expand(self.count, -1, -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = F.relu_(x)
        return x


class Network(nn.Module):
    """An encoder with perceptrons behind it, fed with observations and perhaps actions."""

    def __init__(
        self, config: NetworkConfig, outputs: int, *, action_inputs: int = 0, count: int = 1
    ) -> None:
        super().__init__()
        self.encode, features = make_encoder(config)
        hidden = [config.width] * config.layers
        self.heads = Perceptrons(count, [features + action_inputs, *hidden, outputs])

    def forward(
        self,
        observations: Real[Tensor, "B S"],
        actions: Float[Tensor, "B A"] | None = None,
        frozen: bool = False,
    ) -> Float[Tensor, "count B O"]:
        """Outputs of all heads; `frozen` keeps gradients from the weights."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            x = self.encode(observations)
        if actions is not None:
            x = torch.cat([x, actions], dim=-1)
        return self.heads(x, frozen)


def configure(kind: type[Config], name: str, task: Task, changes: dict[str, Any]) -> Config:
    """A method's configuration, shaped for `task`.

    Raises:
        ValueError: an unknown or impossible field in `changes`.
    """
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"unknown {name} options {unknown}; known: {sorted(known)}")
    shape = {
        "observation_size": task.observation_size,
        "action_size": task.action_size,
        "discrete": task.discrete,
        "grid_size": task.layout["grid"][0] if task.layout else 0,
    }
    return kind(**{**shape, **changes})


def check_actions(dataset: Dataset, config: NetworkConfig) -> None:
    """Continuous policies here end in tanh and can only imitate actions in [-1, 1].

    Raises:
        ValueError: the dataset holds larger ones.
    """
    if config.discrete:
        return
    largest = float(np.abs(dataset.actions).max())
    if largest > 1.0:
        raise ValueError(
            f"actions reach {largest:.3g}, but the policy's lie between -1 and 1; "
            "rescale the environment's actions (gymnasium.wrappers.RescaleAction) and the dataset's"
        )


def fit_encoders(model: nn.Module, dataset: Dataset) -> None:
    """Give all vector encoders of a model the statistics of the data; grids need none."""
    encoders = [module for module in model.modules() if isinstance(module, VectorEncoder)]
    if not encoders:
        return
    mean, std = observation_statistics(dataset)
    std = np.where(std < SMALLEST_STD, 1.0, std).astype(np.float32)
    for encoder in encoders:
        encoder.mean.copy_(torch.from_numpy(mean))
        encoder.std.copy_(torch.from_numpy(std))
