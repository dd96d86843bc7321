"""Offline datasets in memory and in Minari's format on disk.

A `Dataset` holds all transitions of a set of episodes end to end. It is read from and written to
Minari datasets (HDF5), which other tools can open; whatever enters is checked here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from helpers.files import BadFile, array_hash
from helpers.tasks import Task

FIELDS = ("observations", "actions", "rewards")


@dataclass(frozen=True)
class Dataset:
    """Transitions of E episodes, N steps in all, concatenated in order.

    The last observation of an episode, which no action follows, is in `final_observations`.
    """

    observations: Float[np.ndarray, "N S"]
    actions: Float[np.ndarray, "N A"]
    rewards: Float[np.ndarray, " N"]
    lengths: Int[np.ndarray, " E"]
    terminated: Bool[np.ndarray, " E"]
    """True where the environment ended the episode, False where the time limit did."""
    final_observations: Float[np.ndarray, "E S"]
    seeds: Int[np.ndarray, " E"]
    """Seed given to `reset`, -1 where unknown."""

    @property
    def starts(self) -> Int[np.ndarray, " E"]:
        """Index of the first transition of each episode."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @property
    def returns(self) -> Float[np.ndarray, " E"]:
        """Undiscounted return of each episode."""
        return np.add.reduceat(self.rewards, self.starts)

    def returns_to_go(self) -> Float[np.ndarray, " N"]:
        """Undiscounted sum of rewards from each step to the end of its episode."""
        suffix = np.cumsum(self.rewards[::-1], dtype=np.float64)[::-1]
        ends = self.starts + self.lengths
        after = np.append(suffix, 0.0)[ends]
        return suffix - np.repeat(after, self.lengths)

    def content_hash(self) -> str:
        """SHA-256 of all arrays: two collections with one seed must agree on it."""
        return array_hash({name: getattr(self, name) for name in self.__dataclass_fields__})

    def select(self, episodes: Sequence[int]) -> Dataset:
        """The given episodes, in the given order."""
        chosen = list(episodes)
        steps = [np.arange(self.starts[e], self.starts[e] + self.lengths[e]) for e in chosen]
        rows = np.concatenate(steps) if steps else np.zeros(0, int)
        per_step = {name: getattr(self, name)[rows] for name in FIELDS}
        names = ("lengths", "terminated", "final_observations", "seeds")
        return Dataset(**per_step, **{name: getattr(self, name)[chosen] for name in names})


def join(parts: list[Dataset]) -> Dataset:
    """All episodes of `parts`, in order."""
    fields = Dataset.__dataclass_fields__
    return Dataset(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in fields})


def check(dataset: Dataset, source: str | Path, task: Task | None = None) -> Dataset:
    """Return `dataset` unchanged if it is usable.

    Raises:
        BadFile: no episodes, an episode of length 0, NaN or infinite values, lengths that do not
            add up, or shapes that do not fit `task`; names the source, the field and the place.
    """
    if len(dataset.lengths) == 0:
        raise BadFile(f"{source}: the dataset has no episodes; collect it again")
    if (dataset.lengths <= 0).any():
        index = int(np.argmin(dataset.lengths))
        raise BadFile(f"{source}: episode {index} has length 0; remove it or collect it again")
    steps = int(dataset.lengths.sum())
    for name in FIELDS:
        array = getattr(dataset, name)
        if len(array) != steps:
            raise BadFile(
                f"{source}: {name} has {len(array)} rows but the episode lengths add up to {steps}"
            )
        bad = ~np.isfinite(array.reshape(steps, -1)).all(axis=1)
        if bad.any():
            step = int(np.argmax(bad))
            episode = int(np.searchsorted(np.cumsum(dataset.lengths), step, side="right"))
            raise BadFile(
                f"{source}: {name} has NaN or infinite values in {int(bad.sum())} steps, the first "
                f"in episode {episode} at step {step - int(dataset.starts[episode])}; "
                "drop those episodes or collect them again"
            )
    if task is not None:
        for name, size in (("observations", task.observation_size), ("actions", task.action_size)):
            shape = getattr(dataset, name).shape
            if len(shape) != 2 or shape[1] != size:
                raise BadFile(
                    f"{source}: {name} have shape {shape}, but task {task.name!r} "
                    f"({task.env_id}) needs (steps, {size}); choose the dataset's own task"
                )
    return dataset


@contextlib.contextmanager
def _quiet_minari() -> Iterator[None]:
    """Minari warns that local datasets lack a remote; that is how ours are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="minari")
        yield


def write_minari(
    folder: Path, dataset: Dataset, task: Task, dataset_id: str, metadata: dict[str, Any]
) -> None:
    """Write a Minari dataset (HDF5) into `folder`, whole or not at all.

    `minari.load_dataset(dataset_id)` opens it when MINARI_DATASETS_PATH is the parent of the id.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    temporary = folder.parent / f".{folder.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "data").mkdir(parents=True)
    env = task.make()
    try:
        with _quiet_minari():
            storage = MinariStorage.new(
                temporary / "data", env.observation_space, env.action_space, env_spec=env.spec
            )
            storage.update_episodes(_buffers(dataset, EpisodeBuffer))
            made = {"dataset_id": dataset_id, "minari_version": minari.__version__}
            storage.update_metadata({**made, **metadata})
        # A rename onto a full folder fails, so the old one steps aside first.
        old = folder.parent / f".{folder.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write the dataset {folder}: {error}; what was there before is unchanged. "
            "Free some space and run the command again",
        ) from error
    finally:
        env.close()
        shutil.rmtree(temporary, ignore_errors=True)


def _buffers(dataset: Dataset, buffer_type: type) -> Iterator[Any]:
    for i, (start, length) in enumerate(zip(dataset.starts, dataset.lengths, strict=True)):
        steps = slice(start, start + length)
        last = np.arange(length) == length - 1
        seed = int(dataset.seeds[i])
        yield buffer_type(
            id=i,
            seed=seed if seed >= 0 else None,
            observations=np.concatenate(
                [dataset.observations[steps], dataset.final_observations[i : i + 1]]
            ),
            actions=dataset.actions[steps],
            rewards=dataset.rewards[steps],
            terminations=last & dataset.terminated[i],
            truncations=last & ~dataset.terminated[i],
        )


def read_minari(folder: Path, task: Task | None = None) -> Dataset:
    """Read a Minari dataset.

    Raises:
        BadFile: missing, cut short, or failing `check`.
    """
    import h5py
    from minari.dataset.minari_storage import MinariStorage

    main = folder / "data" / "main_data.hdf5"
    if not main.is_file():
        raise BadFile(f"{main}: no such file; this folder holds no Minari dataset")
    parts = []
    try:
        with _quiet_minari():
            storage = MinariStorage.read(folder / "data")
            with h5py.File(main) as file:
                for i in range(storage.total_episodes):
                    parts.append(_read_episode(file[f"episode_{i}"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadFile(
            f"{main}: cannot be read as a Minari dataset ({error}); it was cut short or altered: "
            "delete the folder and collect or download it again"
        ) from error
    if not parts:
        raise BadFile(f"{main}: the dataset has no episodes; collect it again")
    return check(join(parts), main, task)


def _read_episode(group: Any) -> Dataset:
    """One HDF5 group of Minari's layout; read directly, since Minari copies every episode twice."""
    observations = group["observations"][()]
    rewards = group["rewards"][()]
    length = len(rewards)
    terminations = group["terminations"][()]
    return Dataset(
        observations=observations[:length],
        actions=group["actions"][()],
        rewards=rewards,
        lengths=np.array([length], np.int64),
        terminated=np.array([bool(terminations[-1]) if length else False]),
        final_observations=observations[-1:],
        seeds=np.array([group.attrs.get("seed", -1)], np.int64),
    )
