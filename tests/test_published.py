"""Published numbers: whole files, the averages that the papers print, the post's table judged."""

import shutil

import pytest

from helpers import paths, published
from helpers.files import BadFile
from helpers.names import UnknownName
from helpers.published import GAMES, LOCOMOTION, MAZES, mean, post_cells, scores


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the files that a test may alter: (file, old text, new text)."""
    shutil.copytree(paths.DATA / "published", tmp_path / "published")
    monkeypatch.setattr(paths, "DATA", tmp_path)

    def alter(name, old, new):
        path = tmp_path / "published" / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return alter


@pytest.mark.parametrize("name", published.NAMES)
def test_every_number_has_a_source(name):
    table = scores(name)
    assert len(table) and table["source"].str.len().min() > 10


@pytest.mark.parametrize(
    ("name", "method", "tasks", "table", "printed"),
    [
        ("dt", "DT", LOCOMOTION, "locomotion", 74.7),
        ("dt", "CQL", LOCOMOTION, "locomotion", 63.9),
        ("dt", "BRAC-v", LOCOMOTION, "locomotion", 36.9),
        ("dt", "AWR", LOCOMOTION, "locomotion", 34.3),
        ("dt", "BEAR", LOCOMOTION, "locomotion", 48.2),
        ("tt", "BC", LOCOMOTION, None, 47.7),
        ("tt", "MBOP", LOCOMOTION, None, 47.8),
        ("tt", "CQL", LOCOMOTION, None, 77.6),
        ("tt", "DT", LOCOMOTION, None, 74.7),
        ("tt", "TT uniform", LOCOMOTION, None, 72.6),
        ("tt", "TT quantile", LOCOMOTION, None, 78.9),
        ("atari", "DT", GAMES, None, 97.9),
        ("atari", "CQL", GAMES, None, 107.2),
        ("atari", "BC", GAMES, None, 60.9),
        ("atari", "LEAP", GAMES, None, 132.6),
    ],
)
def test_averages_are_those_that_the_papers_print(name, method, tasks, table, printed):
    """A mistyped score would show here."""
    assert mean(name, method, tasks, table) == pytest.approx(printed, abs=0.1)


def test_parts_add_up_to_printed_totals():
    assert 9 * mean("iql", "IQL", LOCOMOTION) == pytest.approx(
        published.total("iql", "IQL"), abs=0.1
    )
    rows = scores("corl")
    for row in rows[rows["task"] == "last checkpoint"].itertuples():
        if row.table == "locomotion mean":
            assert mean("corl", row.method, LOCOMOTION) == pytest.approx(row.score, abs=0.01)
    # DT's table 3 shows DT's table 2 again, and the BC of it as 100 % BC.
    dt = scores("dt")
    for row in dt[
        (dt["table"] == "percentile") & dt["method"].isin(["DT", "100% BC"])
    ].itertuples():
        name = row.method.replace("100% ", "")
        assert mean("dt", name, [row.task], "locomotion") == row.score
    # IQL's totals over the umaze, medium and large pairs.
    pairs = [2 * mean("antmaze", "IQL", MAZES[i : i + 2]) for i in (0, 2, 4)]
    assert sum(pairs) == pytest.approx(6 * 63.0, abs=0.3)


def test_the_best_checkpoint_flatters_every_method():
    assert (published.flattery() > 3).all() and published.flattery().max() < 20


def test_the_posts_table_is_judged():
    cells = {(cell.method, cell.domain): cell for cell in post_cells()}
    assert len(cells) == 18
    verdicts = {key: cell.verdict for key, cell in cells.items()}
    assert verdicts["DT", "locomotion"] == verdicts["TT", "locomotion"] == "correct"
    assert verdicts["BC", "locomotion"] == verdicts["CQL", "locomotion"] == "correct"
    assert verdicts["IQL", "locomotion"] == "misquoted"
    assert cells["IQL", "locomotion"].computed == pytest.approx(76.9, abs=0.05)
    assert all(verdicts[m, "atari"] == "correct" for m in ("BC", "CQL", "DT", "LEAP"))
    assert verdicts["CQL", "antmaze"] == "misquoted"
    assert cells["CQL", "antmaze"].computed == pytest.approx(43.9, abs=0.05)
    assert {verdicts[m, "antmaze"] for m in ("BC", "IQL", "DT")} == {"partial"}
    assert "16.7" in cells["BC", "antmaze"].explanation
    # The row that reverses the conclusion.
    assert verdicts["TT", "antmaze"] == "omitted"
    assert cells["TT", "antmaze"].computed == pytest.approx(84.0, abs=0.05)
    assert cells["TT", "antmaze"].computed > mean("antmaze", "IQL", MAZES[:1] + MAZES[2:])
    assert verdicts["LEAP", "locomotion"] == verdicts["TT", "atari"] == "nothing published"
    # One game makes LEAP's mean.
    assert "without Breakout 43.2 (CQL 72.6)" in cells["LEAP", "atari"].explanation
    assert cells["LEAP", "atari"].explanation.endswith("on Breakout")
    assert cells["CQL", "atari"].explanation.startswith("without Breakout 72.6; highest")
    assert cells["CQL", "atari"].explanation.endswith("on Qbert and Pong")
    # The nine locomotion sets of table 2, not the Hopper scores of table 7 as well.
    assert "CQL has 63.9 (v0)" in cells["CQL", "locomotion"].explanation


def test_verdicts_follow_from_the_files(copied):
    copied("post_table.csv", "IQL,~75", "IQL,~77")
    copied("antmaze.csv", "antmaze-v0,CQL,antmaze-umaze,74.0", "antmaze-v0,CQL,antmaze-umaze,79.0")
    cells = {(cell.method, cell.domain): cell for cell in post_cells()}
    assert cells["IQL", "locomotion"].verdict == "correct"
    assert cells["CQL", "antmaze"].verdict == "partial"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",86.8,", ",86,8,", "not a table .*more fields"),
        ("BRAC-v,halfcheetah-medium-expert,41.9", "BRAC-v,a,b,41.9", "not a table .*line 5"),
        (",86.8,", ",high,", r"dt.csv, line 2: score is 'high'; write a number"),
        (",86.8,", ",,", "line 2: score is ''"),
        (",1.3,std,", ",1.3,,", "spread '1.3' is of kind ''; say which"),
        (",1.3,std,", ",,std,", "spread '' is of kind 'std'"),
        ("spread_kind,", "kind,", "columns are .* expected"),
        ('3,"Chen et al. 2021 (arXiv 2106.01345v2), table 2"', "3,", "line 2: no source"),
        ("locomotion,BEAR,", "locomotion,DT,", "line 4: .* is there twice"),
    ],
)
def test_bad_files_are_told(copied, old, new, message):
    copied("dt.csv", old, new)
    with pytest.raises(BadFile, match=message):
        scores("dt")


def test_unknown_publications_and_missing_scores(copied):
    with pytest.raises(UnknownName, match="unknown publication 'DT'"):
        scores("DT")
    with pytest.raises(BadFile, match=r"CQL is in the tables \['delayed', .*; name one"):
        mean("dt", "CQL", LOCOMOTION)
    with pytest.raises(BadFile, match=r"TT \(\+Q\) has no score on \['antmaze-umaze-diverse'\]"):
        mean("antmaze", "TT (+Q)", MAZES)


# --- the post's figures ---


def test_numbers_of_the_posts_figures():
    cost = published.post_figure("compute-cost", "TT")
    assert cost.index.tolist() == [1, 2, 4, 8, 16, 32] and cost[32] == 386923
    assert published.post_figure("compute-cost", "DT").item() == 143.2
    table = published.post_figures()
    assert {"unit", "how"} < set(table.columns) and (table["how"].str.len() > 10).all()


def test_readings_of_one_picture_agree():
    """A slip in reading would show: areas make the total, rows of maps sum to 1."""
    parts = ("return-to-go", "recent", "middle", "old")
    areas = [published.post_figure("attention-shares", part) for part in parts]
    total = published.post_figure("attention-shares", "total")
    assert (sum(areas) - total).abs().max() < 0.004
    for name in ("dt-map", "tt-map"):
        rows = published.post_figure(name, "sum of a row, mean").item()
        assert rows == pytest.approx(1, abs=0.06)
    # The mean distance in TT's last map is what the post's other figure has for that layer.
    distance = published.post_figure("tt-map", "mean distance").item()
    assert distance == pytest.approx(published.post_figure("look-back", "range")[3], abs=0.2)
    for name in ("DT", "TT"):
        assert published.post_figure("error-propagation", name).is_monotonic_increasing


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("compute-cost,TT,1,266,", "compute-cost,TT,1,2,66,", "not a table .*more fields|line"),
        ("compute-cost,TT,1,266,", "compute-cost,TT,1,fast,", "value is 'fast'; write a number"),
        ("compute-cost,TT,1,266,", "compute-cost,TT,one,266,", "at is 'one'; write a number"),
        ("compute-cost,TT,1,266,", "compute-cost,TT,2,266,", "is there twice; keep one"),
        ("compute-cost,TT,1,266,ms per episode,", "compute-cost,TT,1,266,,", "unit is empty"),
        ("compute-cost,TT,1,266,", "compute-cost,,1,266,", "quantity is empty"),
        ("figure,quantity,at", "figure,quantity,x", "columns are .* expected"),
    ],
)
def test_bad_readings_are_told(copied, old, new, message):
    copied("post_figures.csv", old, new)
    with pytest.raises(BadFile, match=message):
        published.post_figures()


def test_unknown_figures_and_quantities():
    with pytest.raises(UnknownName, match="unknown figure of the post 'cost'"):
        published.post_figure("cost", "TT")
    with pytest.raises(UnknownName, match="unknown quantity of compute-cost 'LEAP'"):
        published.post_figure("compute-cost", "LEAP")
