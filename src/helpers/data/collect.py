"""Make the datasets of the catalogue.

Every episode depends on the dataset's seed and its own number alone, so episodes are collected by
any number of processes, in any order, and an interrupted collection goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from helpers import paths
from helpers.data.behaviours import Choose, get_behaviour
from helpers.data.cards import card, describe
from helpers.data.catalogue import SAMPLE_EPISODES, DatasetSpec, get_spec, load_dataset, registry
from helpers.data.episodes import Dataset, check, join
from helpers.data.policies import load_policy
from helpers.data.storage import write_minari
from helpers.files import array_hash, read_arrays, write_arrays, write_bytes, write_json
from helpers.tasks import Task, get_task

PARTS = 200
"""Files in which unfinished episodes are kept, at most; small ones are cheap to lose."""


def play(
    task: Task,
    env: gymnasium.Env,
    seed: int,
    begin: Callable[[], Choose],
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """One episode.

    Args:
        task: packs the observations.
        env: an environment of the task.
        seed: of the environment.
        begin: called after the reset; gives what chooses an action for each observation, and None
            to stop early.
        options: of the reset.
    """
    observation, _ = env.reset(seed=seed, options=dict(options) if options else None)
    choose = begin()
    observations, actions, rewards = [task.pack(observation)], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = choose(observation)
        if action is None:
            break
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(task.pack(observation))
        actions.append(action)
        rewards.append(float(reward))
    return Dataset(
        observations=np.stack(observations[:-1]),
        actions=np.stack(actions),
        rewards=np.array(rewards),
        lengths=np.array([len(rewards)], np.int64),
        terminated=np.array([bool(terminated)]),
        final_observations=observations[-1][None],
        seeds=np.array([seed], np.int64),
    )


class EpisodeMaker:
    """Makes episode k of a dataset; one per process, so that files are read once."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.task = get_task(spec.task)
        self.env = self.task.make()
        if spec.replay:
            arrays = read_replay(spec)
            self.seeds = arrays["seeds"]
            self.actions = np.split(arrays["actions"], np.cumsum(arrays["lengths"])[:-1])
        else:
            self.behaviour = get_behaviour(spec.behaviour)

    def __call__(self, episode: int) -> Dataset:
        """Episode number `episode`, the same whichever process makes it."""
        if self.spec.replay:
            actions = iter(self.actions[episode])
            seed = int(self.seeds[episode])
            return play(self.task, self.env, seed, lambda: lambda _: next(actions, None))
        seed = self.spec.seed + episode
        rng = np.random.default_rng(seed)
        begin = lambda: self.behaviour(self.env, rng)  # noqa: E731
        return play(self.task, self.env, seed, begin, self.spec.options)


def read_replay(spec: DatasetSpec) -> dict[str, np.ndarray]:
    """Recorded actions (N, A), episode lengths (E,) and seeds (E,) of a training run."""
    arrays, _ = read_arrays(paths.POLICIES / f"{spec.replay}.safetensors")
    return arrays


_maker: EpisodeMaker | None = None  # one per worker process


def _start_worker(spec: DatasetSpec) -> None:
    global _maker
    _maker = EpisodeMaker(spec)


def _make_part(episodes: range, path: Path) -> int:
    write_arrays(path, asdict(join([_maker(episode) for episode in episodes])))
    return len(episodes)


def collect_episodes(spec: DatasetSpec, *, workers: int) -> Dataset:
    """All episodes of a policy or replay dataset; finished ones are kept between calls.

    Raises:
        BadFile: the behaviour policy or the recorded actions are missing or not whole.
    """
    count = len(read_replay(spec)["lengths"]) if spec.replay else spec.episodes
    folder = paths.WORK / "collect" / spec.minari_id / _source_hash(spec)[:12]
    size = -(-count // PARTS)
    blocks = [range(first, min(first + size, count)) for first in range(0, count, size)]
    parts = {folder / f"{block.start:05d}.safetensors": block for block in blocks}
    missing = {part: block for part, block in parts.items() if not part.exists()}
    lacking = sum(map(len, missing.values()))
    # One BLAS thread a process: the matrices are small and the processes fill the cores.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    bar = tqdm(total=count, initial=count - lacking, unit="episode", desc=spec.id)
    with bar, ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(spec,)) as pool:
        futures = [pool.submit(_make_part, block, part) for part, block in missing.items()]
        try:
            for future in as_completed(futures):
                bar.update(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    dataset = join([Dataset(**read_arrays(part)[0]) for part in parts])
    return check(dataset, spec.id, get_task(spec.task))


def _source_hash(spec: DatasetSpec) -> str:
    """Hash of all that determines the episodes, so that parts of another version are not reused."""
    arrays = {"spec": np.frombuffer(repr(spec).encode(), np.uint8)}
    policy = paths.POLICIES / f"{spec.replay or spec.behaviour}.safetensors"
    if policy.exists():
        arrays.update(read_arrays(policy)[0])
    return array_hash(arrays)


def collect(dataset_id: str, *, workers: int | None = None, record: bool = False) -> Path:
    """Make a dataset under data/datasets and compare its hash with the registry.

    Args:
        dataset_id: such as halfcheetah/medium.
        workers: processes; default one a core.
        record: write the registry entry and the committed sample instead of comparing.

    Raises:
        UnknownName, BadFile, OSError: as the pieces raise them; nothing is left half-written.
    """
    spec = get_spec(dataset_id)
    workers = workers or os.cpu_count() or 1
    folder = paths.DATASETS / spec.minari_id
    dataset = join(list(_collected(spec, workers)))
    entry = describe(dataset, get_task(spec.task))
    _write(folder, spec, dataset, entry)
    shutil.rmtree(paths.WORK / "collect" / spec.minari_id, ignore_errors=True)
    print(
        f"{folder}: {entry['episodes']} episodes, {entry['steps']} steps, "
        f"mean return {entry['return_mean']:.1f}, sha256 {entry['sha256'][:16]}"
    )
    if record:
        _record(spec, dataset, entry)
    else:
        _compare(spec, entry)
    return folder


def _collected(spec: DatasetSpec, workers: int) -> Iterator[Dataset]:
    """The dataset itself, or those it is made of, collected now if they are not there."""
    sources = [spec.delays] if spec.delays else spec.mixture
    if not sources:
        yield collect_episodes(spec, workers=workers)
    for source in sources:
        if not (paths.DATASETS / get_spec(source).minari_id).exists():
            collect(source, workers=workers)
        dataset = load_dataset(source)
        yield pay_at_end(dataset) if spec.delays else dataset


def pay_at_end(dataset: Dataset) -> Dataset:
    """The same episodes as seen through `RewardAtEnd`."""
    rewards = np.zeros_like(dataset.rewards)
    rewards[dataset.starts + dataset.lengths - 1] = dataset.returns
    return replace(dataset, rewards=rewards)


def _write(folder: Path, spec: DatasetSpec, dataset: Dataset, entry: dict[str, Any]) -> None:
    """The Minari dataset and, beside it, its card."""
    task = get_task(spec.task)
    policy = {}
    path = paths.POLICIES / f"{spec.behaviour}.safetensors"
    if path.exists():
        policy = load_policy(path).metadata
    requirements = _requirements(task)
    metadata = {
        "description": f"{task.env_id}: {spec.description}.",
        "algorithm_name": policy.get("algorithm", spec.behaviour or "see description"),
        "author": {"Transformers, take the Wheel"},
        "code_permalink": "python -m helpers collect " + spec.id,
        "requirements": requirements,
    }
    write_minari(folder, dataset, task, spec.minari_id, metadata)
    write_bytes(folder / "README.md", card(spec, task, entry, requirements).encode())


def _requirements(task: Task) -> list[str]:
    """Versions of what simulates the task."""
    used = {
        "gymnasium_robotics": {"gymnasium-robotics", "mujoco"},
        "minigrid": {"minigrid"},
        "helpers.envs": {"minigrid"},
    }.get(task.env_id.rpartition(":")[0], set())
    used |= {"mujoco"} if task.env_id.startswith("HalfCheetah") else set()
    return [f"{name}=={version(name)}" for name in sorted(used | {"gymnasium"})]


def _record(spec: DatasetSpec, dataset: Dataset, entry: dict[str, Any]) -> None:
    # Evenly spread, since a replay changes with time and a mixture from part to part.
    chosen = np.linspace(0, len(dataset.lengths) - 1, SAMPLE_EPISODES).round().astype(int)
    sample = dataset.select(chosen)
    folder = paths.SAMPLES / spec.minari_id
    _write(folder, spec, sample, entry)
    entry = {**entry, "sample_sha256": sample.content_hash()}
    write_json(paths.DATA / "registry.json", {**registry(), spec.id: entry})


def _compare(spec: DatasetSpec, entry: dict[str, Any]) -> None:
    known = registry().get(spec.id)
    if known is None:
        print(f"{spec.id} is not in the registry yet; `collect --record` adds it")
    elif known["sha256"] == entry["sha256"]:
        print("identical to the registry, to the last bit")
    else:
        print(
            f"warning: the registry has sha256 {known['sha256'][:16]} and mean return "
            f"{known['return_mean']:.1f}: another processor or MuJoCo version rounds differently"
        )
