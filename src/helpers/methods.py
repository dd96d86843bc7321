"""Every method that is trained by the common loop: how it is made, trained, stored and played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from helpers.adaptation import AdaptedDecisionAgent, AdaptedLeapAgent, split_options
from helpers.agents import (
    Agent,
    DecisionAgent,
    ElasticAgent,
    LeapAgent,
    memoryless_agent,
    trajectory_agent,
)
from helpers.analysis.disturbances import NoisyAgent, SlippingAgent, action_box
from helpers.analysis.interventions import INTERVENTIONS, ProbedAgent
from helpers.data.episodes import Dataset
from helpers.data.transitions import Transitions, make_transitions
from helpers.data.windows import Windows, make_windows
from helpers.models import (
    decision,
    elastic,
    grid_trajectory,
    imitation,
    leap,
    trajectory,
    value_based,
)
from helpers.models.checkpoints import load_model
from helpers.models.transformer import Probe
from helpers.names import look_up
from helpers.planning.beam import BeamConfig
from helpers.planning.gibbs import GibbsConfig
from helpers.tasks import Task, get_task
from helpers.train import ParameterGroup


@dataclass(frozen=True)
class Method:
    """What a run needs to know of a method."""

    make: Callable[..., nn.Module]
    """Model from task, dataset and changes to its configuration."""
    windows: Callable[[Dataset, Any], Any]
    """Training windows from the dataset and the model."""
    loss: Callable[[Any, dict[str, Tensor]], Tensor]
    agent: Callable[[dict[str, Any], Path, np.ndarray], Agent]
    """Agent from the run's planner options, a checkpoint and target returns; can be pickled."""
    groups: Callable[[Any], list[ParameterGroup]] | None = None
    """Parameters of the model with learning rates of their own; all alike if not given."""
    after_step: Callable[[Any], None] | None = None
    """What moves beside the gradient: target networks."""


def _decision_windows(dataset: Dataset, model: decision.DecisionTransformer) -> Windows:
    return make_windows(dataset, model.config.context_length)


def _decision_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    planner, probe = _split_intervention(planner, "dt")
    rest, adaptation = split_options(planner)
    if rest:
        raise ValueError(f"a Decision Transformer does not plan; remove {sorted(rest)}")
    model, _ = decision.load_decision(checkpoint)
    if adaptation is None:
        agent = DecisionAgent(model, targets)
    else:
        agent = AdaptedDecisionAgent(model, targets, adaptation)
    return ProbedAgent(agent, model, probe) if probe else agent


def _elastic_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    if planner:
        raise ValueError(f"an Elastic Decision Transformer does not plan; remove {sorted(planner)}")
    return ElasticAgent(load_model(checkpoint, elastic.KINDS)[0], targets)


def _make_trajectory(task: Task, dataset: Dataset, **changes: Any) -> nn.Module:
    make = grid_trajectory.make_grid_trajectory if task.grid_size else trajectory.make_trajectory
    return make(task, dataset, **changes)


def _trajectory_windows(
    dataset: Dataset, model: trajectory.TrajectoryTransformer
) -> grid_trajectory.GridWindows | trajectory.TrajectoryWindows:
    if model.config.grid_size:
        return grid_trajectory.make_grid_windows(dataset, model)
    return trajectory.make_trajectory_windows(dataset, model)


def _trajectory_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    search = {name: value for name, value in planner.items() if name != "critic"}
    return trajectory_agent(checkpoint, targets, BeamConfig(**search), planner.get("critic"))


def _leap_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    planner, probe = _split_intervention(planner, "leap")
    search, adaptation = split_options(planner)
    model, _ = leap.load_leap(checkpoint)
    if adaptation is None:
        agent = LeapAgent(model, GibbsConfig(**search))
    else:
        agent = AdaptedLeapAgent(model, GibbsConfig(**search), adaptation)
    return ProbedAgent(agent, model, probe) if probe else agent


def _split_intervention(
    planner: dict[str, Any], method: str
) -> tuple[dict[str, Any], Probe | None]:
    """A run's planner options without `intervention`, and the probe it names."""
    rest = {name: value for name, value in planner.items() if name != "intervention"}
    if len(rest) == len(planner):
        return rest, None
    known = INTERVENTIONS[method]
    return rest, look_up(known, planner["intervention"], "intervention")()


def _transitions(dataset: Dataset, model: value_based.QLearner) -> Transitions:
    return make_transitions(dataset)


def _memoryless_agent(planner: dict[str, Any], checkpoint: Path, targets: np.ndarray) -> Agent:
    if planner:
        raise ValueError(f"a memoryless policy does not plan; remove {sorted(planner)}")
    return memoryless_agent(checkpoint, targets)


METHODS = {
    "dt": Method(
        decision.make_decision,
        _decision_windows,
        decision.decision_loss,
        _decision_agent,
    ),
    "edt": Method(
        elastic.make_elastic,
        _decision_windows,
        elastic.elastic_loss,
        _elastic_agent,
    ),
    "tt": Method(
        _make_trajectory,
        _trajectory_windows,
        trajectory.trajectory_loss,
        _trajectory_agent,
    ),
    "leap": Method(
        leap.make_leap,
        leap.make_plan_windows,
        leap.leap_loss,
        _leap_agent,
    ),
    "bc": Method(
        imitation.make_imitation,
        imitation.imitation_transitions,
        imitation.imitation_loss,
        _memoryless_agent,
    ),
    "cql": Method(
        value_based.make_cql,
        _transitions,
        value_based.cql_loss,
        _memoryless_agent,
        groups=value_based.cql_groups,
        after_step=value_based.QLearner.update_target,
    ),
    "iql": Method(
        value_based.make_iql,
        _transitions,
        value_based.iql_loss,
        _memoryless_agent,
        after_step=value_based.QLearner.update_target,
    ),
}


def agent_maker(
    method: Method, planner: dict[str, Any], checkpoint: Path
) -> Callable[[np.ndarray], Agent]:
    """What `evaluate` calls with the targets of a chunk."""
    return partial(method.agent, planner, checkpoint)


def noisy_agent(
    make: Callable[[np.ndarray], Agent], task: str, noise: float, targets: np.ndarray
) -> Agent:
    """The agents that `make` gives, with a shaking hand, or one that slips; can be pickled.

    Raises:
        ValueError: unbounded actions, or numbered ones and noise that is no chance.
    """
    where = get_task(task)
    if where.discrete:
        return SlippingAgent(make(targets), where.action_size, noise)
    return NoisyAgent(make(targets), action_box(where), noise)
