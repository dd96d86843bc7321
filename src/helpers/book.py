"""From chapters to a site: jupytext makes a notebook, papermill executes it, jupyter-book builds.

Papermill is the gate: it fails on a failing cell, which `jupyter-book build` would not. A chapter
is executed again only when something it depends on has changed, judged by content, not by time, so
that a fresh clone and an old working tree agree.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from helpers import paths
from helpers.files import read_json, write_bytes, write_json
from helpers.ledger import READ_LOG, READS
from helpers.parameters import PROFILES

DEPENDENCIES = ("src/helpers/**/*.py", "data/registry.json", "data/policies/*", "data/samples/**/*",
                "data/checkpoints/**/*", "data/results/**/*", "data/published/*",
                "experiments.toml", "claims.yml", "advice.yml", "requirements.lock")  # fmt: skip
"""What a chapter's outputs may depend on beside its own source, relative to the root."""


class ChapterFailed(RuntimeError):
    """A cell raised an exception; the message names the chapter and shows the end of the log."""


def chapters(only: str | None = None) -> list[Path]:
    """Sources of the chapters in reading order; `only` keeps those whose name contains it.

    Raises:
        ValueError: no chapter matches.
    """
    found = sorted((paths.ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
    chosen = [path for path in found if only is None or only in path.stem]
    if not chosen:
        names = ", ".join(path.stem for path in found) or "none"
        raise ValueError(f"no chapter matches {only!r}; there are: {names}")
    return chosen


def execute(
    profile: str = "book",
    out: Path | None = None,
    *,
    only: str | None = None,
    parameters: dict[str, Any] | None = None,
    jobs: int | None = None,
) -> list[Path]:
    """Execute chapters by papermill; those that are up to date are left alone.

    Args:
        profile: smoke, book or full. `book` is the default of the chapters and is executed without
            any override, since papermill would add a visible cell.
        out: folder of the executed notebooks; default book/chapters.
        only: part of a chapter's name.
        parameters: further papermill parameters.
        jobs: chapters executed side by side; default one a core, or one in the profile full,
            whose chapters train and must not train the same run twice.

    Returns:
        The executed notebooks.

    Raises:
        ValueError: an unknown profile or chapter.
        ChapterFailed: a cell failed; notebooks executed earlier are still there.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}")
    out = out or paths.ROOT / "book" / "chapters"
    overrides = dict(parameters or {})
    if profile != "book":
        overrides["profile"] = profile
    shared = _hash_files(sorted(p for g in DEPENDENCIES for p in paths.ROOT.glob(g)))

    def one(source: Path) -> Path:
        return _execute_one(source, out / f"{source.stem}.ipynb", overrides, shared)

    default = 1 if profile == "full" else os.cpu_count() or 1
    with ThreadPoolExecutor(jobs or default) as pool:
        return list(pool.map(one, chapters(only)))


def _execute_one(source: Path, target: Path, overrides: dict[str, Any], shared: str) -> Path:
    stamp = target.with_suffix(".stamp.json")
    inputs = {"source": _hash_files([source]), "shared": shared, "parameters": overrides}
    reads = target.with_suffix(READS)
    if reads.exists() and target.exists() and stamp.exists() and read_json(stamp) == inputs:
        print(f"{source.stem}: up to date")
        return target
    print(f"{source.stem}: executing", flush=True)
    notebook = jupytext.read(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, log = (target.with_name(f".{path.name}.part") for path in (target, reads))
    log.write_bytes(b"")
    arguments = [str(part) for name, value in overrides.items() for part in ("-p", name, value)]
    process = subprocess.run(
        [sys.executable, "-m", "papermill", "-", str(temporary), "--no-progress-bar", *arguments],
        input=nbformat.writes(notebook), capture_output=True, text=True, cwd=paths.ROOT,
        env=_environment() | {READ_LOG: str(log.resolve())}, check=False,
    )  # fmt: skip
    try:
        if process.returncode != 0:
            raise ChapterFailed(f"{source.name} failed:\n{process.stderr[-3000:]}")
        os.replace(temporary, target)
        os.replace(log, reads)
    finally:
        for left in (temporary, log):
            left.unlink(missing_ok=True)
    write_json(stamp, inputs)
    return target


def _environment() -> dict[str, str]:
    """Executed kernels use one thread: chapters run side by side, and sums keep their order."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    return {**os.environ, **threads, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            digest.update(path.relative_to(paths.ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build() -> Path:
    """Build the site from the executed chapters; warnings are errors.

    Returns:
        The first page.

    Raises:
        ChapterFailed: jupyter-book found an error or a warning.
    """
    # jupyter-book 1.x has no `python -m`; its script may not be on the path.
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(paths.ROOT), "-W", "--keep-going", "-q"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise ChapterFailed(f"jupyter-book failed:\n{(process.stdout + process.stderr)[-5000:]}")
    return paths.ROOT / "_build" / "html" / "index.html"


def learner_notebooks(out: Path) -> list[Path]:
    """Chapters as notebooks without outputs and without solutions; existing ones are kept.

    A learner's own work is never overwritten: delete a notebook to get it fresh.
    """
    from helpers.site import learner_notebook

    written = []
    for source in chapters():
        target = out / f"{source.stem}.ipynb"
        if not target.exists():
            write_bytes(target, nbformat.writes(learner_notebook(source)).encode())
        written.append(target)
    return written
