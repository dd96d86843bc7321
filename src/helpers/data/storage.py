"""Datasets on disk: Minari's HDF5 format, which other tools open, and memory-mapped arrays.

Minari's format keeps every episode apart, so that reading a set of 10,000 episodes takes tens of
thousands of small reads. The first time a set is opened, its episodes are checked and laid end to
end in plain `.npy` files; after that it is open at once, and no larger in memory than what is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from helpers import paths
from helpers.data.episodes import FIELDS, Dataset, check, join
from helpers.envs.grids import decode_mission, encode_mission, unpack
from helpers.files import BadFile, read_json, write_json
from helpers.tasks import Task

Arrays = dict[str, np.ndarray]
MAIN = Path("data") / "main_data.hdf5"


@contextlib.contextmanager
def quiet_minari() -> Iterator[None]:
    """Minari warns that local datasets lack a remote; that is how ours are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="minari")
        yield


# --- writing -----------------------------------------------------------------------------------


def write_minari(
    folder: Path, dataset: Dataset, task: Task, dataset_id: str, metadata: dict[str, Any]
) -> None:
    """Write a Minari dataset (HDF5) into `folder`, whole or not at all.

    `minari.load_dataset(dataset_id)` opens it when MINARI_DATASETS_PATH is the parent of the id.
    """
    import minari
    from minari.dataset.minari_storage import MinariStorage

    env = task.make()
    try:
        with replacing_folder(folder) as temporary, quiet_minari():
            (temporary / "data").mkdir()
            storage = MinariStorage.new(
                temporary / "data",
                env.observation_space,
                env.action_space,
                env_spec=env.spec,
                jpeg_encoding=False,
            )
            _write_episodes(temporary / MAIN, dataset, task)
            sizes = {"total_episodes": len(dataset.lengths), "total_steps": len(dataset.rewards)}
            made = {"dataset_id": dataset_id, "minari_version": minari.__version__}
            storage.update_metadata({**made, **sizes, **metadata})
            storage.update_metadata({"dataset_size": storage.get_size()})
    finally:
        env.close()


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well.

    Raises:
        OSError: the disk is full or cannot be written; what was there before is unchanged.
    """
    temporary = folder.parent / f".{folder.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
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
        shutil.rmtree(temporary, ignore_errors=True)


def _write_episodes(path: Path, dataset: Dataset, task: Task) -> None:
    """Minari's layout, with contiguous arrays.

    Minari's own writer makes every array growable: 27 kB an episode of five steps instead of 5.
    """
    with h5py.File(path, "w", libver="latest") as file:
        for i, (start, length) in enumerate(zip(dataset.starts, dataset.lengths, strict=True)):
            steps = slice(start, start + length)
            last = np.arange(length) == length - 1
            group = file.create_group(f"episode_{i}")
            group.attrs.update(id=i, total_steps=length)
            if dataset.seeds[i] >= 0:
                group.attrs["seed"] = dataset.seeds[i]
            observations = np.concatenate(
                [dataset.observations[steps], dataset.final_observations[i : i + 1]]
            )
            if task.layout:
                parts = group.create_group("observations")
                for name, part in _natural(observations, task).items():
                    parts.create_dataset(name, data=part)
            else:
                group.create_dataset("observations", data=observations)
            group.create_dataset("actions", data=dataset.actions[steps])
            group.create_dataset("rewards", data=dataset.rewards[steps])
            group.create_dataset("terminations", data=last & dataset.terminated[i])
            group.create_dataset("truncations", data=last & ~dataset.terminated[i])
            group.create_group("infos")


def _natural(observations: np.ndarray, task: Task) -> Arrays:
    """The parts of packed observations as the environment gives them; missions as text."""
    parts = unpack(observations, task.layout)
    missions = [decode_mission(tokens) for tokens in parts["mission"]]
    return {**parts, "mission": np.array(missions, "S")}


# --- reading -----------------------------------------------------------------------------------


def read_minari(folder: Path, task: Task) -> Dataset:
    """Read a Minari dataset into memory.

    Raises:
        BadFile: missing, cut short, or failing `check`; names the episode and the field.
    """
    main = folder / MAIN
    with _opened(folder) as (file, episodes):
        parts = [_read_episode(file, i, main, task) for i in range(episodes)]
    return check(join(parts), main, task)


def open_minari(folder: Path, task: Task) -> Dataset:
    """As `read_minari`, but memory-mapped: arrays are files, read where they are looked at.

    The files are made on the first call, under data/.work/arrays, and again when the set changes;
    of several processes that open it at once, the others wait for the first.

    Raises:
        BadFile: as `read_minari`.
    """
    main = folder / MAIN
    if not main.is_file():
        raise BadFile(f"{main}: no such file; this folder holds no Minari dataset")
    status = main.stat()
    stamp = {"source": str(main), "bytes": status.st_size, "changed": status.st_mtime_ns,
             "task": task.name}  # fmt: skip
    arrays = paths.WORK / "arrays" / dataset_name(folder)
    if not _stamped(arrays, stamp):
        arrays.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(arrays.parent / f".{arrays.name}.lock"):
            if not _stamped(arrays, stamp):
                with replacing_folder(arrays) as temporary:
                    _lay_end_to_end(folder, task, temporary)
                    write_json(temporary / "stamp.json", stamp)
    return Dataset(**{name: _mapped(arrays, name) for name in Dataset.__dataclass_fields__})


def _stamped(arrays: Path, stamp: dict[str, Any]) -> bool:
    """Whether these arrays were made from the very file that the stamp describes."""
    try:
        return read_json(arrays / "stamp.json") == stamp
    except BadFile:  # not there, or just being replaced by another process
        return False


def dataset_name(folder: Path) -> str:
    """The part of a dataset's path that is its id, from its metadata."""
    return read_json(folder / "data" / "metadata.json").get("dataset_id", folder.name)


def _mapped(folder: Path, name: str) -> np.ndarray:
    # Copy on write: torch refuses arrays that it could not write to.
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c"))


def _lay_end_to_end(folder: Path, task: Task, target: Path) -> None:
    """Check the episodes one block after the other and copy them into one file per field."""
    main = folder / MAIN
    block = 100
    with _opened(folder) as (file, episodes):
        lengths = [len(_field(file, i, "rewards", main)) for i in range(episodes)]
        out: Arrays = {}
        step = 0
        starts = range(0, episodes, block)
        for first in tqdm(starts, desc=f"opening {folder.name}", disable=len(starts) < 20):
            numbers = range(first, min(first + block, episodes))
            part = check(join([_read_episode(file, i, main, task) for i in numbers]), main, task)
            for name in Dataset.__dataclass_fields__:
                values = getattr(part, name)
                rows, place = (sum(lengths), step) if name in FIELDS else (episodes, first)
                if name not in out:
                    out[name] = np.lib.format.open_memmap(
                        target / f"{name}.npy", "w+", values.dtype, (rows, *values.shape[1:])
                    )
                out[name][place : place + len(values)] = values
            step += len(part.rewards)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[h5py.File, int]]:
    """The HDF5 file of a dataset and its number of episodes."""
    main = folder / MAIN
    if not main.is_file():
        raise BadFile(f"{main}: no such file; this folder holds no Minari dataset")
    try:
        with h5py.File(main) as file:
            episodes = sum(name.startswith("episode_") for name in file)
            if episodes == 0:
                raise BadFile(f"{main}: the dataset has no episodes; collect it again")
            yield file, episodes
    except BadFile:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadFile(
            f"{main}: cannot be read as a Minari dataset ({error}); it was cut short or altered: "
            "delete the folder and collect or download it again"
        ) from error


def read_lengths_and_returns(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps and undiscounted return of every episode."""
    main = folder / MAIN
    with _opened(folder) as (file, episodes):
        rewards = [_field(file, i, "rewards", main)[()] for i in range(episodes)]
    return np.array([len(r) for r in rewards]), np.array([float(np.sum(r)) for r in rewards])


def _field(file: h5py.File, episode: int, name: str, main: Path) -> Any:
    group = file[f"episode_{episode}"]
    if name not in group:
        raise BadFile(
            f"{main}: episode {episode} has no {name} (it has {', '.join(sorted(group))}); "
            "record the dataset again with them"
        )
    return group[name]


def _read_episode(file: h5py.File, episode: int, main: Path, task: Task) -> Dataset:
    """One HDF5 group of Minari's layout; read directly, since Minari copies every episode twice."""
    fields = {
        name: _field(file, episode, name, main)
        for name in ("observations", *FIELDS[1:], "terminations", "truncations")
    }
    rewards = fields["rewards"][()]
    length = len(rewards)
    terminated, truncated = (
        bool(length and fields[name][-1]) for name in ("terminations", "truncations")
    )
    if length and not (terminated or truncated):
        raise BadFile(
            f"{main}: episode {episode} ends with neither a termination nor a truncation, so its "
            "return-to-go is unknown; drop it, or mark its last step as truncated if the time "
            "limit ended it"
        )
    observations = _packed(fields["observations"], episode, main, task)
    return Dataset(
        observations=observations[:length],
        actions=fields["actions"][()],
        rewards=np.asarray(rewards, np.float64),
        lengths=np.array([length], np.int64),
        terminated=np.array([terminated]),
        final_observations=observations[-1:],
        seeds=np.array([file[f"episode_{episode}"].attrs.get("seed", -1)], np.int64),
    )


def _packed(stored: Any, episode: int, main: Path, task: Task) -> np.ndarray:
    """Observations of an episode as vectors."""
    if not isinstance(stored, Mapping):
        values = stored[()]
        return values.reshape(len(values), -1)
    missing = set(task.layout) - set(stored)
    if missing or not task.layout:
        raise BadFile(
            f"{main}: observations of episode {episode} have the parts {', '.join(sorted(stored))}"
            f", but task {task.name!r} needs {', '.join(task.layout) or 'plain vectors'}"
        )
    parts = []
    for name in task.layout:
        values = stored[name][()]
        if name == "mission":
            try:
                values = np.stack([encode_mission(text.decode()) for text in values])
            except ValueError as error:
                raise BadFile(f"{main}: episode {episode}: {error}") from error
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts, axis=1)
