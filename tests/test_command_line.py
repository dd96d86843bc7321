"""What a user types: answers on stdout, faults as one line on stderr with a non-zero status."""

import json
import subprocess
import sys

import pytest

from helpers import __main__ as command_line
from helpers import paths


def call(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["helpers", *arguments])
    return command_line.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["collect", "halfcheetah/medum"], "did you mean halfcheetah/medium"),
        (["run", "dtt"], "or dt?"),
        (["run", "dt", "--only", "walker"], "no run of 'dt' contains 'walker'"),
        (["notebooks", "--only", "99"], "no chapter matches '99'"),
    ],
)
def test_faults_are_one_line_and_a_status(monkeypatch, capsys, arguments, message):
    assert call(monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_the_shell_sees_the_status():
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "collect", "halfcheetah/nothing"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "unknown dataset 'halfcheetah/nothing'" in done.stderr


def test_a_run_without_its_dataset_names_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(paths, "DATASETS", tmp_path)
    monkeypatch.setattr("helpers.experiments.Run.state", lambda self: "missing")
    assert call(monkeypatch, "run", "dt", "--only", "medium-s0") == 1
    assert "python -m helpers collect halfcheetah/medium" in capsys.readouterr().err


def test_a_run_that_is_done_is_made_again_on_demand(monkeypatch, capsys):
    made = []
    monkeypatch.setattr("helpers.experiments.Run.state", lambda self: "done")

    def execute(run, again, **_):
        made.append((run.name, again))
        return "made"

    monkeypatch.setattr("helpers.runs.execute", execute)
    assert call(monkeypatch, "run", "dt", "--only", "halfcheetah/medium-s0") == 0 and not made
    assert call(monkeypatch, "run", "dt", "--only", "halfcheetah/medium-s0", "--again") == 0
    assert made == [("dt/halfcheetah/medium-s0", True)] and "made" in capsys.readouterr().out


def test_results_for_a_person_and_for_a_program(monkeypatch, capsys):
    assert call(monkeypatch, "results") == 0
    table = capsys.readouterr().out
    assert "halfcheetah/medium-replay" in table
    assert call(monkeypatch, "results", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    promised = {"task", "dataset", "method", "metric", "seeds", "score", "low", "high"}
    assert rows and all(promised <= set(row) for row in rows)
    assert len(table.splitlines()) == len(rows) + 1


def test_help_lists_every_command():
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "--help"], capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in command_line.COMMANDS)


def test_learner_notebooks_are_written_once(monkeypatch, tmp_path):
    arguments = ("notebooks", "--learn", "--out", str(tmp_path))
    assert call(monkeypatch, *arguments) == 0
    first, *others = sorted(tmp_path.glob("*.ipynb"))
    assert others
    first.write_text("my own work")
    assert call(monkeypatch, *arguments) == 0
    assert first.read_text() == "my own work"
