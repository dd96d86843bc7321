"""Numbers that others published (data/published), and what the post made of them.

A file holds the tables of one publication, tidy: a row a number, with its source. Nothing of it was
measured here. The averages below are computed from the rows, never copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers import paths
from helpers.files import BadFile
from helpers.names import look_up

COLUMNS = ("table", "method", "task", "score", "spread", "spread_kind", "seeds", "source")
FIGURE_COLUMNS = ("figure", "quantity", "at", "value", "unit", "how")
NAMES = ("dt", "tt", "iql", "corl", "atari", "antmaze")
SPREADS = ("", "std", "standard error")

LOCOMOTION = tuple(
    f"{robot}-{tier}"
    for tier in ("medium-expert", "medium", "medium-replay")
    for robot in ("halfcheetah", "hopper", "walker2d")
)
GAMES = ("Breakout", "Qbert", "Pong", "Seaquest")
MAZES = tuple(
    f"antmaze-{maze}"
    for maze in (
        "umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse"
    )
)  # fmt: skip


def scores(name: str) -> pd.DataFrame:
    """The tables of one publication; see data/published/README.md for their columns.

    Raises:
        UnknownName: no such publication.
        BadFile: a column is missing, a score is no number, a spread has no known kind, a source is
            missing, or a row occurs twice; names the file and the line.
    """
    look_up(dict.fromkeys(NAMES), name, "publication")
    path = paths.DATA / "published" / f"{name}.csv"
    table = _read(path, COLUMNS)
    for line, row in enumerate(table.itertuples(index=False), start=2):
        for field in ("score", "spread"):
            value = getattr(row, field)
            if not (value or field == "spread") or not _is_number(value or "0"):
                raise BadFile(f"{path}, line {line}: {field} is {value!r}; write a number")
        if row.spread_kind not in SPREADS or bool(row.spread) != bool(row.spread_kind):
            raise BadFile(
                f"{path}, line {line}: spread {row.spread!r} is of kind {row.spread_kind!r}; "
                f"say which: one of {SPREADS[1:]}"
            )
        if not row.source:
            raise BadFile(f"{path}, line {line}: no source; say where {row.score} was published")
    _refuse_doubles(path, table[["table", "method", "task"]])
    return table.assign(score=table["score"].astype(float), spread=pd.to_numeric(table["spread"]))


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All fields of a file as they are written; BadFile where it is no table of these columns."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
    except pd.errors.ParserError as error:
        raise BadFile(f"{path}: not a table ({error})") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise BadFile(f"{path}: not a table (rows have more fields than the head)")
    if list(table.columns) != list(columns):
        raise BadFile(f"{path}: columns are {list(table.columns)}; expected {list(columns)}")
    return table


def _refuse_doubles(path: Path, keys: pd.DataFrame) -> None:
    """Each line says something else; BadFile names the first that does not."""
    if (again := keys.duplicated()).any():
        at = int(again.argmax())
        key = tuple(keys.iloc[at])
        raise BadFile(f"{path}, line {at + 2}: {key} is there twice; keep one")


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def mean(name: str, method: str, tasks: Sequence[str], table: str | None = None) -> float:
    """Mean score of a method over exactly these tasks.

    Raises:
        BadFile: one of them is missing, or is in several tables and none was named; a mean over
            others would be another number.
    """
    rows = scores(name)
    rows = rows[(rows["method"] == method) & rows["task"].isin(tasks)]
    rows = rows if table is None else rows[rows["table"] == table]
    if missing := sorted(set(tasks) - set(rows["task"])):
        raise BadFile(f"data/published/{name}.csv: {method} has no score on {missing}")
    if rows["task"].duplicated().any():
        tables = sorted(set(rows["table"]))
        raise BadFile(f"data/published/{name}.csv: {method} is in the tables {tables}; name one")
    return float(rows["score"].mean())


def total(name: str, method: str) -> float:
    """A total over the nine locomotion sets that is published without all its parts."""
    rows = scores(name)
    row = rows[(rows["table"] == "locomotion total") & (rows["method"] == method)]
    return float(row["score"].item())


def flattery() -> pd.Series:
    """By method, what choosing the best checkpoint adds to CORL's mean over locomotion."""
    rows = scores("corl")
    rows = rows[rows["table"] == "locomotion mean"]
    by_choice = rows.pivot(index="method", columns="task", values="score")
    return by_choice["best checkpoint"] - by_choice["last checkpoint"]


# --- the post's figures --------------------------------------------------------------------------


def post_figure(figure: str, quantity: str) -> pd.Series:
    """Numbers of one of the post's figures, by where they were read (a step, a width, a layer).

    Args:
        figure: such as compute-cost; see data/published/post_figures.csv.
        quantity: a curve, a bar or a printed number of it.

    Raises:
        UnknownName: no such figure or quantity.
        BadFile: see `post_figures`.
    """
    rows = post_figures()
    look_up(dict.fromkeys(rows["figure"]), figure, "figure of the post")
    rows = rows[rows["figure"] == figure]
    look_up(dict.fromkeys(rows["quantity"]), quantity, f"quantity of {figure}")
    values = rows[rows["quantity"] == quantity].set_index("at")["value"]
    whole = values.index.notna().all() and (values.index % 1 == 0).all()
    return values.set_axis(values.index.astype(int)) if whole else values


def post_figures() -> pd.DataFrame:
    """All numbers read off the post's figures, with their units and how they were read.

    Raises:
        BadFile: a column is missing, a value is no number, `at` is neither a number nor empty, a
            unit or a reading is missing, or a row occurs twice; names the file and the line.
    """
    path = paths.DATA / "published" / "post_figures.csv"
    table = _read(path, FIGURE_COLUMNS)
    for line, row in enumerate(table.itertuples(index=False), start=2):
        for field, text in (("value", row.value), ("at", row.at or "0")):
            if not _is_number(text):
                raise BadFile(f"{path}, line {line}: {field} is {text!r}; write a number")
        for field in ("figure", "quantity", "unit", "how"):
            if not getattr(row, field):
                raise BadFile(f"{path}, line {line}: {field} is empty; say what {row.value} is")
    _refuse_doubles(path, table[["figure", "quantity", "at"]])
    return table.assign(value=table["value"].astype(float), at=pd.to_numeric(table["at"]))


# --- the post's table --------------------------------------------------------------------------


@dataclass(frozen=True)
class PostCell:
    """One number (or blank) of the post's table, against the sources it came from."""

    method: str
    domain: str
    printed: str
    computed: float | None
    """What the sources give for it; None where nothing is published."""
    verdict: str
    """correct, misquoted, partial (right for a choice of tasks that is not stated), omitted, or
    nothing published."""
    explanation: str


def post_cells() -> list[PostCell]:
    """All cells of the post's table, row by row, each with what the sources say."""
    printed = pd.read_csv(paths.DATA / "published" / "post_table.csv", keep_default_na=False)
    explain = {"locomotion": _locomotion, "atari": _atari, "antmaze": _antmaze}
    return [
        explain[domain](row["method"], str(row[domain]))
        for _, row in printed.iterrows()
        for domain in explain
    ]


def _agrees(printed: str, computed: float) -> bool:
    """Equal at the precision that was printed; "~75" claims whole numbers."""
    number = printed.removeprefix("~")
    digits = len(number.partition(".")[2])
    return abs(float(number) - computed) <= 0.5 * 10**-digits + 1e-9


def _judged(method: str, domain: str, printed: str, computed: float, why: str) -> PostCell:
    verdict = "correct" if _agrees(printed, computed) else "misquoted"
    return PostCell(method, domain, printed, computed, verdict, why)


def _locomotion(method: str, printed: str) -> PostCell:
    if not printed:
        return PostCell(method, "locomotion", printed, None, "nothing published", "")
    corl = f"CORL, with one code base for all, has {{:.1f}} for {method}"
    again = corl.format(mean("corl", method, LOCOMOTION)) if method != "TT" else ""
    if method == "TT":
        uniform = mean("tt", "TT uniform", LOCOMOTION)
        return _judged(
            method, "locomotion", printed, mean("tt", "TT quantile", LOCOMOTION),
            f"the quantile version; the uniform one has {uniform:.1f}. 15 single rollouts, planner "
            "settings chosen for each set",
        )  # fmt: skip
    if method == "IQL":
        return _judged(method, "locomotion", printed, total("iql", "IQL") / len(LOCOMOTION), again)
    if method == "CQL":
        own = mean("dt", "CQL", LOCOMOTION, "locomotion")
        why = f"re-run on v2 by others; in the DT paper's table CQL has {own:.1f} (v0). {again}"
        return _judged(method, "locomotion", printed, mean("tt", "CQL", LOCOMOTION), why)
    return _judged(
        method, "locomotion", printed, mean("dt", method, LOCOMOTION, "locomotion"), again
    )


def _atari(method: str, printed: str) -> PostCell:
    if not printed:
        return PostCell(method, "atari", printed, None, "nothing published", "")
    games = scores("atari").pivot(index="method", columns="task", values="score")[list(GAMES)]
    ours = games.loc[method]
    rest = games.drop(columns="Breakout").mean(axis=1)
    first = games.loc[["BC", "CQL", "DT", "LEAP"]].idxmax()
    won = [game for game in GAMES if first[game] == method]
    rival = "" if method == "CQL" else f" (CQL {rest['CQL']:.1f})"
    why = (
        f"without Breakout {rest[method]:.1f}{rival}; highest of the four on "
        f"{' and '.join(won) or 'no game'}"
    )
    return _judged(method, "atari", printed, float(ours.mean()), why)


def _antmaze(method: str, printed: str) -> PostCell:
    source = "TT (+Q)" if method == "TT" else method
    known = scores("antmaze")
    if source not in set(known["method"]):
        return PostCell(method, "antmaze", printed, None, "nothing published", "")
    five = [maze for maze in MAZES if maze != "antmaze-umaze-diverse"]
    over_five = mean("antmaze", source, five)
    if not printed:
        rival = mean("antmaze", "IQL", five)
        why = f"left out; IQL has {rival:.1f} on the same five mazes"
        return PostCell(method, "antmaze", "–", over_five, "omitted", why)
    over_six = mean("antmaze", source, MAZES)
    why = f"over five of the six mazes, those that TT ran; over all six {over_six:.1f}"
    verdict = "partial" if _agrees(printed, over_five) else "misquoted"
    return PostCell(method, "antmaze", printed, over_five, verdict, why)
