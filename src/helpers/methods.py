"""Every method that is trained by the common loop: how it is made, trained, stored and played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from helpers.agents import Agent, decision_agent, trajectory_agent
from helpers.data.episodes import Dataset
from helpers.data.windows import Windows, make_windows
from helpers.models import decision, trajectory
from helpers.planning.beam import BeamConfig


@dataclass(frozen=True)
class Method:
    """The five things that a run needs to know."""

    make: Callable[..., nn.Module]
    """Model from task, dataset and changes to its configuration."""
    windows: Callable[[Dataset, Any], Any]
    """Training windows from the dataset and the model."""
    loss: Callable[[Any, dict[str, Tensor]], Tensor]
    save: Callable[[Path, Any, dict[str, Any]], None]
    agent: Callable[[dict[str, Any], Path, np.ndarray], Agent]
    """Agent from the run's planner options, a checkpoint and target returns; can be pickled."""


def _decision_windows(dataset: Dataset, model: decision.DecisionTransformer) -> Windows:
    return make_windows(dataset, model.config.context_length)


def _decision_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    if planner:
        raise ValueError(f"a Decision Transformer does not plan; remove {sorted(planner)}")
    return decision_agent(checkpoint, targets)


def _trajectory_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    return trajectory_agent(checkpoint, targets, BeamConfig(**planner))


METHODS = {
    "dt": Method(
        decision.make_decision,
        _decision_windows,
        decision.decision_loss,
        decision.save_decision,
        _decision_agent,
    ),
    "tt": Method(
        trajectory.make_trajectory,
        trajectory.make_trajectory_windows,
        trajectory.trajectory_loss,
        trajectory.save_trajectory,
        _trajectory_agent,
    ),
}


def agent_maker(
    method: Method, planner: dict[str, Any], checkpoint: Path
) -> Callable[[np.ndarray], Agent]:
    """What `evaluate` calls with the targets of a chunk."""
    return partial(method.agent, planner, checkpoint)
