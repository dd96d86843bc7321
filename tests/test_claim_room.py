"""One room for all three models: what a plan costs, and what slips take away."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from helpers import claim_room
from helpers.claim_models import Pace, room_paces
from helpers.claim_room import (
    TOLD,
    WAYS,
    leads_in_words,
    parts_table,
    room_table,
    share_kept,
    share_mended,
)
from helpers.claims import cell_runs, same_models
from helpers.experiments import load_experiments

ROOM = claim_room.ROOM


def test_an_action_costs_its_part_of_a_plan():
    pace = Pace(np.array([10.0, 14.0, 12.0]), np.array([4.0, 2.0]))
    assert pace.of_a_plan.score == 12.0 and pace.of_an_action.score == 4.0
    assert pace.of_an_action.low < 12 / 4 + 1e-9 and pace.of_an_action.high > 12 / 2 - 1e-9


def test_paces_in_smoke():
    paces = room_paces("smoke")
    assert list(paces) == ["dt", "tt", "leap"]
    assert paces["dt"].actions.mean() == 1.0 < paces["leap"].actions.mean()
    assert paces["tt"].actions.mean() == 2.0, "smoke's plan_every"


def test_slips_are_played_by_the_models_that_play_without_them():
    """And nothing else differs: the same search, the same episodes."""
    for way in WAYS.values():
        shaken, calm = (load_experiments()[name] for name in (way.shaken, way.calm))
        assert same_models(f"{way.shaken} {ROOM}", f"{way.calm} {ROOM}"), way.label
        calm = {run.seed: run for run in calm if run.dataset == ROOM}
        for run in shaken:
            assert run.planner == calm[run.seed].planner, way.label
            assert run.evaluation["episodes"] == calm[run.seed].evaluation["episodes"]
            assert run.evaluation["noise"] == claim_room.SLIPS[1]


@pytest.fixture
def made_up(monkeypatch):
    """Successes by experiment and seed; the slips of a way are those of its experiment."""

    def use(**by_experiment):
        def found(name, measure, profile):
            assert measure == "score"
            rows = by_experiment[name.split()[0].replace("-", "_")]
            return {seed: 100.0 * np.array(row) for seed, row in rows.items()}

        monkeypatch.setattr(claim_room, "episodes_of", found)

    return use


def test_what_is_kept_and_mended_is_told_by_episodes_from_the_same_first_state(made_up):
    made_up(
        shaken_babyai_dt={0: 20 * [1, 0, 1, 0], 1: [1]},
        babyai_dt={0: 20 * [1, 1, 0, 1] + [1], 2: [1]},
        shaken_babyai_tt={0: 20 * [1, 0], 1: 40 * [0]}, babyai_tt={0: 40 * [0], 1: 40 * [0]},
    )  # fmt: skip
    assert share_kept("dt", "book").score == pytest.approx(100 / 3)
    assert share_mended("dt", "book").score == pytest.approx(100)
    assert share_kept("tt", "book").score == 0, "nothing can be kept of nothing"
    assert share_mended("tt", "book").score == pytest.approx(25)
    assert leads_in_words("dt", "tt", "book") == "neither clearly more nor clearly less"


def test_who_keeps_more_is_said_of_the_shares(made_up):
    many, few, all_of_them = 40 * [1, 1, 1, 0], 40 * [0, 0, 0, 1], 160 * [1]
    made_up(
        shaken_babyai_dt={0: many}, babyai_dt={0: all_of_them},
        shaken_babyai_tt={0: few}, babyai_tt={0: all_of_them},
    )  # fmt: skip
    assert leads_in_words("dt", "tt", "book") == "clearly more"
    assert leads_in_words("tt", "dt", "book") == "clearly less"


@pytest.mark.parametrize(("make", "rows", "columns"), [(room_table, 5, 9), (parts_table, 3, 4)])
def test_tables_are_full(make, rows, columns):
    found = BeautifulSoup(make("smoke"), "html.parser").select("tbody tr")
    cells = [[cell.get_text() for cell in row.select("td")] for row in found]
    assert len(cells) == rows and {len(row) for row in cells} == {columns}
    assert all(text for row in cells for text in row)


def test_missions_of_two_parts_are_played_by_models_of_one():
    for method, ways in TOLD.items():
        for name in ways:
            (run, *_) = cell_runs(f"{name} {claim_room.PARTS}")
            assert run.trainer().experiment == f"parts-{method}" and run.plays == "babyai-both"
