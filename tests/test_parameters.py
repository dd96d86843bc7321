"""Parameters of chapters: refused where wrong, listed on their page, changed as the page says."""

import ast
import os
import shutil
import subprocess
import sys
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
    ("experiment", "values", "message"),
    [
        ("", {"profile": "fast"}, "profile is 'fast'; this chapter accepts smoke, book or full"),
        ("", {"seed": -1}, "seed is -1; this chapter accepts a whole number, 0 or more"),
        ("", {"seed": True}, "seed is True; .* a whole number"),
        ("", {"seed": 1.0}, "seed is 1.0; .* a whole number"),
        ("", {"seed": "1"}, "seed is '1'; .* a whole number"),
        ("", {"task": "halfchetah"}, "task is 'halfchetah'; this chapter accepts halfcheetah, "),
        ("x", {"seed": 2}, "seed is 2; this chapter accepts 0 or 1"),
        ("x", {"seed": 1, "task": "gamble"}, "seed is 1; this chapter accepts 0"),
        ("x", {"seed": 9, "task": "pointmaze"}, "task is 'pointmaze'; .* halfcheetah or gamble"),
        ("x", {"level": 3}, "level is 3; this chapter accepts 1 or 2"),
    ],
)
def test_wrong_values_are_named_with_what_is_accepted(monkeypatch, experiment, values, message):
    from helpers.experiments import Run

    runs = [Run("x", task, f"{task}/x", "dt", seed)
            for task, seed in (("halfcheetah", 0), ("halfcheetah", 1), ("gamble", 0))]  # fmt: skip
    monkeypatch.setattr("helpers.experiments.load_experiments", lambda: {"x": runs})
    with pytest.raises(WrongParameter, match=f"^parameter {message}"):
        check_parameters(experiment, accepted={"level": [1, 2]}, **values)
    right = {"profile": "book", "seed": 0, "task": "gamble", "level": 2}
    check_parameters(experiment, accepted={"level": [1, 2]}, **right)


def test_a_parameter_without_a_rule_is_a_fault_of_the_chapter():
    with pytest.raises(TypeError, match="is not told what level accepts"):
        check_parameters(profile="book", seed=0, level=3)


def check_of(source: Path) -> str:
    """The call with which a chapter checks its parameters."""
    code = [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    calls = [node for node in ast.walk(ast.parse(code[1])) if isinstance(node, ast.Call)]
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
        if row.choices is not None and row.name != "seed":
            for right in row.choices:
                eval(call, {CHECK: check_parameters, **defaults, row.name: right})


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


def test_other_pages_show_the_same_command():
    single = next(text for kind, _, text in blocks("parameters.md") if kind == "bash").strip()
    assert single in (BOOK / "reproduce.md").read_text()
    assert single in (paths.ROOT / "README.md").read_text()
