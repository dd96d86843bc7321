"""Experiments: what is trained on what, and how it is scored. `experiments.toml` names every one.

A run is a pure function of its configuration and its dataset. Its identity is a hash of both; a
result file is *done* when it holds that hash, and *stale* when it holds another one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from helpers import paths
from helpers.data.catalogue import get_spec, known_hash
from helpers.envs.shifts import check_shifts
from helpers.files import BadFile, read_json
from helpers.names import look_up
from helpers.tasks import get_task

PARTNERS = ("trained_by", "critic", "teacher")
"""Fields of a run that name another experiment, whose models it needs."""


@dataclass(frozen=True)
class Evaluation:
    """How a trained model is scored."""

    episodes: int = 100
    """Of the last checkpoint."""
    target: float | None = None
    """Target return; the task's own if not given."""
    checks: int = 3
    """Evaluations spread evenly over training, the last step included; the best one is reported
    beside the last."""
    check_episodes: int = 20
    """0 to leave out these evaluations, where they are expensive."""
    sweep: Sequence[float] = ()
    """Target returns to sweep over."""
    sweep_episodes: int = 10
    noise: float = 0.0
    """On the actions of the final evaluation and the sweep, of which the agent is not told:
    standard deviation as a fraction of half the range of each entry (`NoisyAgent`), or of numbered
    actions the chance that a random one is done instead (`SlippingAgent`)."""
    shifts: Mapping[str, Sequence[float | int]] = field(default_factory=dict)
    """Factors of properties of the world (`envs.shifts.SHIFTS`), one changed at a time: in each
    changed world the last checkpoint plays the first episodes of the final evaluation again."""
    shift_episodes: int = 10
    """In each changed world; at most `episodes`."""

    def __post_init__(self) -> None:
        check_shifts(self.shifts)
        if self.shifts and not 1 <= self.shift_episodes <= self.episodes:
            raise ValueError(
                f"shift_episodes is {self.shift_episodes}; choose 1 to {self.episodes}, since each "
                "needs a partner among the episodes"
            )


@dataclass(frozen=True)
class Run:
    """One cell of the grid."""

    experiment: str
    task: str
    dataset: str
    method: str
    seed: int
    model: dict[str, Any] = field(default_factory=dict)
    """Changes to the method's default configuration."""
    train: dict[str, Any] = field(default_factory=dict)
    """Changes to the default `TrainConfig`."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """Changes to the default `Evaluation`."""
    planner: dict[str, Any] = field(default_factory=dict)
    """Changes to the planner's default configuration."""
    demonstrations: int = 0
    """Episodes of the dataset that are used, from its beginning; 0 for all."""
    trained_by: str = ""
    """Experiment whose model of the same dataset and seed is evaluated; nothing is trained."""
    plays: str = ""
    """Task of the evaluation, if it is not the one of the data."""
    critic: str = ""
    """Experiment whose value-based learner of the same dataset and seed gives values: to the beam
    of a Trajectory Transformer, or to the returns-to-go of a Decision Transformer's data."""
    teacher: str = ""
    """Experiment whose agent of the same dataset and seed is imitated, instead of the dataset,"""
    lessons: int = 0
    """for so many episodes."""

    @property
    def name(self) -> str:
        """Such as dt/halfcheetah/medium-s0: also its path under data/results."""
        count = f"-n{self.demonstrations}" if self.demonstrations else ""
        return f"{self.experiment}/{self.dataset}{count}-s{self.seed}"

    def result_path(self, folder: Path | None = None) -> Path:
        """The result file in `folder`, by default data."""
        return (folder or paths.DATA) / "results" / f"{self.name}.json"

    def checkpoint_path(self, folder: Path | None = None) -> Path:
        """The trained model, after its last step, in `folder`, by default data."""
        return (folder or paths.DATA) / "checkpoints" / f"{self.name}.safetensors"

    def best_checkpoint_path(self, folder: Path | None = None) -> Path:
        """The model of the best check, which is there if that was not the last one."""
        return (folder or paths.DATA) / "checkpoints" / f"{self.name}-best.safetensors"

    def identity(self, dataset_sha256: str) -> str:
        """Hash of the configuration and of the data."""
        fields = asdict(self)
        # Absent from the identity where unused: they came when there were results already.
        for name in ("planner", "demonstrations", "plays", "lessons", *PARTNERS):
            if not fields[name]:
                del fields[name]
        fields |= {name: run.identity(dataset_sha256) for name, run in self.partners.items()}
        text = json.dumps({**fields, "data": dataset_sha256}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def trainer(self) -> Run:
        """The run whose trained model this one plays: itself, or one of `trained_by`.

        Raises:
            BadFile: that experiment has no run of this dataset and seed.
        """
        return self.partner("trained_by") if self.trained_by else self

    @property
    def partners(self) -> dict[str, Run]:
        """Runs whose models this one needs, by field."""
        return {name: self.partner(name) for name in PARTNERS if getattr(self, name)}

    @property
    def depth(self) -> int:
        """How many runs must have ended one after another before this one can begin."""
        return max((run.depth + 1 for run in self.partners.values()), default=0)

    def partner(self, field: str) -> Run:
        """The run of the experiment that `field` names (trained_by, critic or teacher).

        Raises:
            BadFile: it has no run of this dataset and seed.
        """
        experiment = getattr(self, field)
        same = ["dataset", "seed", "demonstrations", *["method"] * (field == "trained_by")]
        for run in look_up(load_experiments(), experiment, "experiment"):
            if all(getattr(run, name) == getattr(self, name) for name in same):
                return run
        raise BadFile(
            f"experiments.toml: [{self.experiment}] wants {self.dataset} with seed {self.seed} of "
            f"[{experiment}] ({field}), which has no such run"
        )

    def state(self) -> str:
        """done, stale or missing."""
        path = self.result_path()
        if not path.exists():
            return "missing"
        stored = read_json(path).get("identity")
        return "done" if stored == self.identity(known_hash(self.dataset)) else "stale"


def load_experiments(path: Path | None = None) -> dict[str, list[Run]]:
    """All runs of `experiments.toml`, by experiment.

    Raises:
        BadFile: not TOML, an unknown or missing entry; names the experiment and the field.
        UnknownName: an unknown task, dataset or method.
    """
    path = path or paths.ROOT / "experiments.toml"
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise BadFile(f"{path}: no such file") from None
    return {name: list(runs) for name, runs in _read_experiments(path, text).items()}


@lru_cache(maxsize=4)  # partners look each other up: hundreds of times for one table
def _read_experiments(path: Path, text: str) -> dict[str, list[Run]]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadFile(f"{path}: not TOML ({error})") from error
    return {name: _expand(path, name, entry) for name, entry in table.items()}


def _expand(path: Path, name: str, entry: dict[str, Any]) -> list[Run]:
    required = {"method", "datasets", "seeds"}
    options = ("model", "train", "evaluation", "planner")
    words = ("plays", *PARTNERS)
    known = required | {"task", "demonstrations", "lessons", *words, *options}
    for missing in sorted(required - set(entry)):
        raise BadFile(f"{path}: experiment [{name}] lacks {missing!r}")
    for extra in sorted(set(entry) - known):
        raise BadFile(f"{path}: experiment [{name}] has {extra!r}; known: {sorted(known)}")
    for key, kind in (("datasets", str), ("seeds", int), ("demonstrations", int)):
        _check_list(f"{path}: [{name}] {key}", entry.get(key, []), kind)
    for key in options:
        _check_table(f"{path}: [{name}.{key}]", entry.get(key, {}))
    shifts = entry.get("evaluation", {}).get("shifts", {})
    _check_table(f"{path}: [{name}.evaluation] shifts", shifts)
    from helpers.methods import METHODS
    from helpers.train import TrainConfig

    if "task" in entry:
        get_task(entry["task"])
    look_up(METHODS, entry["method"], "method")
    if "critic" in entry and entry["method"] not in ("dt", "tt"):
        raise BadFile(f"{path}: [{name}] a critic helps the methods dt and tt; remove it")
    if "teacher" in entry and (entry["method"] != "bc" or "critic" in entry):
        raise BadFile(f"{path}: [{name}] a teacher is for the method bc, without a critic")
    trains = entry["method"] != "tt" and ("critic" in entry or "teacher" in entry)
    if "trained_by" in entry and trains:
        raise BadFile(f"{path}: [{name}] is trained_by another; its own training would be ignored")
    for key, kind in (("evaluation", Evaluation), ("train", TrainConfig)):
        if what := unknown_fields(entry.get(key, {}), kind):
            raise BadFile(f"{path}: [{name}.{key}] has {what}")
    try:
        Evaluation(**entry.get("evaluation", {}))
    except ValueError as error:
        raise BadFile(f"{path}: [{name}.evaluation] {error}") from None
    given = {key: entry.get(key, {}) for key in options}
    given |= {key: entry.get(key, "") for key in words}
    given["lessons"] = _check_lessons(f"{path}: [{name}]", entry)
    if given["plays"]:
        get_task(given["plays"])
    runs = []
    for dataset in entry["datasets"]:
        task = get_spec(dataset).task
        if entry.get("task", task) != task:
            raise BadFile(f"{path}: [{name}] dataset {dataset!r} is not of task {entry['task']!r}")
        for count, seed in itertools.product(entry.get("demonstrations", [0]), entry["seeds"]):
            run = Run(name, task, dataset, entry["method"], seed, demonstrations=count, **given)
            runs.append(run)
    return runs


def _check_lessons(where: str, entry: dict[str, Any]) -> int:
    """How many episodes the teacher plays: none without one, at least one with one."""
    count = entry.get("lessons", 0)
    if type(count) is not int or (count > 0) != ("teacher" in entry):
        raise BadFile(
            f"{where} lessons is {count!r}; with a teacher write how many episodes it plays, "
            "without one leave it out"
        )
    return count


def unknown_fields(given: Mapping[str, Any], kind: type) -> str:
    """What is wrong with these changes to a configuration: names that it does not have."""
    known = sorted(f.name for f in fields(kind))
    unknown = sorted(set(given) - set(known))
    return f"unknown {unknown}; known: {known}" if unknown else ""


def _check_table(where: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise BadFile(f"{where} is {value!r}; write a table of names and values")


def _check_list(where: str, values: Any, kind: type) -> None:
    """A value of the grid stands in a list, has the right type and occurs once."""
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise BadFile(f"{where} is {values!r}; write a list of {kind.__name__}")
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise BadFile(f"{where} names {twice} twice; each run has one result: name it once")


def smoke_version(run: Run) -> Run:
    """A run that exercises all of `run`'s code in seconds; its scores mean nothing."""
    sweep = run.evaluation.get("sweep", ())
    sweep = sweep[len(sweep) // 2 - 2 : len(sweep) // 2]  # from the middle: inside the data's range
    shifts = {name: factors[:1] for name, factors in run.evaluation.get("shifts", {}).items()}
    small = {"episodes": 2, "checks": 1, "check_episodes": 1, "sweep": sweep, "sweep_episodes": 1}
    if shifts:
        small |= {"shifts": shifts, "shift_episodes": 1}
    widest = {"beam_width": 2, "horizon": 2, "context": 2} if run.method == "tt" else {}
    if "plan_every" in run.planner:
        widest["plan_every"] = 2
    # Not above what the run itself asks for: one that does not search cannot keep two beams.
    planner = {name: min(size, run.planner.get(name, size)) for name, size in widest.items()}
    shape = {"width": 16, "layers": 1}
    if run.method in ("dt", "edt", "tt"):
        shape["context_length"] = 5
    if run.method == "leap":
        shape["heads"] = 4
    return replace(
        run,
        planner={**run.planner, **planner},
        model={**run.model, **shape},
        lessons=min(run.lessons, 2),
        train={**run.train, "steps": 40, "batch_size": 8, "warmup_steps": 5, "log_every": 10},
        evaluation={**run.evaluation, **small},
    )
