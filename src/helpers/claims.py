"""What the post claims, and whether our runs support it.

`claims.yml` lists the claims in our words. Each names one statistic, written so that a large value
speaks for the claim, and a threshold that was set before the statistic was computed: a claim is
supported when the whole 95 % interval lies above it, refuted when the whole interval lies below,
and inconclusive otherwise.

Most statistics are differences between committed results: two methods, or one model played in two
ways. The others are functions of `claim_statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from helpers import paths
from helpers.analysis.statistics import Interval, mean_draws, percentile_interval
from helpers.benchmark import reported
from helpers.claim_statistics import STATISTICS
from helpers.experiments import Run, load_experiments
from helpers.files import BadFile, check_fields, read_entries
from helpers.names import look_up
from helpers.runs import obtain
from helpers.tasks import get_task

VERDICTS = ("supported", "refuted", "inconclusive")
MEASURES = ("return", "score")


@dataclass(frozen=True)
class Claim:
    """One claim of the post."""

    id: str
    section: str
    """Of the post."""
    topic: str
    """What it is about; claims of one topic are summed up together."""
    claim: str
    """In our words."""
    chapter: str
    """File of the chapter whose experiment tests it, without its ending."""
    test: str
    """What the statistic measures, in words."""
    threshold: float
    statistic: str = "difference"
    """difference, or one of `claim_statistics.STATISTICS`."""
    of: tuple[str, ...] = ()
    """Cells "experiment dataset", with a number of demonstrations where there are several, from
    whose means"""
    minus: tuple[str, ...] = ()
    """those of these are taken, pair by pair; the pairs are averaged. One list may be empty."""
    measure: str = "score"
    """return or score (`Task.score`: percent of success in a grid)."""
    late: bool = False
    """Added when its results were known, with the threshold of an earlier claim of its kind."""

    def verdict(self, interval: Interval) -> str:
        """supported, refuted or inconclusive."""
        if interval.low > self.threshold:
            return "supported"
        return "refuted" if interval.high < self.threshold else "inconclusive"


@dataclass(frozen=True)
class Untested:
    """A claim of the post that could be tested and was not."""

    id: str
    section: str
    topic: str
    claim: str
    untested: str
    """What a test would need."""


@dataclass(frozen=True)
class Judged:
    """A claim with its statistic."""

    claim: Claim
    interval: Interval

    @property
    def verdict(self) -> str:
        """supported, refuted or inconclusive."""
        return self.claim.verdict(self.interval)


def load_claims(path: Path | None = None) -> list[Claim]:
    """All claims of `claims.yml` that have a test.

    Raises:
        BadFile: not YAML, an entry with a missing, unknown or wrong field, or two of one name; it
            names the claim and the field.
        UnknownName: no such statistic.
    """
    return [_claim(where, entry) for where, entry in _entries(path) if not _is_untested(entry)]


def load_untested(path: Path | None = None) -> list[Untested]:
    """Those that have none.

    Raises:
        BadFile: as `load_claims`.
    """
    found = []
    for where, entry in _entries(path):
        if _is_untested(entry):
            check_fields(where, entry, Untested)
            found.append(Untested(**{**entry, "section": str(entry["section"])}))
    return found


def _entries(path: Path | None) -> list[tuple[str, Any]]:
    """Each with where it stands, for error messages."""
    path = path or paths.ROOT / "claims.yml"
    entries = read_entries(path)
    names = [entry.get("id", "?") if isinstance(entry, dict) else repr(entry) for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadFile(f"{path}: claims {twice} are there twice")
    return [(f"{path}: claim {name}", entry) for name, entry in zip(names, entries, strict=True)]


def _is_untested(entry: Any) -> bool:
    return isinstance(entry, dict) and "untested" in entry


def _claim(where: str, entry: Any) -> Claim:
    check_fields(where, entry, Claim)
    if type(entry["threshold"]) not in (int, float):
        raise BadFile(f"{where}: threshold is {entry['threshold']!r}; write a number")
    if type(entry.get("late", False)) is not bool:
        raise BadFile(f"{where}: late is {entry['late']!r}; write true, or leave it out")
    for key in ("of", "minus"):
        names = entry.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadFile(f"{where}: {key} is {names!r}; write a list of cells")
    cells = {key: tuple(entry.get(key, ())) for key in ("of", "minus")}
    texts = {"section": str(entry["section"]), "threshold": float(entry["threshold"])}
    claim = Claim(**{**entry, **cells, **texts})
    if claim.measure not in MEASURES:
        raise BadFile(f"{where}: measure is {claim.measure!r}; choose one of {MEASURES}")
    if not (paths.ROOT / "notebooks" / f"{claim.chapter}.md").exists():
        raise BadFile(f"{where}: chapter is {claim.chapter!r}, which notebooks/ lacks")
    if claim.statistic != "difference":
        look_up(STATISTICS, claim.statistic, "statistic")
        if idle := [key for key in ("of", "minus", "measure") if key in entry]:
            raise BadFile(f"{where}: {idle} mean nothing to the statistic {claim.statistic}")
    elif not (claim.of or claim.minus):
        raise BadFile(f"{where}: a difference needs cells in `of` or `minus`")
    elif claim.of and claim.minus and len(claim.of) != len(claim.minus):
        raise BadFile(f"{where}: `of` and `minus` need equally many cells, or one of them none")
    return claim


@dataclass(frozen=True)
class Advice:
    """What follows from verdicts, for somebody who has a task."""

    when: str
    advice: str
    rests: Mapping[str, str]
    """Claims on which it rests, with the verdicts that were theirs when it was written."""

    def shaken(self, verdicts: Mapping[str, str]) -> list[str]:
        """Claims whose verdict is another one now."""
        return [name for name, verdict in self.rests.items() if verdicts[name] != verdict]


def load_advice(path: Path | None = None) -> list[Advice]:
    """All of `advice.yml`.

    Raises:
        BadFile: not YAML, an entry with a missing or unknown field, or one that rests on no claim,
            on an unknown one, or on a word that is no verdict.
    """
    path = path or paths.ROOT / "advice.yml"
    known, found = {claim.id for claim in load_claims()}, []
    for entry in read_entries(path):
        check_fields(str(path), entry, Advice)
        where, rests = f"{path}: {entry['when']}", entry["rests"]
        if not isinstance(rests, dict) or not rests:
            raise BadFile(f"{where}: rests is {rests!r}; write claims with their verdicts")
        if unknown := sorted(set(rests) - known):
            raise BadFile(f"{where}: rests on {unknown}, which claims.yml lacks")
        if wrong := sorted(set(rests.values()) - set(VERDICTS)):
            raise BadFile(f"{where}: {wrong} are no verdicts; choose among {VERDICTS}")
        found.append(Advice(**entry))
    return found


def judge(claims: Sequence[Claim], profile: str) -> list[Judged]:
    """Every claim with its statistic; see `evaluate`."""
    return [Judged(claim, evaluate(claim, profile)) for claim in claims]


def evaluate(claim: Claim, profile: str = "book") -> Interval:
    """The claim's statistic with its 95 % interval.

    Args:
        claim: of `claims.yml`.
        profile: as of `runs.obtain`. In smoke, one tiny model of a method stands for all its cells.

    Raises:
        BadFile: a result or a checkpoint is missing or stale.
        UnknownName: a cell names an unknown experiment.
    """
    if claim.statistic != "difference":
        return STATISTICS[claim.statistic](profile)
    return difference(claim.of, claim.minus, claim.measure, profile)


# --- differences between results ---------------------------------------------------------------


def difference(
    of: Sequence[str], minus: Sequence[str], measure: str, profile: str = "book"
) -> Interval:
    """Mean over pairs of cells of their difference, with an interval of a two-level bootstrap.

    Where both cells of a pair play the *same* trained models, seeds and first states are paired and
    the differences are resampled. Models of two methods have nothing in common but a number, so
    there each cell is resampled by itself, as the benchmark does. A cell, or a pair, that occurs
    several times is resampled once; different pairs of the same models are resampled apart.
    """
    rng, drawn = np.random.default_rng(0), {}

    def part(*names: str) -> tuple[float, Float[np.ndarray, " resamples"]]:
        if names not in drawn:
            values = cell(*names, measure=measure, profile=profile)
            drawn[names] = values.mean(), mean_draws(values, rng)
        return drawn[names]

    pairs = zip(of or [""] * len(minus), minus or [""] * len(of), strict=True)
    terms = []
    for ours, theirs in pairs:
        if ours and theirs and same_models(ours, theirs):
            terms.append((part(ours, theirs), 1.0))
        else:
            terms += [(part(name), sign) for name, sign in ((ours, 1.0), (theirs, -1.0)) if name]
    count = max(len(of), len(minus))
    score, draws = (sum(sign * term[i] for term, sign in terms) / count for i in (0, 1))
    return percentile_interval(score, draws)


def cell(
    name: str, other: str = "", *, measure: str = "score", profile: str = "book"
) -> Float[np.ndarray, "_seeds _episodes"]:
    """Episodes of a cell, or their differences to those of another cell of the same models.

    Args:
        name: such as "babyai-leap babyai-pickuploc/expert".
        other: taken away episode by episode; the seeds and episodes that both have.
        measure: return or score.
        profile: as of `evaluate`.

    Raises:
        BadFile: no such runs, or one of `benchmark.SEEDS` whose result is missing or stale.
    """
    ours = episodes_of(name, measure, profile)
    theirs = episodes_of(other, measure, profile) if other else {}
    seeds = sorted(set(ours) & set(theirs)) if other else sorted(ours)
    count = min(len(rows[seed]) for rows in (ours, theirs) if rows for seed in seeds)
    return np.array([ours[s][:count] - (theirs[s][:count] if other else 0.0) for s in seeds])


def same_models(name: str, other: str) -> bool:
    """Whether two cells play the same trained models."""
    ours, theirs = ({run.seed: run.trainer() for run in cell_runs(n)} for n in (name, other))
    common = set(ours) & set(theirs)
    return bool(common) and all(ours[seed] == theirs[seed] for seed in common)


def cell_runs(name: str) -> list[Run]:
    """The runs of a cell "experiment dataset" or "experiment dataset demonstrations".

    Raises:
        BadFile: there are none.
        UnknownName: no such experiment.
    """
    experiment, dataset, *count = name.split()
    where = f"experiments.toml: [{experiment}] has no runs on {' '.join([dataset, *count])}"
    runs = look_up(_experiments(), experiment, "experiment")
    runs = [run for run in runs if run.dataset == dataset]
    counts = sorted({run.demonstrations for run in runs})
    if len(counts) > 1 and not count:
        raise BadFile(f"{where} alone; add a number of demonstrations, one of {counts}")
    wanted = int(count[0]) if count else counts[0] if counts else 0
    if not (found := [run for run in runs if run.demonstrations == wanted]):
        raise BadFile(where)
    return found


@cache
def _experiments() -> dict[str, list[Run]]:
    return load_experiments()


def episodes_of(name: str, measure: str, profile: str) -> dict[int, Float[np.ndarray, " episodes"]]:
    """Measured episodes by seed: of the benchmark's seeds, and of further ones that are done."""
    runs = cell_runs(name)
    if profile == "smoke":
        found = {runs[0].seed: np.array(stand_in(runs[0].method)["returns"])}
    else:
        found = {run.seed: np.array(obtain(run, profile)[0]["returns"]) for run in reported(runs)}
    if measure == "return":
        return found
    task = get_task(runs[0].plays or runs[0].task)
    return {seed: task.score(returns) for seed, returns in found.items()}


@cache
def stand_in(method: str) -> dict[str, Any]:
    """In smoke: the result of a tiny model on a grid level, where episodes are short."""
    grids = [r for runs in _experiments().values() for r in runs if get_task(r.task).grid_size]
    return obtain(next(run for run in grids if run.method == method), "smoke")[0]
