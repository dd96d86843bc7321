"""Behaviour cloning: the action that the data would take in this state, and nothing else.

The baseline of the Decision Transformer's paper (Chen et al. 2021, sections 4 and 5): a perceptron
of 3 x 256 (ReLU) without memory, and *percentile* cloning, which imitates only the best episodes.
Departures from its code (kzl/decision-transformer at e2d82e6, `mlp_bc.py`): the last state instead
of the last K, and no dropout.

On a partially observable task (Key-to-Door, or a grid level seen through `sight = "view"`) this
policy cannot know what it saw before; that is the point of comparing with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from helpers.data.episodes import Dataset
from helpers.data.transitions import Transitions, best_episodes, make_transitions
from helpers.models.feedforward import (
    Network,
    NetworkConfig,
    check_actions,
    configure,
    fit_encoders,
)
from helpers.tasks import Task


@dataclass(frozen=True)
class ImitationConfig(NetworkConfig):
    """Shape of a cloned policy; the defaults are the paper's."""

    layers: int = 3
    best_share: float = 1.0
    """Share of the data's steps that is imitated: those of the episodes with the highest returns
    (0.1 is the literature's 10 % BC)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.best_share <= 1.0:
            raise ValueError(
                f"best_share is {self.best_share}; choose more than 0 and at most 1 (all episodes)"
            )


class ClonedPolicy(nn.Module):
    """A deterministic policy: a vector in [-1, 1], or the likeliest of the numbered actions."""

    method = "bc"

    def __init__(self, config: ImitationConfig) -> None:
        super().__init__()
        self.config = config
        self.actor = Network(config, config.action_size)

    def forward(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "B A"]:
        """Actions, or the logits of numbered ones."""
        out = self.actor(observations)[0]
        return out if self.config.discrete else torch.tanh(out)

    def act(self, observations: Real[Tensor, "B S"]) -> Float[Tensor, "B A"] | Int[Tensor, " B"]:
        """What to do."""
        out = self(observations)
        return out.argmax(dim=-1) if self.config.discrete else out


def make_imitation(task: Task, dataset: Dataset, **changes: Any) -> ClonedPolicy:
    """A policy shaped for `task`, normalising with the statistics of all of `dataset`.

    Raises:
        ValueError: an unknown or impossible field in `changes`, or actions outside [-1, 1].
    """
    config = configure(ImitationConfig, "behaviour cloning", task, changes)
    check_actions(dataset, config)
    model = ClonedPolicy(config)
    fit_encoders(model, dataset)
    return model


def imitation_transitions(dataset: Dataset, model: ClonedPolicy) -> Transitions:
    """The steps to imitate."""
    return make_transitions(best_episodes(dataset, model.config.best_share))


def imitation_loss(model: ClonedPolicy, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Mean squared error of vectors, cross-entropy of numbered actions."""
    loss = F.cross_entropy if model.config.discrete else F.mse_loss
    return loss(model(batch["observations"]), batch["actions"])


KINDS = {"bc": (ClonedPolicy, ImitationConfig)}
"""What `load_model` may find in a checkpoint of this module."""
