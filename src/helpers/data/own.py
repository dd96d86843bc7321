"""Minari datasets that are not of this book: found by their id, with the task they were made on."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from helpers import paths
from helpers.data.storage import MAIN, quiet_minari, read_lengths_and_returns
from helpers.files import BadFile, read_json
from helpers.tasks import Task


def roots() -> tuple[Path, Path]:
    """Folders that are searched: the book's own, then Minari's."""
    minari = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
    return paths.DATASETS, Path(minari)


def find(dataset_id: str) -> Path:
    """The folder of a Minari dataset on this machine.

    Raises:
        BadFile: it is in none of the folders that are searched.
    """
    for root in roots():
        if (root / dataset_id / MAIN).is_file():
            return root / dataset_id
    places = " or ".join(str(root / dataset_id) for root in roots())
    raise BadFile(
        f"dataset {dataset_id!r} is not here; there is no {places}. "
        f"`python -m helpers download {dataset_id}` fetches public ones"
    )


@lru_cache
def own_task(dataset_id: str) -> Task:
    """The task of a Minari dataset, from the environment and the spaces stored with it.

    Supported are observations that are vectors or dictionaries of arrays, and actions that are
    vectors in [-1, 1] or numbers. The best return of the data is the default target, and the
    largest in size the return's scale.

    Raises:
        BadFile: not found, without an environment, or of another kind.
    """
    from minari.dataset.minari_storage import MinariStorage

    folder = find(dataset_id)
    metadata = read_json(folder / "data" / "metadata.json")
    with quiet_minari():
        storage = MinariStorage.read(folder / "data")
    if not metadata.get("env_spec"):
        raise BadFile(
            f"{folder}: the dataset does not say in which environment it was recorded (env_spec); "
            "record it again with Minari's DataCollector, which stores it"
        )
    spec = EnvSpec.from_json(metadata["env_spec"])
    lengths, returns = read_lengths_and_returns(folder)
    layout = _layout(storage.observation_space, folder)
    action_size, discrete = _actions(storage.action_space, folder)
    return Task(
        name=dataset_id,
        env_id=spec.id,
        observation_size=sum(int(np.prod(shape)) for shape in layout.values()),
        action_size=action_size,
        horizon=max(spec.max_episode_steps or 0, int(lengths.max())),
        return_scale=float(np.abs(returns).max()) or 1.0,
        target_return=float(returns.max()),
        reference_scores=_reference(metadata),
        discrete=discrete,
        layout=layout if isinstance(storage.observation_space, spaces.Dict) else {},
        recorded=spec,
    )


def _layout(space: gymnasium.Space, folder: Path) -> dict[str, tuple[int, ...]]:
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    odd = {name: part for name, part in parts.items() if not isinstance(part, spaces.Box)}
    if odd:
        raise BadFile(
            f"{folder}: observations hold {odd}; only arrays (Box), alone or in a dictionary, can "
            "be used. Wrap the environment so that it gives them, and record again"
        )
    return {name: part.shape for name, part in parts.items()}


def _actions(space: gymnasium.Space, folder: Path) -> tuple[int, bool]:
    """Size of the action vector or number of actions, and whether they are numbers."""
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return int(space.n), True
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        if np.allclose(space.low, -1) and np.allclose(space.high, 1):
            return space.shape[0], False
    raise BadFile(
        f"{folder}: actions are {space}; only vectors in [-1, 1] and Discrete(n) can be used. "
        "gymnasium.wrappers.RescaleAction brings others into that range"
    )


def _reference(metadata: dict[str, Any]) -> tuple[float, float]:
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    return (float(low), float(high)) if low is not None and high is not None else (0.0, 1.0)
