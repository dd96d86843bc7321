"""The table of all runs is that of the present results, and chapters note what they read."""

import json
import re
from pathlib import Path

import pytest

from helpers import book, ledger, runs
from helpers.experiments import load_experiments
from helpers.ledger import (
    READ_LOG,
    READS,
    chapter_reads,
    chapter_table,
    ledger_rows,
    ledger_table,
    noted_reads,
    page_with_ledger,
)

ROWS = ledger_rows()
PAGE = chapter_reads()


def test_the_table_on_the_page_is_that_of_the_results():
    path, text = page_with_ledger()
    assert path.read_text() == text, "write it anew: python -m helpers ledger"


def test_minutes_are_those_of_the_results():
    results = [{"train_seconds": 60.0}, {"train_seconds": 630.0, "evaluation_seconds": 6.0}]
    assert ledger._minutes(results, "train_seconds") == (1.0, 10.5)
    assert ledger._span((1.0, 10.5)) == "1.0 to 10"
    assert ledger._span((0.0, 0.0)) == "–" and ledger._span(None) == "not run"
    assert ledger._span(ledger._minutes(results[1:], "evaluation_seconds")) == "0.1"


def test_every_experiment_has_a_row():
    lines = ledger_table({}).splitlines()[2:]
    assert [re.match(r"\| `([^`]+)`", line)[1] for line in lines] == [r["experiment"] for r in ROWS]


def test_processors_are_named_where_results_name_them():
    old = {"machine": "x86_64, 2 cores"}
    assert ledger._machine(old) == "x86_64, 2 cores"
    assert ledger._machine({**old, "processor": "Xeon"}) == "x86_64, 2 cores, Xeon"
    assert runs.versions("HalfCheetah-v5")["processor"]


# --- what chapters read ------------------------------------------------------------------------


def test_what_a_chapter_asks_for_is_noted_once_each(tmp_path, monkeypatch):
    asked = []

    def found(run, profile):
        asked.append(run)
        return {}, tmp_path

    monkeypatch.setattr(runs, "_obtain", found)
    known = load_experiments()
    runs.obtain(known["dt"][0], "book")  # outside an execution, nothing is written
    monkeypatch.setenv(READ_LOG, str(tmp_path / f"one{READS}"))
    for run in (*known["dt"][:2], known["tt-greedy"][0]):
        runs.obtain(run, "book")
    assert len(asked) == 4 and list(tmp_path.iterdir()) == [tmp_path / f"one{READS}"]
    # The partner tt, which tt-greedy needs, is not what the chapter asked for.
    assert noted_reads(tmp_path / "one.ipynb") == {"dt", "tt-greedy"}


@pytest.fixture
def executed(tmp_path) -> Path:
    """A folder in which two chapters were executed, one of them in smoke."""
    for number, parameters in (("04", {}), ("05", {"profile": "smoke"})):
        (source,) = book.chapters(f"{number}_")
        notebook = tmp_path / f"{source.stem}.ipynb"
        notebook.with_suffix(".stamp.json").write_text(json.dumps({"parameters": parameters}))
        notebook.with_suffix(READS).write_text("stitch-dt\nbc\nbc\n")
    return tmp_path


def test_executions_in_the_book_profile_count_and_others_keep_the_page(executed):
    (chapter,) = (source.stem for source in book.chapters("04_"))
    found = chapter_reads(executed)
    assert found == {**PAGE, chapter: ["bc", "stitch-dt"]}  # in the order of experiments.toml
    assert page_with_ledger(executed)[1] != page_with_ledger()[1]


def test_a_row_leads_from_a_chapter_to_commands_and_back():
    (chapter,) = (source.stem for source in book.chapters("09_"))
    reads = {chapter: ["tt", "bc"], "12_claims": ["bc"]}
    by_chapter, by_name = chapter_table(reads), ledger_table(reads)
    assert f"| [09](chapters/{chapter}.ipynb) | `tt`, `bc` | " in by_chapter
    cells = {line.split("`")[1]: line.split("|")[-2].strip() for line in by_name.split("\n")[2:]}
    assert (cells["tt"], cells["bc"], cells["dt"]) == ("9", "9, 12", "–")


def test_hours_are_those_of_the_results():
    line = chapter_table({"12_claims": ["tt", "tt-greedy"]}).split("\n")[-1]
    minutes = [
        sum(map(sum, (row["train"], row["evaluate"])))  # least and most: both of two runs
        for row in ROWS
        if row["experiment"] in ("tt", "tt-greedy") and row["done"] == 2
    ]
    assert len(minutes) == 2
    assert line.endswith(f"| 4 | {sum(minutes) / 60:.1f} |")


def test_no_chapter_reads_what_was_not_run():
    done = {row["experiment"] for row in ROWS if row["done"]}
    assert set().union(*PAGE.values()) <= done


def test_experiments_that_a_chapter_subscripts_are_on_the_page():
    """A cheap net for a page that was not written anew; test_site compares with the execution."""
    for source in book.chapters():
        calls = re.findall(r'obtain\(experiments\["([\w-]+)"\]', source.read_text())
        assert set(calls) <= set(PAGE[source.stem]), source.stem
    assert "babyai-leap" in PAGE["09_errors_and_cost"]
