"""What the parameters of chapters accept: checked in a chapter's first cell, shown in a table.

A chapter calls `check_parameters` once, behind its imports. The table on the page about parameters
is made from that call and from the comments in the chapter's cell of parameters.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers import paths

if TYPE_CHECKING:
    from helpers.experiments import Run

PROFILES = ("smoke", "book", "full")
CHECK = "check_parameters"
PAGE = Path("book") / "parameters.md"
BEGIN, END = "<!-- parameters: begin -->", "<!-- parameters: end -->"


class WrongParameter(ValueError):
    """A chapter was given a value that it cannot use."""


def check_parameters(
    *models: str, accepted: Mapping[str, Collection[Any]] | None = None, **values: Any
) -> None:
    """Raise at once if a parameter has a value that the chapter cannot use.

    Args:
        *models: which runs of experiments.toml the chapter opens the model of this seed (and this
            task) of, each as experiment and dataset: "dt/*/medium"; none if it opens no single
            model, so that any seed and task will do.
        accepted: values of parameters other than profile, seed and task, as literals.
        **values: all parameters of the chapter.

    Raises:
        WrongParameter: names the parameter, its value and what is accepted; or the model that is
            declared but not at hand, with the command that makes it.
    """
    for name in sorted(values, key=lambda name: name == "seed"):  # which seeds depends on the task
        choices = choices_of(name, models, accepted, values)
        if not _is_among(values[name], choices):
            raise WrongParameter(
                f"parameter {name} is {values[name]!r}; this chapter accepts {in_words(choices)}"
            )
    if models and values["profile"] != "smoke":  # which trains tiny ones of its own
        _check_models(models, values)


def choices_of(
    name: str,
    models: Collection[str] = (),
    accepted: Mapping[str, Collection[Any]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Collection[Any] | None:
    """What a parameter accepts; None stands for all whole numbers from 0 on.

    Args:
        name: of the parameter.
        models: as in `check_parameters`.
        accepted: as in `check_parameters`.
        values: the other parameters; a task narrows down the seeds.
    """
    if name in (accepted or {}):
        return accepted[name]
    if name == "profile":
        return PROFILES
    if name not in ("seed", "task"):
        raise TypeError(f"{CHECK} is not told what {name} accepts: accepted={{{name!r}: [...]}}")
    if models:
        found = [_runs(pattern) for pattern in models]
        if name == "task":
            return [task for task in dict.fromkeys(run.task for run in found[0])
                    if all(any(run.task == task for run in runs) for runs in found)]  # fmt: skip
        task = (values or {}).get("task")
        seeds = [{run.seed for run in runs if task in (None, run.task)} for runs in found]
        return sorted(set.intersection(*seeds))
    if name == "seed":
        return None
    from helpers.tasks import TASKS

    return list(TASKS)


def _runs(pattern: str) -> list[Run]:
    """Runs of an experiment on the datasets of a pattern such as dt/*/medium."""
    # Takes seconds, and not all chapters need it.
    from helpers.experiments import load_experiments

    found = [
        run
        for run in load_experiments().get(pattern.split("/")[0], [])
        if fnmatchcase(f"{run.experiment}/{run.dataset}", pattern)
    ]
    if not found:
        raise ValueError(f"{CHECK}: experiments.toml has no runs {pattern}")
    return found


def _check_models(models: Collection[str], values: Mapping[str, Any]) -> None:
    """Raise unless the models of this seed (and task) are files here, or will be trained."""
    task = values.get("task")
    runs = [run for name in models for run in _runs(name) if task in (None, run.task)]
    absent: dict[int, Run] = {}
    for run in reversed(runs):
        trains = values["profile"] == "full" and run.state() != "done"
        if not (trains or run.checkpoint_path().exists()):
            absent[run.seed] = run
    if lost := absent.get(values["seed"]):
        here = sorted({run.seed for run in runs} - set(absent))
        others = f"those of seed {in_words(here)} are" if here else "nor is that of another seed"
        command = f"python -m helpers run {lost.experiment} --only {lost.name} --again"
        raise WrongParameter(
            f"parameter seed is {values['seed']}, but the model {lost.name} is not here; {others}. "
            f"Make it by `{command}`"
        )


def _is_among(value: Any, choices: Collection[Any] | None) -> bool:
    if choices is None:
        return type(value) is int and value >= 0
    # True == 1 == 1.0 in Python, but not in the name of a result.
    return any(type(value) is type(choice) and value == choice for choice in choices)


def in_words(choices: Collection[Any] | None) -> str:
    """Such as 0, 1 or 2."""
    if choices is None:
        return "a whole number, 0 or more"
    *some, last = map(str, choices)
    return f"{', '.join(some)} or {last}" if some else last


# --- the table ---------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A row of the table."""

    name: str
    default: Any
    choices: Collection[Any] | None
    meaning: str
    """The comment beside it."""


def read_parameters(source: Path) -> Iterator[Parameter]:
    """The parameters of a chapter, from its first two code cells.

    Raises:
        ValueError: the chapter does not check exactly its parameters.
    """
    import jupytext

    cells = jupytext.read(source).cells
    first, second = [cell.source for cell in cells if cell.cell_type == "code"][:2]
    models, accepted, checked = _read_check(second, source.name)
    statements = [node for node in ast.parse(first).body if isinstance(node, ast.Assign)]
    names = [node.targets[0].id for node in statements]
    if sorted(names) != sorted(checked):
        raise ValueError(
            f"{source.name}: the parameters are {names}, but {CHECK} is given {checked}"
        )
    values = {
        name: ast.literal_eval(node.value) for name, node in zip(names, statements, strict=True)
    }
    for node, (name, default) in zip(statements, values.items(), strict=True):
        line = first.split("\n")[node.end_lineno - 1].encode()
        comment = line[node.end_col_offset :].decode().strip().removeprefix("#").strip()
        choices = choices_of(name, models, accepted, values)
        yield Parameter(name, default, choices, comment)


def _read_check(cell: str, chapter: str) -> tuple[list[str], dict[str, Any], list[str]]:
    """Models, further choices and names in a chapter's call of `check_parameters`."""
    calls = [
        node
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == CHECK
    ]
    if len(calls) != 1:
        raise ValueError(
            f"{chapter}: the cell behind the parameters calls {CHECK} {len(calls)} times, not "
            f"once: {CHECK}(profile=profile, seed=seed)"
        )
    given = {word.arg: word.value for word in calls[0].keywords}
    accepted = ast.literal_eval(given.pop("accepted")) if "accepted" in given else {}
    for name, value in given.items():
        if getattr(value, "id", "") != name:
            raise ValueError(f"{chapter}: write {name}={name} in {CHECK}")
    return [ast.literal_eval(given) for given in calls[0].args], accepted, list(given)


def parameter_table() -> str:
    """All parameters of all chapters, as a table in Markdown."""
    from helpers.book import chapters

    rows = [
        "| Chapter | Parameter | Default | Accepts | What it changes |",
        "|---|---|---|---|---|",
    ]
    for source in chapters():
        link = f"[{source.stem[:2]}](chapters/{source.stem}.ipynb)"
        for parameter in read_parameters(source):
            shown = (f"`{parameter.name}`", f"`{parameter.default}`", in_words(parameter.choices))
            rows.append(f"| {' | '.join((link, *shown, parameter.meaning))} |")
    return "\n".join(rows)


def page_with_table() -> tuple[Path, str]:
    """The page about parameters with the table of the present chapters, and where it belongs."""
    path = paths.ROOT / PAGE
    text = path.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return path, f"{before}{BEGIN}\n\n{parameter_table()}\n\n{END}{after}"
