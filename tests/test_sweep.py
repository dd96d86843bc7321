"""Sweeps: local processes, a real Dask cluster, workers that die, runs that cannot succeed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask
import pytest

from helpers import __main__ as command_line
from helpers import paths
from helpers.experiments import Run, load_experiments, smoke_version
from helpers.files import BadFile, read_json
from helpers.sweep import Summary, sweep


def cells(count: int = 4) -> list[Run]:
    """Small runs that differ in their seed."""
    run = smoke_version(load_experiments()["dt"][0])
    longer = {**run.train, "steps": 150}
    return [dataclasses.replace(run, seed=seed, train=longer) for seed in range(count)]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The runs, done by processes of this machine."""
    folder = tmp_path_factory.mktemp("local")
    patch = pytest.MonkeyPatch()
    patch.setattr(paths, "WORK", folder / "work")
    summary = sweep(cells(), workers=2, folder=folder, sample=True, progress=False)
    yield folder, summary
    patch.undo()


def same_results(folder, other) -> bool:
    for run in cells():
        mine, theirs = (read_json(run.result_path(place)) for place in (folder, other))
        if any(mine[key] != theirs[key] for key in ("returns", "checkpoint_sha256", "identity")):
            return False
    return True


def test_processes_do_every_run(local):
    folder, summary = local
    assert sorted(summary.done) == [run.name for run in cells()]
    assert not summary.failed and not summary.skipped
    assert len(list((folder / "results").rglob("*.json"))) == len(cells())
    assert not list(folder.rglob("*.part"))


@contextmanager
def dask_cluster(tmp_path, workers, **variables):
    """A scheduler and workers, each a process of its own that nothing restarts."""
    tmp_path.mkdir(exist_ok=True)
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0",
               "--no-dashboard", "--scheduler-file", str(file)]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen(command, **quiet)]
    while not file.exists():
        time.sleep(0.1)
    for _ in range(workers):
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file",
                  str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard",
                  "--local-directory", str(tmp_path / "dask")]  # fmt: skip
        processes.append(subprocess.Popen(worker, **quiet))
    try:
        yield json.loads(file.read_text())["address"], processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    """Two workers."""
    with dask_cluster(tmp_path, 2) as started:
        yield started


def test_a_worker_may_die_in_the_middle(local, cluster, tmp_path, monkeypatch):
    """Every run is done once, none is half-written, and results are those of local processes."""
    address, (_, victim, _) = cluster
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    folder = tmp_path / "dask-results"
    killed = []
    note = Summary.note

    def note_and_kill(self, run, error):
        if not killed:
            victim.send_signal(signal.SIGKILL)
            killed.append(run.name)
        note(self, run, error)

    monkeypatch.setattr(Summary, "note", note_and_kill)
    summary = sweep(cells(), address=address, folder=folder, sample=True, progress=False)
    assert killed and victim.wait() == -signal.SIGKILL
    assert sorted(summary.done) == [run.name for run in cells()]
    assert not summary.failed
    assert not list(folder.rglob("*.part"))
    assert same_results(folder, local[0])


def test_what_cannot_succeed_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    good, bad = cells(1)[0], dataclasses.replace(cells(1)[0], seed=7, model={"widht": 3})
    summary = sweep([good, bad], workers=1, folder=tmp_path, sample=True, progress=False)
    assert summary.done == [good.name]
    assert "widht" in summary.failed[bad.name]
    assert str(summary).startswith("1 done, 0 skipped, 1 failed\n  dt/halfcheetah/medium-s7: Value")


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("fault", [OSError, BadFile])
def test_who_needs_a_model_waits_for_the_next_attempt(monkeypatch, tmp_path, fault, retries):
    """A trainer that fails once must not fail for good those that play its model."""
    tried = []

    def work(run, **_):
        tried.append(run.experiment)
        if tried == ["cross-tt"]:
            raise fault("the disk is full")
        return tmp_path

    monkeypatch.setattr("helpers.sweep._work", work)
    monkeypatch.setattr("helpers.sweep._executor", lambda *_: ThreadPoolExecutor(1))
    names = ["cross-tt", "cross-iql", "cross-ttq", "cross-tt-short", "cross-qdt"]
    runs = {name: load_experiments()[name][0] for name in names}
    summary = sweep(
        list(runs.values()), workers=1, retries=retries, folder=tmp_path, progress=False
    )
    waiting = {runs[name].name for name in ("cross-ttq", "cross-tt-short")}
    if fault is OSError and retries:
        assert tried == ["cross-tt", "cross-iql", "cross-qdt", "cross-tt", *names[2:4]]
        assert not summary.failed and len(summary.done) == len(names)
    else:
        assert tried == ["cross-tt", "cross-iql", "cross-qdt"], "not again, and not in vain"
        assert set(summary.failed) == {runs["cross-tt"].name, *waiting}
        assert all("needs the model of cross-tt/" in summary.failed[name] for name in waiting)


def test_done_runs_are_skipped(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["helpers", "sweep", "dt", "--only", "halfcheetah/medium-s0"])
    assert command_line.main() == 0
    assert capsys.readouterr().out.startswith("0 done, 1 skipped, 0 failed")


def test_a_worker_without_the_package_is_named(tmp_path, monkeypatch):
    """As on a machine where the project is not installed: nothing is tried, the worker is told."""
    hide = "import sys\nsys.modules['helpers'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    with dask_cluster(tmp_path, 1, PYTHONPATH=str(tmp_path)) as (address, _):
        with pytest.raises(BadFile, match=r"workers tcp://.* lack the package `helpers`; start"):
            sweep(cells(1), address=address, folder=tmp_path, sample=True, progress=False)
    monkeypatch.setattr("helpers.sweep.WAIT", 1)
    with (
        dask_cluster(tmp_path / "empty", 0) as (address, _),
        pytest.raises(
            BadFile, match="no workers for 1 seconds; start some with `dask worker tcp://"
        ),
    ):
        sweep(cells(1), address=address, folder=tmp_path, sample=True, progress=False)


def test_no_scheduler_no_sweep(monkeypatch, capsys):
    monkeypatch.setattr("helpers.experiments.Run.state", lambda self: "missing")
    arguments = ["helpers", "sweep", "dt", "--address", "tcp://127.0.0.1:9"]
    monkeypatch.setattr(sys, "argv", arguments)
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert command_line.main() == 1
    assert "tcp://127.0.0.1:9" in capsys.readouterr().err
