"""The tables of the data chapter say what the registry says."""

import re

import pytest
from bs4 import BeautifulSoup

from helpers import paths
from helpers.data import overview
from helpers.data.catalogue import DATASETS, registry
from helpers.tasks import BABYAI_LEVELS, TASKS


def test_every_level_has_a_row():
    table = overview.level_table().set_index("level")
    assert list(table.index) == list(BABYAI_LEVELS)
    row = table.loc["gotoobjmaze-s7"]
    assert row["grid"].split() == ["19", "×", "19"] and row["step limit"] == 441
    assert row["mean length"] == f"{registry()['babyai-gotoobjmaze-s7/expert']['length_mean']:.1f}"
    assert row["LEAP's"] == "20.4" and table.loc["pickup", "LEAP's"] == ""
    assert {f"babyai-{level}" for level in overview.LEAP_LENGTHS} <= set(TASKS)


def test_every_dataset_has_a_row():
    table = overview.dataset_table().set_index("dataset")
    assert list(table.index) == list(DATASETS)
    assert table.loc["halfcheetah/random", "return"].split() == ["−284", "±", "77"]
    assert table.loc["gridmaze/halves", "return"].split() == ["−2.85", "±", "17.17"]
    assert (table["steps"].str.replace(",", "").astype(int) > 0).all()


@pytest.fixture(scope="module")
def cards():
    return BeautifulSoup(overview.cards_html(), "html.parser").find_all("details")


def test_every_dataset_has_a_folded_card(cards):
    assert [card.summary.get_text() for card in cards] == list(DATASETS)
    assert not any(card.has_attr("open") for card in cards)
    assert all(card.select("th[scope=row]") and not card.select("h1, h2, h3") for card in cards)


def test_cards_agree_with_those_beside_the_data(cards):
    for card, spec in zip(cards, DATASETS.values(), strict=True):
        text = (paths.SAMPLES / spec.minari_id / "README.md").read_text()
        written = dict(re.findall(r"^\| (\S.*?) \| (.*) \|$", text, re.MULTILINE))
        shown = {row.th.get_text(): row.td.get_text() for row in card.find_all("tr")}
        assert shown == written, spec.id
        made = card.find_all("p")[-1].get_text()
        for version in re.findall(r"[\w-]+==[\d.]+\d", text):
            assert version in made
        assert registry()[spec.id]["sha256"][:16] in made and made.split()[6] == spec.id
