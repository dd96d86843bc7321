"""Runs: what was trained on what, with which result. `experiments.toml` names every one.

A run is a pure function of its configuration and its dataset. Its identity is a hash of both; a
result file is *done* when it holds that hash, and *stale* when it holds another one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import subprocess
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from helpers import paths
from helpers.analysis.statistics import mean_interval
from helpers.data.cards import FINAL_SEED
from helpers.data.catalogue import get_spec, known_hash
from helpers.files import BadFile, read_json, sha256, write_bytes, write_json
from helpers.names import look_up
from helpers.tasks import get_task

SWEEP_SEED = 600_000
BEST = "best.safetensors"
"""In a run's working folder: the model of the best check so far."""


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
    standard deviation as a fraction of half the range of each entry (`NoisyAgent`)."""


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
        for name in ("planner", "trained_by", "demonstrations", "plays"):
            if not fields[name]:
                del fields[name]
        if self.trained_by:
            fields["trained_by"] = self.trainer().identity(dataset_sha256)
        text = json.dumps({**fields, "data": dataset_sha256}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def trainer(self) -> Run:
        """The run whose trained model this one plays: itself, or one of `trained_by`.

        Raises:
            BadFile: that experiment has no run of this dataset and seed.
        """
        if not self.trained_by:
            return self
        runs = look_up(load_experiments(), self.trained_by, "experiment")
        for run in runs:
            same = ("dataset", "seed", "method", "demonstrations")
            if all(getattr(run, name) == getattr(self, name) for name in same):
                return run
        raise BadFile(
            f"experiments.toml: [{self.experiment}] wants {self.dataset} with seed {self.seed} "
            f"trained by [{self.trained_by}], which has no such run"
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
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise BadFile(f"{path}: no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise BadFile(f"{path}: not TOML ({error})") from error
    return {name: _expand(path, name, entry) for name, entry in table.items()}


def _expand(path: Path, name: str, entry: dict[str, Any]) -> list[Run]:
    required = {"method", "datasets", "seeds"}
    options = ("model", "train", "evaluation", "planner")
    known = required | {"task", "trained_by", "demonstrations", "plays", *options}
    for missing in sorted(required - set(entry)):
        raise BadFile(f"{path}: experiment [{name}] lacks {missing!r}")
    for extra in sorted(set(entry) - known):
        raise BadFile(f"{path}: experiment [{name}] has {extra!r}; known: {sorted(known)}")
    for key, kind in (("datasets", str), ("seeds", int), ("demonstrations", int)):
        _check_list(f"{path}: [{name}] {key}", entry.get(key, []), kind)
    from helpers.methods import METHODS
    from helpers.train import TrainConfig

    if "task" in entry:
        get_task(entry["task"])
    look_up(METHODS, entry["method"], "method")
    for key, kind in (("evaluation", Evaluation), ("train", TrainConfig)):
        known = sorted(f.name for f in fields(kind))
        if unknown := set(entry.get(key, {})) - set(known):
            raise BadFile(f"{path}: [{name}.{key}] has unknown {sorted(unknown)}; known: {known}")
    given = {key: entry.get(key, {}) for key in options}
    given |= {key: entry.get(key, "") for key in ("trained_by", "plays")}
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
    small = {"episodes": 2, "checks": 1, "check_episodes": 1, "sweep": sweep, "sweep_episodes": 1}
    widest = {"beam_width": 2, "horizon": 2, "context": 2} if run.method == "tt" else {}
    if "plan_every" in run.planner:
        widest["plan_every"] = 2
    # Not above what the run itself asks for: one that does not search cannot keep two beams.
    planner = {name: min(size, run.planner.get(name, size)) for name, size in widest.items()}
    shape = {"width": 16, "layers": 1}
    if run.method in ("dt", "tt"):
        shape["context_length"] = 5
    if run.method == "leap":
        shape["heads"] = 4
    return replace(
        run,
        planner={**run.planner, **planner},
        model={**run.model, **shape},
        train={**run.train, "steps": 40, "batch_size": 8, "warmup_steps": 5, "log_every": 10},
        evaluation={**run.evaluation, **small},
    )


def obtain(run: Run, profile: str) -> tuple[dict[str, Any], Path]:
    """The result and the checkpoint of a run, as a chapter of that profile wants them.

    Args:
        run: a run of `experiments.toml`.
        profile: "book" reads what is committed, "full" trains what is missing or stale, "smoke"
            trains a tiny version on the committed sample, outside data/results.

    Raises:
        ValueError: another profile.
        BadFile: in the book profile, a result is missing or stale.
    """
    if profile == "smoke":
        folder = paths.WORK / "smoke"
        if run.trained_by and not _made(smoke_version(run.trainer()), folder):
            obtain(run.trainer(), profile)
        small = smoke_version(run)
        path = execute(small, folder=folder, sample=True, progress=False)
        return read_json(path), small.checkpoint_path(folder)
    if profile not in ("book", "full"):
        raise ValueError(f"profile is {profile!r}; choose smoke, book or full")
    if run.state() != "done":
        if profile == "book":
            command = f"python -m helpers run {run.experiment}"
            raise BadFile(f"{run.result_path()}: {run.state()}; make it with `{command}`")
        execute(run)
    return read_json(run.result_path()), run.checkpoint_path()


def _made(run: Run, folder: Path) -> bool:
    """Whether `folder` holds the model of this very configuration."""
    path = run.result_path(folder)
    same = path.exists() and read_json(path)["run"] == json.loads(json.dumps(asdict(run)))
    return same and run.checkpoint_path(folder).exists()


def execute(
    run: Run,
    *,
    folder: Path | None = None,
    sample: bool = False,
    device: str = "cpu",
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Train and evaluate; leaves a checkpoint and a result file, in that order.

    A run that was interrupted continues: training from its saved state, and evaluations that were
    already made are not repeated.

    Args:
        run: what to do.
        folder: where `results/` and `checkpoints/` lie; default data.
        sample: train on the few committed episodes instead of the whole dataset.
        device: of the training.
        workers: processes of the evaluation.
        progress: show bars.

    Raises:
        BadFile: the dataset is not there, or its content is not what the registry says.
        Diverged: the loss is not finite.
    """
    from helpers.evaluate import evaluate

    task = get_task(run.plays or run.task)
    evaluation = Evaluation(**run.evaluation)
    # Playing a committed model needs its dataset's hash only, not the episodes.
    plays_only = run.trained_by and not sample
    dataset, data_hash = (None, known_hash(run.dataset)) if plays_only else _dataset(run, sample)
    identity = run.identity(data_hash)
    play = partial(evaluate, task=task, workers=workers, progress=progress)
    target = task.target_return if evaluation.target is None else evaluation.target
    if run.trained_by:
        trainer = run.trainer()
        saved = checkpoint = trainer.checkpoint_path(folder)
        if not saved.exists():
            raise BadFile(f"{saved}: not trained yet; `python -m helpers run {run.trained_by}`")
        trained = read_json(trainer.result_path(folder))
        journal = {**trained, "seconds": 0.0, "checks": [], "history": []}
    else:
        journal, saved = _train(run, dataset, identity, play, target, device, progress)
        checkpoint = run.checkpoint_path(folder)

    make = final_agent(run, saved)
    seeds = list(range(FINAL_SEED, FINAL_SEED + evaluation.episodes))
    start = time.perf_counter()
    final = play(make, seeds=seeds, targets=target)
    seconds = time.perf_counter() - start
    sweep = {}
    if evaluation.sweep:
        count = evaluation.sweep_episodes
        targets = np.repeat(evaluation.sweep, count)
        seeds = list(range(SWEEP_SEED, SWEEP_SEED + len(targets)))
        returns = play(make, seeds=seeds, targets=targets).returns.reshape(-1, count)
        sweep = {"targets": list(evaluation.sweep), "returns": [_rounded(row) for row in returns]}
    if not run.trained_by:
        # Not from the model: after an interruption behind the last check, nothing was trained.
        write_bytes(checkpoint, saved.read_bytes())
        _keep_best(journal, saved.with_name(BEST), run.best_checkpoint_path(folder))
    result = {
        "identity": identity,
        "run": asdict(run),
        "data_sha256": data_hash,
        "checkpoint_sha256": sha256(checkpoint),
        "parameters": journal["parameters"],
        "target": target,
        "returns": _rounded(final.returns),
        "last": float(final.returns.mean()),
        "best": _best(journal["checks"]),
        "checks": journal["checks"],
        "sweep": sweep,
        "history": journal["history"],
        "train_seconds": round(journal["seconds"], 1),
        "evaluation_seconds": round(seconds, 1),
        "versions": versions(task.env_id),
    }
    write_json(run.result_path(folder), result)
    return run.result_path(folder)


def final_agent(run: Run, checkpoint: Path) -> Callable[[np.ndarray], Any]:
    """What `evaluate` calls for the agents of a run's final evaluation."""
    from helpers.methods import METHODS, agent_maker, noisy_agent

    make = agent_maker(METHODS[run.method], run.planner, checkpoint)
    noise = Evaluation(**run.evaluation).noise
    return partial(noisy_agent, make, run.plays or run.task, noise) if noise else make


def _train(
    run: Run,
    dataset: Any,
    identity: str,
    play: Callable[..., Any],
    target: float,
    device: str,
    progress: bool,
) -> tuple[dict[str, Any], Path]:
    """Train up to each check and play there; returns the journal and the last model's file."""
    from helpers.methods import METHODS, agent_maker
    from helpers.models.checkpoints import save_model
    from helpers.train import TrainConfig, seconds_spent, train

    method, config = METHODS[run.method], TrainConfig(**run.train)
    evaluation = Evaluation(**run.evaluation)
    model, windows = _prepare(run, dataset)
    work = paths.WORK / "runs" / identity
    journal_path, saved = work / "journal.json", work / "model.safetensors"
    journal = read_json(journal_path) if journal_path.exists() else {"checks": [], "seconds": 0.0}
    for check in range(1, evaluation.checks + 1):
        step = config.steps * check // evaluation.checks
        if any(row["step"] == step for row in journal["checks"]):
            continue
        history = train(
            model, method.loss, windows.sample, config,
            seed=run.seed, state_path=work / "state.pt", until=step, device=device,
            progress=progress, groups=method.groups, after_step=method.after_step,
        )  # fmt: skip
        journal["seconds"] = seconds_spent(work / "state.pt")
        save_model(saved, model, {"run": asdict(run), "identity": identity, "step": step})
        seeds = list(range(evaluation.check_episodes))
        make = agent_maker(method, run.planner, saved)
        returns = play(make, seeds=seeds, targets=target).returns if seeds else np.zeros(0)
        journal["checks"].append({"step": step, "returns": _rounded(returns)})
        if (best := _best(journal["checks"])) and best["step"] == step:
            write_bytes(work / BEST, saved.read_bytes())
        write_json(journal_path, {**journal, "history": history})
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {**read_json(journal_path), "parameters": parameters}, saved


def _best(checks: list[dict[str, Any]]) -> dict[str, int | float] | None:
    """The check with the highest mean: a choice made on evaluation returns, so it flatters."""
    means = [
        {"step": row["step"], "mean": float(np.mean(row["returns"]))}
        for row in checks
        if row["returns"]
    ]
    return max(means, key=lambda row: row["mean"], default=None)


def _keep_best(journal: dict[str, Any], best: Path, target: Path) -> None:
    """Store the best check's model unless the last one is it."""
    found = _best(journal["checks"])
    if found and found["step"] != journal["checks"][-1]["step"] and best.exists():
        write_bytes(target, best.read_bytes())
    else:
        target.unlink(missing_ok=True)


def _dataset(run: Run, sample: bool) -> tuple[Any, str]:
    from helpers.data.catalogue import load_dataset

    dataset = load_dataset(run.dataset, sample=sample)
    found = dataset.content_hash()
    expected = known_hash(run.dataset)
    if not sample and expected and found != expected:
        raise BadFile(
            f"{paths.DATASETS / run.dataset}: content hash {found[:16]} is not the registry's "
            f"{expected[:16]}; the files were altered or made on another machine: collect again, "
            "or record yours with `python -m helpers collect --record`"
        )
    if run.demonstrations and not sample:
        if run.demonstrations > len(dataset.lengths):
            raise BadFile(
                f"experiments.toml: [{run.experiment}] wants {run.demonstrations} demonstrations, "
                f"but {run.dataset} has {len(dataset.lengths)} episodes"
            )
        dataset = dataset.select(range(run.demonstrations))
    return dataset, found


def _prepare(run: Run, dataset: Any) -> tuple[Any, Any]:
    """The freshly initialised model, fitted to the data's ranges, and the training windows."""
    import torch

    from helpers.methods import METHODS

    method = METHODS[run.method]
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = method.make(get_task(run.task), dataset, **run.model)
    return model, method.windows(dataset, model)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]


def versions(env_id: str) -> dict[str, str]:
    """What a result depends on beside its configuration."""
    packages = ("torch", "numpy", "gymnasium", "mujoco", "minari")
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    commit = subprocess.run(
        command, cwd=paths.ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "environment": env_id,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "commit": commit or "unknown",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def results_table(experiments: dict[str, list[Run]] | None = None) -> list[dict[str, Any]]:
    """One row per experiment, dataset, number of demonstrations and metric, of what is done."""
    groups: dict[tuple[str, str, str, int, str], list[dict[str, Any]]] = {}
    for runs in (experiments or load_experiments()).values():
        for run in runs:
            if run.state() == "done":
                task = run.plays or run.task
                key = (run.experiment, task, run.dataset, run.demonstrations, run.method)
                groups.setdefault(key, []).append(read_json(run.result_path()))
    rows = []
    for (experiment, task_name, dataset, count, method), results in sorted(groups.items()):
        task = get_task(task_name)
        returns = np.array([result["returns"] for result in results])
        metrics = {"return": returns, "score": task.normalised_score(returns)}
        if task.layout:  # a reward is paid for a success and for nothing else
            metrics = {"return": returns, "success": 100.0 * (returns > 0)}
        for metric, values in metrics.items():
            interval = mean_interval(values)
            rows.append(
                {
                    "experiment": experiment,
                    "task": task_name,
                    "environment": task.env_id,
                    "dataset": dataset,
                    "demonstrations": count or "all",
                    "method": method,
                    "metric": metric,
                    "seeds": len(results),
                    "episodes": returns.shape[1],
                    **asdict(interval),
                }
            )
    return rows
