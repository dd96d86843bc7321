"""For programs that use the package: a run that stands in no `experiments.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.data.catalogue import get_spec
from helpers.experiments import Run, unknown_fields
from helpers.methods import METHODS
from helpers.names import look_up
from helpers.train import TrainConfig


def own_run(
    dataset: str,
    method: str = "dt",
    seed: int = 0,
    *,
    steps: int = 10_000,
    episodes: int = 20,
    target: float | None = None,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    planner: Mapping[str, Any] | None = None,
) -> Run:
    """A run that stands in no `experiments.toml`; `obtain(run, "full")` trains and evaluates it.

    Args:
        dataset: of the book (halfcheetah/medium), or a Minari id on this machine (my/set-v0).
        method: one of `helpers.methods.METHODS`.
        seed: of the run.
        steps: of the training; a tenth of them, but at most 10,000, warms up.
        episodes: of the evaluation.
        target: return that is asked for; default the task's, which for a Minari dataset is the
            best of the data.
        model: changes to the method's default configuration.
        train: changes to the default `TrainConfig`.
        planner: changes to the planner's default configuration.

    Raises:
        UnknownName: no such dataset or method.
        ValueError: an unknown name in `train`.
    """
    look_up(METHODS, method, "method")
    if what := unknown_fields(train or {}, TrainConfig):
        raise ValueError(f"train has {what}")
    return Run(
        experiment=f"own-{method}",
        task=get_spec(dataset).task,
        dataset=dataset,
        method=method,
        seed=seed,
        model=dict(model or {}),
        train={"steps": steps, "warmup_steps": min(10_000, steps // 10), **(train or {})},
        evaluation={"episodes": episodes, "checks": 1, "check_episodes": 1, "target": target},
        planner=dict(planner or {}),
    )
