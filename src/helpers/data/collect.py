"""Datasets of the book, and how each is made from behaviour policies.

Every episode depends on the dataset's seed and its own number alone, so episodes are collected by
any number of processes, in any order, and an interrupted collection goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from helpers import paths
from helpers.data.episodes import Dataset, check, join, read_minari, write_minari
from helpers.data.policies import load_policy
from helpers.files import BadFile, array_hash, read_arrays, read_json, write_arrays, write_json
from helpers.names import look_up
from helpers.tasks import get_task

SAMPLE_EPISODES = 4


@dataclass(frozen=True)
class DatasetSpec:
    """How a dataset is made. One of `policy`, `replay`, `mixture` and `delays` is set."""

    id: str
    task: str
    description: str
    episodes: int = 0
    seed: int = 0
    """First environment seed; far from those of training (1,000,000s) and evaluation (below)."""
    policy: str = ""
    """Behaviour policy's file name in data/policies, or "random" for uniform actions."""
    replay: str = ""
    """File in data/policies with the actions and seeds of a training run."""
    mixture: tuple[str, ...] = ()
    """Datasets joined end to end."""
    delays: str = ""
    """Dataset whose episodes are taken over, each one's return paid with its last step."""

    @property
    def minari_id(self) -> str:
        """Id under which Minari finds the dataset; Minari wants a version."""
        return f"{self.id}-v0"


DATASETS = {
    spec.id: spec
    for spec in (
        DatasetSpec(
            "halfcheetah/random",
            "halfcheetah",
            "uniformly random actions",
            episodes=1000,
            seed=10_000_000,
            policy="random",
        ),
        DatasetSpec(
            "halfcheetah/medium-replay",
            "halfcheetah",
            "all that SAC did until it reached the medium policy",
            replay="halfcheetah-replay",
        ),
        DatasetSpec(
            "halfcheetah/medium",
            "halfcheetah",
            "sampled actions of a half-trained SAC policy",
            episodes=1000,
            seed=20_000_000,
            policy="halfcheetah-medium",
        ),
        DatasetSpec(
            "halfcheetah/medium-expert",
            "halfcheetah",
            "the medium set followed by the expert set",
            mixture=("halfcheetah/medium", "halfcheetah/expert"),
        ),
        DatasetSpec(
            "halfcheetah/expert",
            "halfcheetah",
            "sampled actions of the best SAC snapshot",
            episodes=1000,
            seed=30_000_000,
            policy="halfcheetah-expert",
        ),
        *(
            DatasetSpec(
                f"halfcheetah-delayed/{tier}",
                "halfcheetah-delayed",
                f"the {tier} set, each return paid with the last step",
                delays=f"halfcheetah/{tier}",
            )
            for tier in ("medium-replay", "medium", "medium-expert")
        ),
    )
}


def get_spec(dataset_id: str) -> DatasetSpec:
    """The dataset's specification.

    Raises:
        UnknownName: no such dataset; the message offers the nearest names.
    """
    return look_up(DATASETS, dataset_id, "dataset")


def registry() -> dict[str, Any]:
    """Content hash, sizes and returns of each collected dataset (data/registry.json)."""
    path = paths.DATA / "registry.json"
    return read_json(path) if path.exists() else {}


def load_dataset(dataset_id: str, *, sample: bool = False) -> Dataset:
    """A dataset of the book; `sample=True` gives the few episodes committed with it.

    Raises:
        UnknownName: no such dataset.
        BadFile: not collected yet (the message gives the command), or not whole.
    """
    spec = get_spec(dataset_id)
    folder = (paths.SAMPLES if sample else paths.DATASETS) / spec.minari_id
    if not folder.exists():
        command = f"python -m helpers collect {spec.id}"
        raise BadFile(f"{folder}: the dataset is not here; make it with `{command}`")
    return read_minari(folder, get_task(spec.task))


def play(env: gymnasium.Env, seed: int, choose: Any) -> Dataset:
    """One episode: `choose(observation)` gives the next action or None to stop early."""
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards = [observation], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = choose(observation)
        if action is None:
            break
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
    return Dataset(
        observations=np.stack(observations[:-1]),
        actions=np.stack(actions),
        rewards=np.array(rewards),
        lengths=np.array([len(rewards)], np.int64),
        terminated=np.array([terminated]),
        final_observations=observations[-1][None],
        seeds=np.array([seed], np.int64),
    )


class EpisodeMaker:
    """Makes episode k of a dataset; one per process, so that files are read once."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.env = get_task(spec.task).make()
        self.actor = None
        if spec.replay:
            arrays = read_replay(spec)
            self.seeds = arrays["seeds"]
            self.actions = np.split(arrays["actions"], np.cumsum(arrays["lengths"])[:-1])
        elif spec.policy != "random":
            policy = load_policy(paths.POLICIES / f"{spec.policy}.safetensors")
            self.actor = policy.actor(sample=True)

    def __call__(self, episode: int) -> Dataset:
        """Episode number `episode`, the same whichever process makes it."""
        if self.spec.replay:
            actions = iter(self.actions[episode])
            return play(self.env, int(self.seeds[episode]), lambda _: next(actions, None))
        seed = self.spec.seed + episode
        rng = np.random.default_rng(seed)
        if self.actor is not None:
            return play(self.env, seed, lambda observation: self.actor(observation, rng))
        size = self.env.action_space.shape
        return play(self.env, seed, lambda _: rng.uniform(-1.0, 1.0, size).astype(np.float32))


def read_replay(spec: DatasetSpec) -> dict[str, np.ndarray]:
    """Recorded actions (N, A), episode lengths (E,) and seeds (E,) of a training run."""
    arrays, _ = read_arrays(paths.POLICIES / f"{spec.replay}.safetensors")
    return arrays


_maker: EpisodeMaker | None = None  # one per worker process


def _start_worker(spec: DatasetSpec) -> None:
    global _maker
    _maker = EpisodeMaker(spec)


def _make_part(episode: int, path: Path) -> None:
    write_arrays(path, asdict(_maker(episode)))


def collect_episodes(spec: DatasetSpec, *, workers: int) -> Dataset:
    """All episodes of a policy or replay dataset; finished ones are kept between calls.

    Raises:
        BadFile: the behaviour policy or the recorded actions are missing or not whole.
    """
    count = len(read_replay(spec)["lengths"]) if spec.replay else spec.episodes
    folder = paths.WORK / "collect" / spec.minari_id / _source_hash(spec)[:12]
    parts = [folder / f"{i:05d}.safetensors" for i in range(count)]
    missing = [i for i, part in enumerate(parts) if not part.exists()]
    # One BLAS thread a process: the matrices are small and the processes fill the cores.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    bar = tqdm(total=count, initial=count - len(missing), unit="episode", desc=spec.id)
    with bar, ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(spec,)) as pool:
        futures = [pool.submit(_make_part, i, parts[i]) for i in missing]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    dataset = join([Dataset(**read_arrays(part)[0]) for part in parts])
    return check(dataset, spec.id, get_task(spec.task))


def _source_hash(spec: DatasetSpec) -> str:
    """Hash of all that determines the episodes, so that parts of another version are not reused."""
    arrays = {"spec": np.frombuffer(repr(spec).encode(), np.uint8)}
    name = spec.replay or spec.policy
    if name != "random":
        arrays.update(read_arrays(paths.POLICIES / f"{name}.safetensors")[0])
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
    task = get_task(spec.task)
    write_minari(folder, dataset, task, spec.minari_id, _card(spec))
    shutil.rmtree(paths.WORK / "collect" / spec.minari_id, ignore_errors=True)
    entry = describe(dataset)
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


def describe(dataset: Dataset) -> dict[str, Any]:
    """Registry entry: hash, sizes, returns, and the observations' mean and deviation."""
    returns = dataset.returns
    return {
        "sha256": dataset.content_hash(),
        "episodes": len(dataset.lengths),
        "steps": int(dataset.lengths.sum()),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "returns": [round(float(r), 2) for r in returns],
        "observation_mean": [float(x) for x in dataset.observations.mean(axis=0)],
        "observation_std": [float(x) for x in dataset.observations.std(axis=0)],
    }


def _card(spec: DatasetSpec) -> dict[str, Any]:
    """Metadata that Minari shows with the dataset."""
    import mujoco

    policy = {}
    if spec.policy not in ("", "random"):
        policy = load_policy(paths.POLICIES / f"{spec.policy}.safetensors").metadata
    return {
        "description": f"{get_task(spec.task).env_id}: {spec.description}.",
        "algorithm_name": policy.get("algorithm", spec.policy or "see description"),
        "author": {"Transformers, take the Wheel"},
        "code_permalink": "python -m helpers collect " + spec.id,
        "requirements": [f"mujoco=={mujoco.__version__}", f"gymnasium=={gymnasium.__version__}"],
    }


def _record(spec: DatasetSpec, dataset: Dataset, entry: dict[str, Any]) -> None:
    write_json(paths.DATA / "registry.json", {**registry(), spec.id: entry})
    # Evenly spread, since a replay changes with time and a mixture from part to part.
    chosen = np.linspace(0, len(dataset.lengths) - 1, SAMPLE_EPISODES).round().astype(int)
    sample = dataset.select(chosen)
    folder = paths.SAMPLES / spec.minari_id
    write_minari(folder, sample, get_task(spec.task), spec.minari_id, _card(spec))


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
