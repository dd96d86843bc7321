"""Committed results, computed again; and altered ones, found out."""

import dataclasses
import sys

import numpy as np
import pytest

from helpers import __main__ as command_line
from helpers import paths, recheck
from helpers.data import catalogue
from helpers.experiments import load_experiments, smoke_version
from helpers.files import BadFile, read_json, write_json
from helpers.recheck import Recheck
from helpers.runs import execute
from helpers.tasks import get_task


def test_a_sample_of_the_committed_results_is_reproduced(monkeypatch, capsys, tmp_path):
    """From checkpoints, as on a machine without datasets: training takes minutes."""
    monkeypatch.setattr(paths, "DATASETS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["helpers", "results", "--check", "1", "--seed", "1"])
    assert command_line.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ok")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny run with a result and a checkpoint of its own."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    sample = catalogue.load_dataset("halfcheetah/medium", sample=True)
    monkeypatch.setattr(catalogue, "load_dataset", lambda *_, **__: sample)
    for module in ("experiments", "runs"):
        monkeypatch.setattr(f"helpers.{module}.known_hash", lambda name: sample.content_hash())
    run = smoke_version(load_experiments()["dt"][0])
    run = dataclasses.replace(run, evaluation={**run.evaluation, "episodes": 4})
    execute(run, progress=False)
    return run


def test_evaluation_and_training_are_repeated_to_the_bit(small, monkeypatch):
    (row,) = recheck.recheck([small], 3, seed=0, progress=False)
    assert row.how == "evaluated" and row.identical and row.passed
    small.checkpoint_path().unlink()
    monkeypatch.setattr(paths, "DATASETS", paths.DATA)
    (paths.DATASETS / "halfcheetah" / "medium-v0").mkdir(parents=True)
    (row,) = recheck.recheck([small], 3, seed=0, progress=False)
    assert row.how == "trained" and row.identical and row.passed
    assert not small.checkpoint_path().exists(), "the real folders are left alone"


def test_noisy_play_is_repeated_to_the_bit(small):
    quiet = read_json(small.result_path())["returns"]
    noisy = dataclasses.replace(small, evaluation={**small.evaluation, "noise": 0.5})
    execute(noisy, progress=False)
    shaken = read_json(small.result_path())["returns"]
    assert noisy.identity("a") != small.identity("a")
    assert not np.isclose(shaken, quiet).any()
    (row,) = recheck.recheck([noisy], 1, seed=0, progress=False)
    assert row.how == "evaluated" and row.identical


def test_an_altered_result_is_found_out(small):
    result = read_json(small.result_path())
    better = [value + 5 * (np.std(result["returns"]) + 1) for value in result["returns"]]
    write_json(small.result_path(), {**result, "returns": better})
    (row,) = recheck.recheck([small], 1, seed=0, progress=False)
    assert not row.passed and str(row).startswith("FAILED")


def test_another_checkpoint_is_refused(small):
    small.checkpoint_path().write_bytes(small.checkpoint_path().read_bytes() + b" ")
    with pytest.raises(BadFile, match="not the file that .* was made with"):
        recheck.recheck([small], 1, seed=0, progress=False)


def test_what_takes_too_long_is_left_out(small, monkeypatch):
    monkeypatch.setattr(recheck, "SECONDS", 0.0)
    with pytest.raises(BadFile, match="no result can be computed again within 0 seconds"):
        recheck.recheck([small], 1, seed=0, progress=False)


def all_runs():
    return [run for some in load_experiments().values() for run in some]


@pytest.mark.parametrize(("others", "passed"), [(1, True), (10, False)])
def test_where_all_ends_alike_one_episode_may_end_otherwise(monkeypatch, others, passed):
    """0 % of 200 episodes have no spread; one that rounding changes would be a failure."""
    alike = (
        run for run in all_runs()
        if get_task(run.plays or run.task).layout and run.state() == "done"
        and not any(read_json(run.result_path())["returns"])
    )  # fmt: skip
    run, found = next(alike), np.zeros(recheck.CHUNK)
    found[:others] = 1.0
    monkeypatch.setattr(recheck, "_way", lambda run: "evaluated")
    monkeypatch.setattr(recheck, "_evaluated", lambda *_: found)
    row = recheck._recheck(run, [])
    assert row.recorded == 0 and row.passed == passed and not row.identical


def test_other_returns_have_the_spread_that_they_have():
    run = load_experiments()["dt"][0]
    returns = np.array([3.0, 5.0])
    assert recheck._spread(run, returns) == pytest.approx(np.sqrt(2))
    assert recheck._spread(run, np.full(4, 3.0)) == 0


@pytest.mark.parametrize("how", ["evaluated", "trained"])
def test_a_model_that_is_trained_anew_may_differ_as_seeds_do(monkeypatch, how):
    runs = [r for r in load_experiments()["dt"] if r.dataset == "halfcheetah/medium-replay"]
    results = [read_json(run.result_path())["returns"] for run in runs]
    apart = np.std([np.mean(returns) for returns in results], ddof=1)
    within = np.std(results[0], ddof=1) / np.sqrt(len(results[0]))
    monkeypatch.setattr(recheck, "_way", lambda run: how)
    for way in ("evaluated", "trained"):
        monkeypatch.setattr(recheck, f"_{way}", lambda *_: np.array(results[0]))
    row = recheck._recheck(runs[0], all_runs())
    error = max(apart, within) if how == "trained" else within
    assert row.tolerance == pytest.approx(4 * np.sqrt(2) * error) and apart > within


def test_the_command_fails_with_the_check(monkeypatch, capsys):
    row = Recheck("x/y-s0", "evaluated", 1.0, 2.0, 0.5, False)
    monkeypatch.setattr(recheck, "recheck", lambda *_: [row])
    monkeypatch.setattr(sys, "argv", ["helpers", "results", "--check", "1"])
    assert command_line.main() == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("FAILED") and "x/y-s0" in captured.err
