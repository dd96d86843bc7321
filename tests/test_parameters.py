"""Parameters of chapters: refused where wrong, listed on their page, changed as the page says."""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jupytext
import pytest
from test_pages import BOOK, blocks

from helpers import book, paths
from helpers.parameters import (
    CHECK,
    WrongParameter,
    check_parameters,
    page_with_table,
    read_parameters,
)

CHAPTERS = book.chapters()


@pytest.mark.parametrize(
    ("models", "values", "message"),
    [
        ([], {"profile": "fast"}, "profile is 'fast'; this chapter accepts smoke, book or full"),
        ([], {"seed": -1}, "seed is -1; this chapter accepts a whole number, 0 or more"),
        ([], {"seed": True}, "seed is True; .* a whole number"),
        ([], {"seed": 1.0}, "seed is 1.0; .* a whole number"),
        ([], {"seed": "1"}, "seed is '1'; .* a whole number"),
        ([], {"task": "halfchetah"}, "task is 'halfchetah'; this chapter accepts halfcheetah, "),
        (["x/*/some"], {"seed": 2}, "seed is 2; this chapter accepts 0 or 1$"),
        (["x/*/some"], {"seed": 1, "task": "gamble"}, "seed is 1; this chapter accepts 0$"),
        (["x/*/some", "y/halfcheetah/some"], {"seed": 0}, "seed is 0; this chapter accepts 1$"),
        (["x/*/some", "y/*"], {"task": "gamble"}, "task is 'gamble'; .* accepts halfcheetah$"),
        (["x/*/some"], {"seed": 9, "task": "pointmaze"}, "task is 'pointmaze'; .*cheetah or gam"),
        (["x/*"], {"level": 3}, "level is 3; this chapter accepts 1 or 2"),
    ],
)
def test_wrong_values_are_named_with_what_is_accepted(declared, models, values, message):
    with pytest.raises(WrongParameter, match=f"^parameter {message}"):
        check_parameters(*models, accepted={"level": [1, 2]}, **values)
    right = {"profile": "smoke", "seed": 1, "task": "halfcheetah", "level": 2}
    check_parameters(*models, accepted={"level": [1, 2]}, **right)


@pytest.fixture
def declared(monkeypatch, tmp_path):
    """Two experiments, of whose models one is at hand; `medium` is no model of `some`."""
    from helpers.experiments import Run

    x = [Run("x", task, f"{task}/some", "dt", seed)
         for task, seed in (("halfcheetah", 0), ("halfcheetah", 1), ("gamble", 0))]  # fmt: skip
    x.append(Run("x", "halfcheetah", "halfcheetah/medium", "dt", 2))
    y = [Run("y", "halfcheetah", "halfcheetah/some", "dt", seed) for seed in (1, 2)]
    monkeypatch.setattr("helpers.experiments.load_experiments", lambda: {"x": x, "y": y})
    monkeypatch.setattr(paths, "DATA", tmp_path)
    file = x[0].checkpoint_path()
    file.parent.mkdir(parents=True)
    file.touch()
    return x


def test_a_declared_model_that_is_not_here_is_named_with_its_command(declared, monkeypatch):
    from helpers.experiments import Run

    check_parameters("x/halfcheetah/some", profile="book", seed=0)
    check_parameters("x/halfcheetah/some", profile="smoke", seed=1)
    lost = (
        "^parameter seed is 1, but the model x/halfcheetah/some-s1 is not here; those of seed 0 "
        "are. Make it by `python -m helpers run x --only x/halfcheetah/some-s1 --again`$"
    )
    with pytest.raises(WrongParameter, match=lost):
        check_parameters("x/halfcheetah/some", profile="book", seed=1)
    with pytest.raises(WrongParameter, match="gamble/some-s0 is not here; nor is that of another"):
        check_parameters("x/*/some", profile="book", seed=0, task="gamble")
    # A chapter in full trains what has no result, but a result without its model stays as it is.
    monkeypatch.setattr(Run, "state", lambda self: "missing")
    check_parameters("x/halfcheetah/some", profile="full", seed=1)
    monkeypatch.setattr(Run, "state", lambda self: "done")
    with pytest.raises(WrongParameter, match=lost):
        check_parameters("x/halfcheetah/some", profile="full", seed=1)


def test_models_that_nobody_declared_are_a_fault_of_the_chapter(declared):
    for pattern in ("x", "x/*/other", "z/*"):
        with pytest.raises(ValueError, match=re.escape(f"has no runs {pattern}")):
            check_parameters(pattern, profile="book", seed=0)


def test_a_parameter_without_a_rule_is_a_fault_of_the_chapter():
    with pytest.raises(TypeError, match="is not told what level accepts"):
        check_parameters(profile="book", seed=0, level=3)


def check_of(source: Path) -> str:
    """The call with which a chapter checks its parameters."""
    calls = [node for node in ast.walk(ast.parse(code_of(source)[1])) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == CHECK]
    return ast.unparse(call)


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_refuses_what_its_row_does_not_list(source):
    rows = list(read_parameters(source))
    defaults = {row.name: row.default for row in rows}
    call = check_of(source)
    eval(call, {CHECK: check_parameters, **defaults})
    for row in rows:
        assert row.meaning, f"{row.name} has no comment"
        for wrong in ("nonsense", -1, 10**6 + 0.5, None):
            with pytest.raises(WrongParameter, match=f"parameter {row.name} is "):
                eval(call, {CHECK: check_parameters, **defaults, row.name: wrong})
        for right in row.choices or (3,):  # of seed any will do; smoke needs no file of a model
            eval(call, {CHECK: check_parameters, **defaults, "profile": "smoke", row.name: right})


def code_of(source: Path) -> list[str]:
    """The cells of code of a chapter."""
    return [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code"]


def first_cells(source: Path, **values) -> dict:
    """The names after a chapter's first two cells, with parameters as papermill injects them."""
    names: dict = {}
    parameters, imports = code_of(source)[:2]
    exec(parameters, names)
    names.update(values)
    exec(imports, names)
    return names


@pytest.fixture
def threads():
    """Chapters set torch's threads."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_the_first_cells_stop_at_wrong_values_and_run_with_others(source, style, threads):
    (row,) = (row for row in read_parameters(source) if row.name == "seed")
    for seed in (1, 12345) if row.choices is None else row.choices:
        assert first_cells(source, profile="smoke", seed=seed)["seed"] == seed
    assert first_cells(source)["seed"] == 0  # the profile book, whose models are committed
    for wrong in ({"profile": "fast"}, {"seed": -1}, *([{"seed": 12345}] if row.choices else [])):
        with pytest.raises(WrongParameter, match=f"^parameter {next(iter(wrong))} is "):
            first_cells(source, **{"profile": "smoke", **wrong})


def test_chapters_open_the_model_of_their_seed(monkeypatch, style, threads):
    """They took another one where it was not at hand, and did not say so."""
    from helpers.experiments import load_experiments

    known = {name: [replace(runs[0], seed=seed) for seed in (0, 1, 2)] for name, runs in
             load_experiments().items()}  # fmt: skip
    monkeypatch.setattr("helpers.experiments.load_experiments", lambda: known)
    leap, after = (path for path in CHAPTERS if path.stem[:2] in ("06", "11"))
    names, asked = first_cells(leap, profile="smoke", seed=2), []

    def obtain(run, profile):
        asked.append(run)
        raise InterruptedError

    names["obtain"] = obtain
    with pytest.raises(InterruptedError):
        exec(code_of(leap)[2], names)
    names = first_cells(after, profile="smoke", seed=1)
    asked += [names["run_of"](name) for name in ("cross-iql", "cross-edt")]
    assert [run.seed for run in asked] == [2, 1, 1]


CHAPTER = """\
# One

```{code-cell} ipython3
:tags: [parameters]

profile = "book"  # how much
level = 2  # which one
```

```{code-cell} ipython3
check_parameters(profile=profile, level=level, accepted={"level": [1, 2]})
```
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("check_parameters(", "print(", "calls check_parameters 0 times, not once"),
        (", level=level", "", r"parameters are .* but check_parameters is given \['profile'\]"),
        ("level=level", "level=2", "write level=level"),
    ],
)
def test_a_chapter_that_checks_something_else_is_found(tmp_path, old, new, message):
    source = tmp_path / "01_one.md"
    header = (CHAPTERS[0].read_text().split("---\n")[1]).join(["---\n", "---\n\n"])
    source.write_text(header + CHAPTER)
    _, level = read_parameters(source)
    assert level == ("level", 2, [1, 2], "which one")
    source.write_text((header + CHAPTER).replace(old, new))
    with pytest.raises(ValueError, match=f"01_one.md: .*{message}"):
        list(read_parameters(source))


def test_the_table_on_the_page_is_that_of_the_chapters():
    path, text = page_with_table()
    assert path.read_text() == text, "write it anew: python -m helpers parameters"


# --- the page's commands -----------------------------------------------------------------------

STUB = """\
```{{code-cell}} ipython3
from helpers.parameters import check_parameters

{check}
print("asked for seed", seed)
```
"""


@pytest.fixture
def root(tmp_path) -> Path:
    """The chapters that the page runs, cut off behind the check of their parameters."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(paths.ROOT / "experiments.toml", tmp_path)
    models = tmp_path / "data" / "checkpoints" / "dt" / "halfcheetah"
    models.mkdir(parents=True)
    for seed in (0, 1, 2):
        (models / f"medium-s{seed}.safetensors").touch()
    for source in CHAPTERS:
        if source.stem[:2] in ("02", "04"):
            text = source.read_text()
            end = text.index("```\n", text.index("parameters]")) + 4
            stub = STUB.format(check=check_of(source))
            (tmp_path / "notebooks" / source.name).write_text(f"{text[:end]}\n{stub}")
    return tmp_path


def run(root: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "HELPERS_ROOT": str(root),
        "PYTHONPATH": str(paths.ROOT / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_the_commands_on_the_page_do_what_it_says(root):
    page = {kind: [] for kind in ("bash", "python", "text")}
    for kind, _, text in blocks("parameters.md"):
        page[kind].append(text)
    single, batch = page["bash"]
    reading, running = page["python"]

    wrong = run(root, "bash", "-e", "-o", "pipefail", "-c", single.replace("seed 1", "seed 7"))
    assert wrong.returncode == 1 and page["text"][0].strip() in wrong.stderr

    done = run(root, "bash", "-e", "-c", batch.replace("0 1 2", "1"))
    assert done.returncode == 0, done.stderr
    printed = run(root, sys.executable, "-c", reading).stdout
    assert printed == "dt-1 asked for seed 1\n"

    done = run(root, sys.executable, "-c", running)
    assert done.returncode == 0, done.stderr
    assert "asked for seed 1" in (root / "_build/smoke-1/02_offline_rl.ipynb").read_text()


def test_the_page_shows_what_is_said_of_a_model_that_is_not_here(root, monkeypatch):
    (message,) = (text for kind, _, text in blocks("parameters.md") if "not here" in text)
    (leap,) = (path for path in CHAPTERS if path.stem[:2] == "06")
    monkeypatch.setattr(paths, "DATA", root / "data")
    model = root / "data/checkpoints/babyai-leap/babyai-gotolocal-s7n5/expert-n500-s0.safetensors"
    model.parent.mkdir(parents=True)
    model.touch()
    with pytest.raises(WrongParameter) as error:
        eval(check_of(leap), {CHECK: check_parameters, "profile": "book", "seed": 1})
    assert message.strip() == f"WrongParameter: {error.value}"


def test_other_pages_show_the_same_command():
    single = next(text for kind, _, text in blocks("parameters.md") if kind == "bash").strip()
    assert single in (BOOK / "reproduce.md").read_text()
    assert single in (paths.ROOT / "README.md").read_text()
