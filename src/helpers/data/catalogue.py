"""The datasets of the book: their names, how each is made, and where it lies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from helpers import paths
from helpers.data.episodes import Dataset
from helpers.data.own import find
from helpers.data.storage import open_minari, read_minari
from helpers.envs.mazes import lake_state
from helpers.files import BadFile, read_json
from helpers.names import look_up
from helpers.tasks import get_task

SAMPLE_EPISODES = 4


@dataclass(frozen=True)
class DatasetSpec:
    """How a dataset is made. One of `behaviour`, `replay`, `mixture` and `delays` is set."""

    id: str
    task: str
    description: str
    episodes: int = 0
    seed: int = 0
    """First environment seed: 10,000,000 or more, away from training (1,000,000s) and evaluation
    (below), so that no model is tested on a level it was trained on."""
    behaviour: str = ""
    """Who acts (`helpers.data.behaviours`)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of each reset."""
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


def _halfcheetah() -> Iterator[DatasetSpec]:
    task = "halfcheetah"
    yield DatasetSpec(
        "halfcheetah/random",
        task,
        "uniformly random actions",
        episodes=1000,
        seed=10_000_000,
        behaviour="random",
    )
    yield DatasetSpec(
        "halfcheetah/medium-replay",
        task,
        "all that SAC did until it reached the medium policy",
        replay="halfcheetah-replay",
    )
    yield DatasetSpec(
        "halfcheetah/medium",
        task,
        "sampled actions of a half-trained SAC policy",
        episodes=1000,
        seed=20_000_000,
        behaviour="halfcheetah-medium",
    )
    yield DatasetSpec(
        "halfcheetah/medium-expert",
        task,
        "the medium set followed by the expert set",
        mixture=("halfcheetah/medium", "halfcheetah/expert"),
    )
    yield DatasetSpec(
        "halfcheetah/expert",
        task,
        "sampled actions of the best SAC snapshot",
        episodes=1000,
        seed=30_000_000,
        behaviour="halfcheetah-expert",
    )
    for tier in ("medium-replay", "medium", "medium-expert"):
        yield DatasetSpec(
            f"halfcheetah-delayed/{tier}",
            "halfcheetah-delayed",
            f"the {tier} set, each return paid with the last step",
            delays=f"halfcheetah/{tier}",
        )


# Level: episodes of the expert and of the noisy set. LEAP used 500 of each level; two levels have
# enough to ask what more data are worth, and the largest grids fewer, since their bot is slow.
_BABYAI_EPISODES = {
    "gotolocal": (10_000, 10_000),
    "gotoredballgrey": (10_000, 10_000),
    "pickup": (2_000, 2_000),
    "gotolocal-s7n5": (50_000, 10_000),
    "gotolocal-s8n7": (10_000, 10_000),
    "gotoobjmaze-s4": (50_000, 10_000),
    "gotoobjmaze-s7": (10_000, 2_000),
    "gotoobjmaze-s4r2": (10_000, 10_000),
    "pickuploc": (10_000, 10_000),
    "gotoseq-s5r2": (10_000, 5_000),
}


def _babyai() -> Iterator[DatasetSpec]:
    for i, (level, (expert, noisy)) in enumerate(_BABYAI_EPISODES.items()):
        task, seed = f"babyai-{level}", 100_000_000 + 10_000_000 * i
        yield DatasetSpec(
            f"{task}/expert",
            task,
            "demonstrations by BabyAI's bot, which sees everything up to closed doors",
            episodes=expert,
            seed=seed,
            behaviour="bot",
        )
        yield DatasetSpec(
            f"{task}/noisy",
            task,
            "the bot, turning or walking at random in 0 to 80 % of an episode's steps",
            episodes=noisy,
            seed=seed + 5_000_000,
            behaviour="noisy-bot",
        )


def _parts() -> Iterator[DatasetSpec]:
    yield DatasetSpec(
        "babyai-part/expert",
        "babyai-part",
        "the bot, told a colour or a kind",
        episodes=2_000,
        seed=250_000_000,
        behaviour="bot",
    )


def _key_to_door() -> Iterator[DatasetSpec]:
    for count, seed in ((1_000, 200_000_000), (10_000, 210_000_000)):
        yield DatasetSpec(
            f"key-to-door/random-{count}",
            "key-to-door",
            f"{count:,} random walks",
            episodes=count,
            seed=seed,
            behaviour="random",
        )


def _stitching() -> Iterator[DatasetSpec]:
    ways = (("west", "north", "the unpaid half"), ("south", "east", "the paid half"),
            ("west", "east", "the whole way, for comparison"))  # fmt: skip
    mazes = (("pointmaze", "waypoints"), ("gridmaze", "walk"), ("crossroads", "trip"))
    for k, (task, behaviour) in enumerate(mazes):
        for i, (start, end, what) in enumerate(ways):
            state = {"state": lake_state(start)} if task == "gridmaze" else {"start": start}
            yield DatasetSpec(
                f"{task}/{start}-{end}",
                task,
                f"trips from the {start} through the centre to the {end}: {what}",
                # At the crossroads most trips go where nothing is paid: else a coin decides there.
                episodes=1500 if (task, end) == ("crossroads", "north") else 500,
                seed=(220_000_000, 230_000_000, 260_000_000)[k] + 1_000_000 * i,
                behaviour=f"{behaviour}-{end}",
                options=state,
            )
        yield DatasetSpec(
            f"{task}/halves",
            task,
            "both halves of the way, never the whole",
            mixture=(f"{task}/west-north", f"{task}/south-east"),
        )


def _luck() -> Iterator[DatasetSpec]:
    yield DatasetSpec(
        "gamble/random",
        "gamble",
        "safe or gamble, at random",
        episodes=10_000,
        seed=240_000_000,
        behaviour="random",
    )


DATASETS = {
    spec.id: spec
    for family in (
        _halfcheetah,
        _babyai,
        _parts,
        _key_to_door,
        _stitching,
        _luck,
    )
    for spec in family()
}


def is_foreign(dataset_id: str) -> bool:
    """Whether an id is Minari's (namespace/name-v0) rather than one of the book's."""
    return re.search(r"/.*-v\d+$", dataset_id) is not None


def get_spec(dataset_id: str) -> DatasetSpec:
    """The dataset's specification.

    Raises:
        UnknownName: no such dataset; the message offers the nearest names.
    """
    if is_foreign(dataset_id):
        return DatasetSpec(dataset_id, task=dataset_id, description="not of this book")
    return look_up(DATASETS, dataset_id, "dataset")


def registry() -> dict[str, Any]:
    """Content hash, sizes and returns of each collected dataset (data/registry.json)."""
    path = paths.DATA / "registry.json"
    return dict(_read_registry(path, path.stat().st_mtime_ns)) if path.exists() else {}


@lru_cache(maxsize=4)
def _read_registry(path: Path, changed: int) -> dict[str, Any]:
    """Read once until the file changes: the state of hundreds of runs depends on it."""
    return read_json(path)


def known_hash(dataset_id: str) -> str:
    """Content hash of a dataset: the registry's, or for one of others its own; empty if unknown."""
    if is_foreign(dataset_id):
        return load_dataset(dataset_id).content_hash()
    return registry().get(dataset_id, {}).get("sha256", "")


def load_dataset(dataset_id: str, *, sample: bool = False) -> Dataset:
    """A dataset of the book, or a Minari dataset on this machine by its id.

    Args:
        dataset_id: such as halfcheetah/medium, or with its version as Minari writes it.
        sample: of the book's, the few episodes committed with it.

    Raises:
        UnknownName: no such dataset.
        BadFile: not here (the message gives the command), or not whole.
    """
    if is_foreign(dataset_id):
        return open_minari(find(dataset_id), get_task(dataset_id))
    spec = get_spec(dataset_id)
    folder = (paths.SAMPLES if sample else paths.DATASETS) / spec.minari_id
    if not folder.exists():
        command = f"python -m helpers collect {spec.id}"
        raise BadFile(f"{folder}: the dataset is not here; make it with `{command}`")
    return (read_minari if sample else open_minari)(folder, get_task(spec.task))
