"""Pages that tell a reader what to type: followed to the letter, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import helpers
from helpers import paths
from helpers.data.own import own_task
from helpers.files import read_json

BOOK = paths.ROOT / "book"
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(?P<kind>\w+)\n(?::caption: (?P<file>\S+)\n)?(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, file name and text of a page's blocks of code."""
    found = BLOCK.finditer((BOOK / page).read_text())
    return [(match["kind"], match["file"] or "", match["text"]) for match in found]


# --- the library -------------------------------------------------------------------------------


def test_importing_the_package_imports_no_torch():
    code = "import sys, helpers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_not_those_of_modules():
    """`from helpers import train` would give the function or the module, whichever came first."""
    modules = {path.stem for path in Path(helpers.__file__).parent.iterdir()}
    assert not modules & set(helpers.__all__)
    assert all(hasattr(helpers, name) for name in helpers.__all__)
    with pytest.raises(AttributeError, match="no attribute 'own_ran'"):
        helpers.own_ran  # noqa: B018


def test_the_page_on_the_library_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    for name in ("DATASETS", "WORK", "DATA", "RESULTS", "CHECKPOINTS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    own_task.cache_clear()
    code = [text for kind, _, text in blocks("library.md") if kind == "python"]
    lines = [[line for line in text.splitlines() if line] for text in code]
    assert [len(some) for some in lines if "run = own_run(" in "".join(some)] == [5]
    names: dict[str, object] = {}
    for text in code:
        exec(text, names)
    own_task.cache_clear()
    # Of what the page promises: it learns, it resumes nothing twice, it plays, it is whole.
    result = names["result"]
    data = helpers.load_dataset("mine/pole-v0")
    assert result["last"] > data.returns.mean() and result["target"] == data.returns.max()
    assert len(names["played"].returns) == 8 and names["returns"].shape == (2, 20)
    assert np.array_equal(names["returns"][0], result["returns"]), "seed 0 was not trained again"
    assert "asked for" in capsys.readouterr().out
    own_task.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "dtt"}, "unknown method 'dtt'; did you mean .*dt"),
        ({"dataset": "halfcheetah/medum"}, "did you mean halfcheetah/medium"),
        ({"train": {"rate": 1.0}}, r"train has unknown \['rate'\]; known: .*'learning_rate'"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_trained(arguments, message):
    with pytest.raises(ValueError, match=message):
        helpers.own_run(**{"dataset": "halfcheetah/medium", **arguments})


def test_the_page_on_the_library_explains_every_name():
    text = (BOOK / "library.md").read_text()
    table = text[text.index("## What there is to import") :]
    assert all(f"`{name}`" in table for name in helpers.__all__)


# --- a task and a method of one's own ----------------------------------------------------------


class Repository:
    """A copy of what the pages change, small and without any result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(paths.ROOT / "src", folder / "src")
        shutil.copy(paths.ROOT / "experiments.toml", folder)
        shutil.copy(paths.ROOT / "pyproject.toml", folder)
        (folder / "data").mkdir()
        shutil.copy(paths.DATA / "registry.json", folder / "data")

    def follow(self, page: str, smaller: dict[str, str]) -> str:
        """Do what the page says, with smaller numbers; returns what the commands printed."""
        printed = ""
        for kind, file, text in blocks(page):
            for old, new in smaller.items():
                text = text.replace(old, new)
            if kind == "bash":
                printed += self.run("bash", "-e", "-c", text)
            elif kind == "python" and not file:
                printed += self.run(sys.executable, "-c", text)
            else:
                self.edit(self.folder / file, kind, text)
        return printed

    def edit(self, path: Path, kind: str, text: str) -> None:
        """Add lines where a diff says, at the end of a file, or as a new file."""
        if kind == "diff":
            lines = text.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] == " ")
            after = "".join(line[1:] for line in lines)
            found = path.read_text()
            assert found.count(before) == 1, f"{path.name} has no single place for:\n{text}"
            path.write_text(found.replace(before, after))
        else:
            assert path.exists() == (kind == "toml"), path
            with open(path, "a") as file:
                file.write(f"\n{text}" if kind == "toml" else text)

    def run(self, *command: str) -> str:
        """What a command prints, run as a reader would who installed the copy."""
        environment = {
            **os.environ,
            "HELPERS_ROOT": str(self.folder),
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def lint(self) -> None:
        """The page's code keeps the repository's rules."""
        self.run(sys.executable, "-m", "ruff", "check", "src")
        self.run(sys.executable, "-m", "ruff", "format", "--check", "src")


SMALLER = {
    "seeds = [0, 1]": "seeds = [1]",
    "episodes=300": "episodes=8",
    "steps = 1000": "steps = 20",
    "steps = 2000": "steps = 200",
    "\nepisodes = 50": "\nepisodes = 2",
    "sweep_episodes = 10": "sweep_episodes = 1",
}


def test_a_task_is_added_by_its_page(tmp_path):
    repository = Repository(tmp_path)
    printed = repository.follow("custom_task.md", SMALLER)
    repository.lint()
    assert re.search(r"mountaincar +MountainCarContinuous-v0|mountaincar/swing", printed)
    result = read_json(tmp_path / "data/results/mountaincar/mountaincar/swing-s1.json")
    assert len(result["returns"]) == 2 and result["sweep"]["targets"] == [91.0, 93.0, 95.0, 97.0]
    entry = read_json(tmp_path / "data/registry.json")["mountaincar/swing"]
    assert entry["episodes"] == 8 and entry["return_mean"] > 90.0, "the behaviour does not arrive"
    assert (tmp_path / "data/samples/mountaincar/swing-v0/data/main_data.hdf5").exists()


def test_a_method_is_added_by_its_page(tmp_path):
    repository = Repository(tmp_path)
    printed = repository.follow("custom_method.md", SMALLER)
    repository.lint()
    assert "identical to the registry" in printed
    result = read_json(tmp_path / "data/results/rvs/gridmaze/halves-s1.json")
    losses = [row["loss"] for row in result["history"]]
    assert losses[-1] < 0.8 * losses[0], "it does not learn"
    assert result["run"]["method"] == "rvs" and len(result["returns"]) == 2
