"""Runs of the experiments: training, evaluation, and the result file that both leave."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from helpers import paths
from helpers.analysis.statistics import mean_interval
from helpers.data.cards import FINAL_SEED
from helpers.data.catalogue import known_hash
from helpers.envs.shifts import shifted
from helpers.experiments import (
    Evaluation,
    Run,
    check_planner,
    load_experiments,
    smoke_version,
)
from helpers.files import BadFile, read_json, sha256, write_bytes, write_json
from helpers.ledger import note_read
from helpers.tasks import Task, get_task

SWEEP_SEED = 600_000
BEST = "best.safetensors"
"""In a run's working folder: the model of the best check so far."""


def obtain(run: Run, profile: str) -> tuple[dict[str, Any], Path]:
    """The result and the checkpoint of a run, as a chapter of that profile wants them.

    Args:
        run: a run of `experiments.toml`, or `library.own_run`.
        profile: "book" reads what is committed, "full" trains what is missing or stale, "smoke"
            trains a tiny version on the committed sample, outside data/results.

    Raises:
        ValueError: another profile.
        BadFile: in the book profile, a result is missing or stale.
    """
    note_read(run.experiment)
    return _obtain(run, profile)


def _obtain(run: Run, profile: str) -> tuple[dict[str, Any], Path]:
    if profile == "smoke":
        folder = paths.WORK / "smoke"
        for partner in run.partners.values():
            if not _made(smoke_version(partner), folder):
                _obtain(partner, profile)
        small = smoke_version(run)
        path = execute(small, folder=folder, sample=True, progress=False)
        return read_json(path), small.checkpoint_path(folder)
    if profile not in ("book", "full"):
        raise ValueError(f"profile is {profile!r}; choose smoke, book or full")
    if run.state() != "done":
        if profile == "book":
            command = f"python -m helpers run {run.experiment}"
            raise BadFile(f"{run.result_path()}: {run.state()}; make it with `{command}`")
        for partner in run.partners.values():
            _obtain(partner, profile)
            if not partner.trainer().checkpoint_path().exists():  # done, but not kept in git
                execute(partner.trainer())
        execute(run)
    return read_json(run.result_path()), run.checkpoint_path()


def returns_by_cell(
    runs: Sequence[Run], profile: str
) -> dict[tuple[str, int], Float[np.ndarray, "_seeds _episodes"]]:
    """Returns of an experiment's last checkpoints, by dataset and number of demonstrations.

    Args:
        runs: of one experiment.
        profile: as of `obtain`; in the profile smoke the first run stands alone.
    """
    rows: dict[tuple[str, int], list[list[float]]] = {}
    for run in runs[:1] if profile == "smoke" else runs:
        cell = run.dataset, run.demonstrations
        rows.setdefault(cell, []).append(obtain(run, profile)[0]["returns"])
    return {cell: np.array(returns) for cell, returns in rows.items()}


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
    again: bool = False,
) -> Path:
    """Train and evaluate; leaves a checkpoint and a result file, in that order.

    A run that was interrupted continues: training from its saved state, and evaluations that were
    already made are not repeated. So does one that ended, whose working folder is still there: it
    is only scored again, unless `again`.

    Args:
        run: what to do.
        folder: where `results/` and `checkpoints/` lie; default data.
        sample: train on the few committed episodes instead of the whole dataset.
        device: of the training.
        workers: processes of the evaluation.
        progress: show bars.
        again: train from the first step, whatever an earlier call has left.

    Raises:
        BadFile: the dataset is not there, or its content is not what the registry says; or a run
            whose model this one needs was not made, or made by another configuration, or its file
            is another one than its result tells of; or no agent can be made as it asks for.
        Diverged: the loss is not finite.
        ValueError: the world of this task cannot be changed as `shifts` asks.
    """
    from helpers.evaluate import evaluate

    task, evaluation = get_task(run.plays or run.task), Evaluation(**run.evaluation)
    target = task.target_return if evaluation.target is None else evaluation.target
    _check_partners(run, folder)
    worlds = _changed_worlds(task, evaluation)  # before the training, since it may fail
    # Playing a committed model needs its dataset's hash only, not the episodes.
    plays_only = run.trained_by and not sample
    dataset, data_hash = (None, known_hash(run.dataset)) if plays_only else _dataset(run, sample)
    identity = run.identity(data_hash)
    play = partial(evaluate, task=task, workers=workers, progress=progress)
    _check_agent(run, dataset, folder)
    if run.trained_by:
        journal, saved = _trained_before(run.trainer(), folder)
    else:
        if again and _working_folder(identity).exists():
            shutil.rmtree(_working_folder(identity))
        dataset = _learned_from(run, dataset, folder, sample, progress)
        journal, saved = _train(run, dataset, identity, play, target, device, progress, folder)
    scores = _final_scores(final_agent(run, saved, folder), evaluation, play, target, worlds)
    checkpoint = saved if run.trained_by else _keep_models(run, journal, saved, folder)
    result = {
        "identity": identity,
        "run": asdict(run),
        "data_sha256": data_hash,
        "checkpoint_sha256": sha256(checkpoint),
        "parameters": journal["parameters"],
        "target": target,
        **scores,
        "best": _best(journal["checks"]),
        "checks": journal["checks"],
        "history": journal["history"],
        "train_seconds": round(journal["seconds"], 1),
        "versions": versions(task.env_id),
    }
    write_json(run.result_path(folder), result)
    return run.result_path(folder)


def _working_folder(identity: str) -> Path:
    """Of a run's journal and states: named by configuration and data, which code is no part of."""
    return paths.WORK / "runs" / identity


def _check_partners(run: Run, folder: Path | None) -> None:
    """Raise unless the models that a run needs are there, made as `experiments.toml` has it now."""
    for partner in run.partners.values():
        trainer = partner.trainer()
        needed, told = trainer.checkpoint_path(folder), trainer.result_path(folder)
        command = f"python -m helpers run {trainer.experiment} --only {trainer.name}"
        if folder is None and (state := trainer.state()) != "done":
            raise BadFile(f"{told}: {state}; make it with `{command}`")
        if not needed.exists():
            raise BadFile(f"{needed}: not here; train it with `{command} --again`")
        # Git keeps the result, but not every model: this may be one of an older configuration.
        recorded = read_json(told).get("checkpoint_sha256") if told.exists() else None
        if recorded and recorded != sha256(needed):
            raise BadFile(
                f"{needed}: not the model that {told} tells of; restore it (git checkout) or train "
                f"it with `{command} --again`"
            )


def _check_agent(run: Run, dataset: Any, folder: Path | None) -> None:
    """Raise if a run's agents cannot be made: with an untrained model, before hours of training."""
    import torch

    from helpers.models.checkpoints import save_model

    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        model = run.trainer().checkpoint_path(folder)
        if not run.trained_by:
            model = Path(scratch) / "untrained.safetensors"
            save_model(model, fresh_model(run, dataset), {})
        try:
            check_planner(run.method, run.planner)
            final_agent(run, model, folder)(np.zeros(1))
        except ValueError as error:
            raise BadFile(
                f"experiments.toml: [{run.experiment}] cannot be played with these options of its "
                f"planner and evaluation: {error}"
            ) from error


def _changed_worlds(task: Task, evaluation: Evaluation) -> dict[str, dict[str, Task]]:
    """The task in each world of `Evaluation.shifts`, by property and factor as a result has it."""
    return {
        name: {f"{factor:g}": shifted(task, name, factor) for factor in factors}
        for name, factors in evaluation.shifts.items()
    }


def _trained_before(trainer: Run, folder: Path | None) -> tuple[dict[str, Any], Path]:
    """The journal of a run that plays the trainer's model, and the model's file."""
    trained = read_json(trainer.result_path(folder))
    journal = {**trained, "seconds": 0.0, "checks": [], "history": []}
    return journal, trainer.checkpoint_path(folder)


def _final_scores(
    make: Callable[[np.ndarray], Any],
    evaluation: Evaluation,
    play: Callable[..., Any],
    target: float,
    worlds: dict[str, dict[str, Task]],
) -> dict[str, Any]:
    """What the last model's agents earn: in their own world, in changed ones, in the sweep."""
    seeds = list(range(FINAL_SEED, FINAL_SEED + evaluation.episodes))
    start = time.perf_counter()
    returns = play(make, seeds=seeds, targets=target).returns
    seconds = time.perf_counter() - start
    first = partial(play, make, seeds=seeds[: evaluation.shift_episodes], targets=target)
    shifts = {
        name: {factor: _rounded(first(task=world).returns) for factor, world in some.items()}
        for name, some in worlds.items()
    }
    return {
        "returns": _rounded(returns),
        "last": float(returns.mean()),
        "evaluation_seconds": round(seconds, 1),
        "shifts": shifts,
        "sweep": _sweep(make, evaluation, play) if evaluation.sweep else {},
    }


def _sweep(
    make: Callable[[np.ndarray], Any], evaluation: Evaluation, play: Callable[..., Any]
) -> dict[str, list[Any]]:
    """Returns for each of several targets."""
    count = evaluation.sweep_episodes
    targets = np.repeat(evaluation.sweep, count)
    seeds = list(range(SWEEP_SEED, SWEEP_SEED + len(targets)))
    returns = play(make, seeds=seeds, targets=targets).returns.reshape(-1, count)
    return {"targets": list(evaluation.sweep), "returns": [_rounded(row) for row in returns]}


def _keep_models(run: Run, journal: dict[str, Any], saved: Path, folder: Path | None) -> Path:
    """Copy the last model, and a better earlier one, out of the working folder; the last's path.

    The file, not the model: after an interruption behind the last check, nothing was trained.
    """
    checkpoint = run.checkpoint_path(folder)
    write_bytes(checkpoint, saved.read_bytes())
    _keep_best(journal, saved.with_name(BEST), run.best_checkpoint_path(folder))
    return checkpoint


def final_agent(
    run: Run, checkpoint: Path, folder: Path | None = None
) -> Callable[[np.ndarray], Any]:
    """What `evaluate` calls for the agents of a run's final evaluation.

    Args:
        run: a run.
        checkpoint: of its model.
        folder: where its partners' checkpoints lie; default data.
    """
    from helpers.methods import METHODS, agent_maker, noisy_agent

    make = agent_maker(METHODS[run.method], _planner(run, folder), checkpoint)
    noise = Evaluation(**run.evaluation).noise
    return partial(noisy_agent, make, run.plays or run.task, noise) if noise else make


def _planner(run: Run, folder: Path | None) -> dict[str, Any]:
    """The planner's options, with the critic's file where a beam is to be ranked by one."""
    if run.critic and run.method == "tt":
        return {**run.planner, "critic": run.partner("critic").checkpoint_path(folder)}
    return run.planner


def _learned_from(run: Run, dataset: Any, folder: Path | None, sample: bool, progress: bool) -> Any:
    """What a run is trained on: the dataset, one with a critic's returns-to-go, or lessons."""
    from helpers.distillation import lessons
    from helpers.stitching import load_critic, relabel

    if run.critic and run.method == "dt":
        return relabel(dataset, load_critic(run.partner("critic").checkpoint_path(folder)))
    if run.teacher:
        teacher = run.partner("teacher")
        checkpoint = teacher.trainer().checkpoint_path(folder)
        teacher = smoke_version(teacher) if sample else teacher
        player = teacher.identity(known_hash(run.dataset))  # its search, too
        kept = paths.WORK / "lessons" / sha256(checkpoint)[:16] / player
        make = final_agent(teacher, checkpoint, folder)
        return lessons(make, get_task(run.task), run.lessons, kept, progress)
    return dataset


def _train(
    run: Run,
    dataset: Any,
    identity: str,
    play: Callable[..., Any],
    target: float,
    device: str,
    progress: bool,
    folder: Path | None,
) -> tuple[dict[str, Any], Path]:
    """Train up to each check and play there; returns the journal and the last model's file."""
    from helpers.methods import METHODS, agent_maker
    from helpers.models.checkpoints import save_model
    from helpers.train import TrainConfig, seconds_spent, train

    method, config = METHODS[run.method], TrainConfig(**run.train)
    evaluation = Evaluation(**run.evaluation)
    model, windows = _prepare(run, dataset)
    work = _working_folder(identity)
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
        make = agent_maker(method, _planner(run, folder), saved)
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
    """A fresh model and the training windows."""
    from helpers.methods import METHODS

    model = fresh_model(run, dataset)
    return model, METHODS[run.method].windows(dataset, model)


def fresh_model(run: Run, dataset: Any) -> Any:
    """A run's model before its training, initialised from its seed, fitted to the data's ranges."""
    import torch

    from helpers.methods import METHODS

    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        return METHODS[run.method].make(get_task(run.task), dataset, **run.model)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]


def versions(env_id: str) -> dict[str, str]:
    """What a result depends on beside its configuration."""
    packages = ("torch", "numpy", "gymnasium", "mujoco", "minari")
    cpuinfo = Path("/proc/cpuinfo")  # elsewhere, Python knows the name
    names = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
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
        "processor": names[0] if names else platform.processor() or "unknown",
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
        metrics = {"return": returns, "success" if task.layout else "score": task.score(returns)}
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
