"""A committed result is never only believed: random ones are computed again.

On the machine that made a result, the same bits come out. Other processors round otherwise, and
chaotic dynamics amplify that; so means are compared, which may differ by four standard errors of
the difference of two such means.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from helpers import paths
from helpers.data.cards import FINAL_SEED
from helpers.data.catalogue import get_spec
from helpers.evaluate import CHUNK, evaluate
from helpers.files import BadFile, read_json, sha256
from helpers.runs import Run, execute, final_agent
from helpers.tasks import get_task

ERRORS = 4.0
"""Tolerated difference of two means, in standard errors."""
SECONDS = 120.0
"""What takes longer is not computed again."""


@dataclass(frozen=True)
class Recheck:
    """One cell, computed again."""

    name: str
    how: str
    """evaluated (from the checkpoint) or trained."""
    recorded: float
    """Mean return of the episodes that were played again."""
    found: float
    tolerance: float
    identical: bool
    """Whether every episode's return is the recorded one."""

    @property
    def passed(self) -> bool:
        """Whether the means agree."""
        return abs(self.found - self.recorded) <= self.tolerance

    def __str__(self) -> str:
        """One line."""
        verdict = "ok" if self.passed else "FAILED"
        same = "to the bit" if self.identical else f"tolerance {self.tolerance:.3g}"
        return (
            f"{verdict:6} {self.name}: {self.how} again, {self.found:.4g} against "
            f"{self.recorded:.4g} ({same})"
        )


def candidates(runs: Sequence[Run]) -> list[Run]:
    """Runs that can be computed again here within `SECONDS`."""
    return [run for run in runs if run.state() == "done" and _way(run)]


def recheck(runs: Sequence[Run], count: int, seed: int, progress: bool = True) -> list[Recheck]:
    """Compute a random sample again.

    Args:
        runs: to choose from; those that are not done or take too long are left out.
        count: how many; all if there are fewer.
        seed: of the choice.
        progress: show a bar.

    Raises:
        BadFile: nothing can be computed again here, or a checkpoint is not the recorded one.
    """
    possible = candidates(runs)
    if not possible:
        raise BadFile(
            f"{paths.RESULTS}: no result can be computed again within {SECONDS:.0f} seconds here; "
            "collect datasets with `python -m helpers collect` to allow trainings"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(possible), size=min(count, len(possible)), replace=False)
    bar = tqdm(sorted(chosen), unit="run", disable=not progress)
    return [_recheck(possible[i]) for i in bar]


def _way(run: Run) -> str:
    """evaluated, trained, or nothing if neither is possible."""
    result = read_json(run.result_path())
    share = min(1.0, CHUNK / len(result["returns"]))
    evaluating = result.get("evaluation_seconds", 0.0)  # which the oldest results do not tell
    if share * evaluating > SECONDS:
        return ""
    if run.trainer().checkpoint_path().exists():
        return "evaluated"
    here = (paths.DATASETS / get_spec(run.dataset).minari_id).is_dir()
    cheap = result["train_seconds"] + evaluating <= SECONDS
    return "trained" if here and cheap and not run.trained_by else ""


def _recheck(run: Run) -> Recheck:
    result, how = read_json(run.result_path()), _way(run)
    returns = _trained(run) if how == "trained" else _evaluated(run, result)
    recorded = np.array(result["returns"])
    spread = recorded.std(ddof=1) if len(recorded) > 1 else 0.0
    recorded = recorded[: len(returns)]
    return Recheck(
        name=run.name,
        how=how,
        recorded=float(recorded.mean()),
        found=float(returns.mean()),
        tolerance=float(ERRORS * spread * np.sqrt(2 / len(returns))),
        identical=bool(np.allclose(returns, recorded, rtol=0, atol=1e-4)),
    )


def _evaluated(run: Run, result: dict) -> Float[np.ndarray, " n"]:
    """Returns of the first chunk of the final evaluation."""
    checkpoint = run.trainer().checkpoint_path()
    if sha256(checkpoint) != result["checkpoint_sha256"]:
        raise BadFile(f"{checkpoint}: not the file that {run.result_path()} was made with")
    make = final_agent(run, checkpoint)
    seeds = list(range(FINAL_SEED, FINAL_SEED + min(CHUNK, len(result["returns"]))))
    return evaluate(make, get_task(run.plays or run.task), seeds, result["target"]).returns


def _trained(run: Run) -> Float[np.ndarray, " n"]:
    """Returns of a model that is trained anew, in a folder that is thrown away."""
    work = paths.WORK
    with tempfile.TemporaryDirectory() as folder:
        paths.WORK = Path(folder) / "work"
        try:
            path = execute(run, folder=Path(folder), progress=False)
        finally:
            paths.WORK = work
        return np.array(read_json(path)["returns"])
