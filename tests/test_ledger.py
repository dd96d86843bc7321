"""The table of all runs is that of the present results."""

import re

from helpers import ledger
from helpers.ledger import ledger_rows, ledger_table, page_with_ledger

ROWS = ledger_rows()


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
    lines = ledger_table().splitlines()[2:]
    assert [re.match(r"\| `([^`]+)`", line)[1] for line in lines] == [r["experiment"] for r in ROWS]
