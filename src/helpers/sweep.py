"""Many runs at once: on processes of this machine, or on a Dask cluster given by its address.

Runs share nothing but the file system, where each leaves its result by a rename; so a run that is
tried twice leaves one whole result, and one whose worker is killed goes on from its saved state.
Workers elsewhere need the same repository (data, experiments.toml) under the same path.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from helpers import paths
from helpers.evaluate import one_thread_each
from helpers.experiments import Run
from helpers.files import BadFile
from helpers.runs import execute

WAIT = 30
"""Seconds in which a cluster's first worker has to join."""
Execute = Callable[[Run], Path]


@dataclass(frozen=True)
class Summary:
    """What became of the runs of a sweep, by name."""

    skipped: list[str] = field(default_factory=list)
    """Done before."""
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """With the last error."""

    def note(self, run: Run, error: BaseException | None) -> None:
        """Take down how an attempt ended."""
        if error is None:
            self.done.append(run.name)
            self.failed.pop(run.name, None)
        else:
            self.failed[run.name] = f"{type(error).__name__}: {error}"

    def __str__(self) -> str:
        """Counts, and a line for each failure."""
        lines = [f"{len(self.done)} done, {len(self.skipped)} skipped, {len(self.failed)} failed"]
        lines += [f"  {name}: {error}" for name, error in sorted(self.failed.items())]
        return "\n".join(lines)


def sweep(
    runs: Sequence[Run],
    *,
    workers: int | None = None,
    address: str = "",
    retries: int = 1,
    progress: bool = True,
    folder: Path | None = None,
    sample: bool = False,
) -> Summary:
    """Execute the runs that are not done.

    A run that needs the models of others waits until they are trained. A run that fails is tried
    again after all others, `retries` times, and so is what waits for it; bad input (`BadFile`,
    `ValueError`) is not, since it would fail again.

    Args:
        runs: of `experiments.toml`.
        workers: processes on this machine; default one a core.
        address: a Dask scheduler's, such as tcp://10.0.0.1:8786; its workers are used instead.
        retries: further attempts.
        progress: show a bar.
        folder: of results and checkpoints; default data.
        sample: train on the committed samples (for tests).

    Raises:
        OSError: no scheduler answers at `address`.
        BadFile: it has no workers, or workers without this package.
    """
    summary = Summary()
    if folder is None:
        summary.skipped.extend(run.name for run in runs if run.state() == "done")
    waiting = [run for run in runs if run.name not in summary.skipped]
    work = partial(_work, folder=folder, sample=sample, root=paths.ROOT, scratch=paths.WORK)
    with tqdm(total=len(waiting), unit="run", disable=not progress) as bar:
        for attempt in range(retries + 1):
            ended = {}
            for run, error in _attempt(waiting, work, workers, address):
                summary.note(run, error)
                ended[run.name] = error is None or _hopeless(error) or attempt == retries
                bar.update(ended[run.name])
                bar.set_postfix(failed=len(summary.failed))
            waiting = [run for run in waiting if not ended[run.name]]
    return summary


def _hopeless(error: BaseException) -> bool:
    return isinstance(error, (BadFile, ValueError))


def _attempt(
    runs: list[Run], work: Execute, workers: int | None, address: str
) -> Iterator[tuple[Run, BaseException | None]]:
    """Try each run once; yields them as they end, with what went wrong.

    Those that need another run's model begin when all that need none have ended, and so on. A run
    is not tried if that model was not made: to it, its input would be bad for good.
    """
    depths = {run.name: run.depth for run in runs}
    failed: dict[str, BaseException] = {}
    for depth in sorted(set(depths.values())):
        stage = [run for run in runs if depths[run.name] == depth]
        lacking = {run.name: error for run in stage if (error := _lacking(run, failed))}
        ready = [run for run in stage if run.name not in lacking]
        blocked = [(run, lacking[run.name]) for run in stage if run.name in lacking]
        for run, error in itertools.chain(blocked, _together(ready, work, workers, address)):
            if error is not None:
                failed[run.name] = error
            yield run, error


def _lacking(run: Run, failed: Mapping[str, BaseException]) -> Exception | None:
    """What keeps a run from being tried: that of the models it needs, some were not made."""
    needed = [partner.trainer().name for partner in run.partners.values()]
    errors = {name: failed[name] for name in needed if name in failed}
    if not errors:
        return None
    kind = BadFile if any(map(_hopeless, errors.values())) else RuntimeError
    return kind(f"needs the model of {' and of '.join(errors)}, which failed")


def _together(
    runs: list[Run], work: Execute, workers: int | None, address: str
) -> Iterator[tuple[Run, BaseException | None]]:
    """Try runs that need nothing of each other."""
    if not runs:
        return
    with _executor(workers, address) as pool:
        futures: dict[Future[Path], Run] = {pool.submit(work, run): run for run in runs}
        for future in as_completed(futures):
            try:
                error = future.exception()
            except CancelledError as cancelled:
                error = cancelled
            yield futures[future], error


@contextmanager
def _executor(workers: int | None, address: str) -> Iterator[Executor]:
    if not address:
        # Forked children of a process that already uses threads can hang: start afresh.
        context = multiprocessing.get_context("spawn")
        with one_thread_each(), ProcessPoolExecutor(workers or os.cpu_count(), context) as pool:
            yield pool
        return
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "a cluster needs the extra `cluster`: pip install -e '.[cluster]'"
        ) from None
    with Client(address) as client:
        _check_workers(client)
        client.forward_logging(level=logging.ERROR)
        with client.get_executor(pure=False) as pool:
            yield pool


def _check_workers(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise BadFile(
            f"{client.scheduler.address}: the scheduler has had no workers for {WAIT} seconds; "
            f"start some with `dask worker {client.scheduler.address}`"
        ) from None
    found = client.run(importlib.util.find_spec, "helpers", on_error="return")
    if lacking := sorted(worker for worker, spec in found.items() if not hasattr(spec, "origin")):
        raise BadFile(
            f"workers {', '.join(lacking)} lack the package `helpers`; start them in the "
            "environment of this repository (make sets it up in .venv)"
        )


def _work(run: Run, *, folder: Path | None, sample: bool, root: Path, scratch: Path) -> Path:
    """In a worker: one core, no bars; the caller's folders."""
    import torch

    torch.set_num_threads(1)
    if paths.ROOT != root:
        raise BadFile(f"this worker's repository is {paths.ROOT}, but the sweep's is {root}")
    paths.WORK = scratch
    return execute(run, folder=folder, sample=sample, progress=False)
