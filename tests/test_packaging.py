"""One lock file pins what the book runs on; pyproject.toml and environment.yml agree with it."""

import re
import tomllib
from importlib.metadata import distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import paths


def locked() -> dict[str, str]:
    lines = (paths.ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.\-\[\]]+==[\w.+!]+", pin) for pin in pins), pins
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def project() -> dict:
    return tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    table = project()
    return [
        Requirement(r) for r in [*table["dependencies"], *table["optional-dependencies"]["dev"]]
    ]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_the_lock_satisfies_the_project(requirement):
    version = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"


def test_the_lock_holds_all_that_its_packages_need():
    """Otherwise pip would choose a version on the day of the installation."""
    pins = locked()
    installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions()}
    missing = set()
    for name in pins:
        for text in (installed[name].requires or []) if name in installed else []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(need.name)} - set(pins)
    # The CUDA libraries belong to a PyTorch for graphics cards, if that is the one installed.
    assert not {name for name in missing if not name.startswith(("nvidia", "cuda", "triton"))}


def test_what_runs_is_what_is_locked():
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
    wrong = {
        name: (version, installed.get(name))
        for name, version in locked().items()
        if name in installed and installed[name].split("+")[0] != version.split("+")[0]
    }
    assert not wrong


def test_conda_users_get_the_same_lock():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    python = next(entry for entry in conda if entry.startswith("python"))
    assert python.removeprefix("python") == project()["requires-python"]


def test_the_fixed_packages_are_there():
    named = {canonicalize_name(requirement.name) for requirement in requirements()}
    fixed = "jupyterlab jupytext papermill torch transformers minari minigrid gymnasium matplotlib"
    assert {*fixed.split(), "jupyter-book"} <= named
    assert locked()["jupyter-book"].startswith("1.")


def test_the_readme_shows_a_picture_that_exists():
    text = (paths.ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert pictures
    for alt, target in pictures:
        assert len(alt) > 40
        assert "<svg" in (paths.ROOT / target).read_text()
