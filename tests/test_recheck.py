"""Committed results, computed again; and altered ones, found out."""

import dataclasses
import sys

import numpy as np
import pytest

from helpers import __main__ as command_line
from helpers import paths, recheck
from helpers.data import catalogue
from helpers.files import BadFile, read_json, write_json
from helpers.recheck import Recheck
from helpers.runs import execute, load_experiments, smoke_version


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
    monkeypatch.setattr("helpers.runs.known_hash", lambda name: sample.content_hash())
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


def test_the_command_fails_with_the_check(monkeypatch, capsys):
    row = Recheck("x/y-s0", "evaluated", 1.0, 2.0, 0.5, False)
    monkeypatch.setattr(recheck, "recheck", lambda *_: [row])
    monkeypatch.setattr(sys, "argv", ["helpers", "results", "--check", "1"])
    assert command_line.main() == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("FAILED") and "x/y-s0" in captured.err
