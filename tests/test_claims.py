"""The post's claims: the file, the verdicts and where their numbers come from."""

from dataclasses import replace

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from helpers import claim_attention, claim_comparison, claim_models, claims, paths
from helpers.analysis.as_published import random_attention
from helpers.analysis.statistics import Interval, difference_interval, mean_interval
from helpers.claim_attention import ATTENTION
from helpers.claim_comparison import MODELS, Aspect, comparison_table
from helpers.claim_errors import ERRORS
from helpers.claim_room import plan_cost
from helpers.claim_statistics import STATISTICS, room_tokens
from helpers.claim_tables import (
    advice_table,
    counts,
    draw_verdicts,
    plain,
    text,
    topic_table,
    untested_table,
    verdict_table,
)
from helpers.claims import (
    Advice,
    Claim,
    Judged,
    Untested,
    cell,
    cell_runs,
    difference,
    evaluate,
    load_advice,
    load_claims,
    load_untested,
    same_models,
)
from helpers.files import BadFile, read_json
from helpers.names import UnknownName
from helpers.plotting import new_axes

ENTRY = """
- id: one
  section: 7.a
  topic: planning
  claim: It is good.
  chapter: 06_leap
  test: how good it is
  of: [babyai-leap babyai-pickuploc/expert]
  minus: [babyai-dt babyai-pickuploc/expert]
  threshold: 0
"""
PICK = "babyai-pickuploc/expert"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "claims.yml"
        path.write_text(text)
        return path

    return write


# --- the file ----------------------------------------------------------------------------------


def test_every_claim_names_runs_and_a_chapter():
    loaded = load_claims()
    for claim in loaded:
        for name in (*claim.of, *claim.minus):
            assert cell_runs(name), name
    used = {claim.statistic for claim in loaded} - {"difference"}
    assert used == set(STATISTICS), "a statistic that no claim uses is dead"
    sentences = [claim.claim for claim in loaded]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  threshold: 0\n", "", r"claim one: lacks \['threshold'\]"),
        ("  topic: planning\n", "", r"claim one: lacks \['topic'\]"),
        ("threshold: 0", "threshold: much", "claim one: threshold is 'much'"),
        ("threshold: 0", "threshold: yes", "claim one: threshold is True"),
        ("threshold: 0", "threshold: 0\n  limit: 3", r"claim one: unknown \['limit'\]"),
        ("threshold: 0", "threshold: 0\n  measure: joy", "measure is 'joy'"),
        ("[babyai-dt babyai-pickuploc/expert]", "babyai-dt x", "minus is 'babyai-dt x'; write a"),
        ("[babyai-dt babyai-pickuploc/expert]", "[a b, c d]", "equally many cells"),
        (f"  of: [babyai-leap {PICK}]\n  minus: [babyai-dt {PICK}]\n", "", "needs cells"),
        ("- id: one", "- id: [one", "not YAML"),
        (ENTRY, "one: two", "holds no list"),
        (ENTRY, ENTRY + ENTRY, r"claims \['one'\] are there twice"),
        ("chapter: 06_leap", "chapter: 06_leep", "chapter is '06_leep', which notebooks/ lacks"),
        ("threshold: 0", "threshold: 0\n  late: 3", "late is 3; write true"),
        (
            "threshold: 0",
            "threshold: 0\n  statistic: shift_lead",
            r"\['of', 'minus'\] mean nothing",
        ),
    ],
)
def test_bad_claims_are_named(written, old, new, message):
    assert old in ENTRY
    with pytest.raises(BadFile, match=message):
        load_claims(written(ENTRY.replace(old, new)))


def test_claims_without_a_test_are_kept_apart(written):
    open_one = "- {id: two, section: 4, topic: x, claim: It grows., untested: a larger network}\n"
    path = written(ENTRY + open_one)
    assert [claim.id for claim in load_claims(path)] == ["one"]
    (found,) = load_untested(path)
    assert (found.id, found.section, found.untested) == ("two", "4", "a larger network")
    with pytest.raises(BadFile, match=r"claim two: unknown \['test'\]"):
        load_untested(written(ENTRY + open_one.replace("untested", "test: t, untested")))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        load_claims(tmp_path / "claims.yml")


def test_an_unknown_statistic(written):
    with pytest.raises(UnknownName, match="beam_is_linear"):
        load_claims(written(ENTRY.replace("threshold", "statistic: beam_linear\n  threshold")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("babyai-dt babyai-kickuploc/expert", "no runs on babyai-kickuploc/expert"),
        ("scaling-dt babyai-gotolocal-s7n5/expert 70", "no runs on .*s7n5/expert 70"),
    ],
)
def test_a_cell_without_runs(written, name, message):
    (claim,) = load_claims(written(ENTRY.replace(f"babyai-dt {PICK}", name)))
    with pytest.raises(BadFile, match=message):
        evaluate(claim)


def test_a_cell_may_name_its_demonstrations():
    room = "babyai-gotolocal-s7n5/expert"
    assert {run.demonstrations for run in cell_runs(f"scaling-dt {room} 50000")} == {50_000}
    with pytest.raises(BadFile, match=r"add a number of demonstrations, one of \[50, "):
        cell_runs(f"scaling-dt {room}")


# --- verdicts and differences ------------------------------------------------------------------


def test_verdicts():
    claim = Claim("x", "1", "t", "c", "06_leap", "t", threshold=2.0)
    assert claim.verdict(Interval(3.0, 2.1, 4.0)) == "supported"
    assert claim.verdict(Interval(1.0, 0.0, 1.9)) == "refuted"
    for on_the_line in (Interval(3.0, 2.0, 4.0), Interval(1.0, 0.0, 2.0)):
        assert claim.verdict(on_the_line) == "inconclusive"


def test_a_difference_is_that_of_the_results(written):
    (claim,) = load_claims(written(ENTRY))
    found = {}
    for name in ("babyai-leap", "babyai-dt"):
        returns = [read_json(r.result_path())["returns"] for r in cell_runs(f"{name} {PICK}")]
        found[name] = 100.0 * (np.array(returns) > 0)
    assert evaluate(claim) == difference_interval(found["babyai-leap"], found["babyai-dt"])


@pytest.fixture
def made_up(monkeypatch):
    """Cells with given episodes by seed; those whose names begin alike play the same models."""

    def use(**cells):
        episodes = {name: dict(enumerate(np.array(rows, float))) for name, rows in cells.items()}
        monkeypatch.setattr(claims, "episodes_of", lambda name, *_: episodes[name])
        monkeypatch.setattr(claims, "same_models", lambda a, b: a[0] == b[0])

    return use


def test_the_same_models_are_compared_episode_by_episode(made_up):
    """Two ways to play that agree on every episode differ by exactly nothing, however they vary."""
    ours = np.random.default_rng(0).normal(size=(3, 50))
    made_up(a1=ours, a2=ours[:2, :20] - 1.0)
    interval = difference(("a1",), ("a2",), "return")
    assert [interval.score, interval.low, interval.high] == pytest.approx([1, 1, 1])


def test_models_of_two_methods_are_resampled_apart(made_up):
    """Seed 0 of one method has nothing to do with seed 0 of another, though they may agree."""
    ours = np.random.default_rng(0).normal(size=(3, 50))
    made_up(a1=ours, b1=ours - 1.0)
    assert difference(("a1",), ("b1",), "return") == difference_interval(ours, ours - 1.0)


def test_a_cell_of_several_pairs_is_resampled_once(made_up):
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 30)), np.zeros((2, 30))
    made_up(a1=ours, b1=theirs, c1=theirs)
    single = difference(("a1",), ("b1",), "return")
    twice = difference(("a1", "a1"), ("b1", "c1"), "return")
    assert [twice.low, twice.high] == pytest.approx([single.low, single.high])


def test_one_list_may_be_empty(made_up):
    ours = np.random.default_rng(2).normal(5.0, size=(2, 30))
    made_up(a1=ours, b1=ours + 2.0)
    assert difference(("a1",), (), "return") == mean_interval(ours)
    both = difference((), ("a1", "b1"), "return")
    assert both.score == pytest.approx(-ours.mean() - 1.0) and both.high < -5.0


def test_same_models():
    cheetah = "halfcheetah/medium"
    assert same_models(f"tt {cheetah}", f"tt-greedy {cheetah}")
    assert same_models(f"tt-narrow {cheetah}", f"shaken-tt-narrow-20 {cheetah}")
    assert not same_models(f"tt {cheetah}", f"dt {cheetah}")
    assert not same_models("dt halfcheetah-delayed/medium", f"dt {cheetah}")


def test_measures():
    maze = "babyai-dt babyai-gotoobjmaze-s4/expert"
    success, returns = (cell(maze, measure=measure) for measure in ("score", "return"))
    assert set(np.unique(success)) == {0.0, 100.0} and np.array_equal(success > 0, returns > 0)
    score = cell("dt halfcheetah/medium", measure="score")
    assert score.shape == (3, 100) and 20 < score.mean() < 60


# --- the other statistics ----------------------------------------------------------------------


def test_statistics_that_are_counted():
    assert -0.25 < STATISTICS["beam_is_linear"]("book").score < 0
    assert STATISTICS["shared_tasks"]("book").score == -10
    # One token of map and mission, 5 of a pose; then 6 steps of an action and a reward (and value)
    # for 8 x 2 candidates, and 5 of a pose for 8 beams. LEAP: 10 iterations and 5 places, 1 + 5.
    assert room_tokens() == {"tt": 1 + 5 + 6 * 2 * 16 + 5 * 6 * 8, "leap": 15 * 6}
    assert 0.2 < STATISTICS["attention_share"]("book").score < 0.3
    assert STATISTICS["triad_diverges"]("smoke").low > 0
    assert STATISTICS["copying_success"]("smoke").high < -2
    atari = STATISTICS["atari_lead"]("book")
    assert atari.score == pytest.approx(132.65 - 107.225) and atari.low < 0 < atari.high


def test_statistics_of_sweeps_are_those_of_chapter_4():
    assert STATISTICS["obeys_beyond"]("book").high < 0.5
    assert STATISTICS["obeys_replay"]("book").low > STATISTICS["obeys_medium"]("book").high


def test_a_trend_within_episodes_has_the_right_sign(monkeypatch):
    """Attention of no model, of which the first half of each episode looks back, say, 7 further."""
    maps = random_attention(12, windows=24)
    late = (torch.arange(24) % 12 >= 6).double()
    monkeypatch.setattr(claim_attention, "TIERS", ("x",))
    monkeypatch.setattr(claim_attention, "decision_maps", lambda *_: (maps,))
    monkeypatch.setattr(
        claim_attention, "episodes", lambda *_: type("", (), {"lengths": np.ones(2)})
    )
    found = claim_attention._change_in_episode(lambda _: 7.0 * late, "smoke")
    assert [found.score, found.low, found.high] == pytest.approx([7, 7, 7])


def test_tiers_are_not_drawn(monkeypatch):
    """Two tiers that differ much, each with models that agree: nothing is uncertain."""
    maps = {
        "x": (random_attention(12, windows=4),) * 2,
        "y": (random_attention(12, windows=8),) * 2,
    }
    monkeypatch.setattr(claim_attention, "decision_maps", lambda tier, _: maps[tier])
    monkeypatch.setattr(
        claim_attention, "episodes", lambda *_: type("", (), {"lengths": np.ones(2)})
    )
    found = claim_attention._over_decisions(
        lambda one: torch.full((len(one.kinds),), float(len(one.kinds))), "smoke", ("x", "y")
    )
    assert [found.score, found.low, found.high] == pytest.approx([6, 6, 6])


def test_a_model_that_is_not_there_is_missed(monkeypatch, tmp_path):
    gone = tmp_path / "gone.safetensors"
    monkeypatch.setattr("helpers.claim_models.obtain", lambda *_: ({}, gone))
    with pytest.raises(BadFile, match="gone.safetensors: no such file"):
        claim_models.trajectory_models.__wrapped__("book")


def test_correlations_over_blocks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    same = claim_attention._correlation(np.array([[x, x**3]] * 2), blocks=10, shared=True)
    assert [same.score, same.low, same.high] == pytest.approx([1, 1, 1])
    other = claim_attention._correlation(
        np.array([[x, rng.normal(size=40)]] * 2), blocks=10, shared=True
    )
    assert other.low < 0 < other.high
    pairs = np.array([[x, x + rng.normal(size=40)]] * 8)  # one model, told eight times
    once, apart = (claim_attention._correlation(pairs, blocks=10, shared=s) for s in (True, False))
    assert once.high - once.low > 1.5 * (apart.high - apart.low), "copies are no new evidence"
    flat = claim_attention._correlation(np.array([[x, np.zeros(40)]]), blocks=10, shared=True)
    assert (flat.score, flat.low, flat.high) == (0, 0, 0)


def test_a_time_is_judged_with_room_for_other_machines(monkeypatch):
    from helpers import claim_statistics

    times = {"dt": np.array([1.0, 3.0, 2.0])}
    monkeypatch.setattr(claim_statistics, "timed_decisions", lambda _: times)
    assert STATISTICS["dt_milliseconds"]("book") == Interval(2.0, 0.25, 12.0)


def test_changed_worlds(monkeypatch):
    """Of three worlds one halves the returns of all, one takes from some only, one from none."""
    fifth = {"shifted-dt": 1.0, "shifted-tt-greedy": 1.0, "shifted-iql": 0.8, "shifted-cql": 0.6}

    def results(run, profile):
        own = np.array([1000.0, 3000.0]) * (1 + run.seed)
        worlds = {"gravity": {"2": 0.5 * own}, "friction": {"0.5": fifth[run.experiment] * own},
                  "start": {"2": own}}  # fmt: skip
        return {"returns": own, "shifts": worlds}, None

    monkeypatch.setattr("helpers.claim_statistics.obtain", results)
    names = ("shift_lead", "shift_loss", "start_loss")
    lead, loss, start = (STATISTICS[name]("book") for name in names)
    assert (loss.score, lead.score, start.score) == pytest.approx((50 / 3, 10.0, 0.0))
    assert lead.low == pytest.approx(10) == lead.high  # shares do not vary


@pytest.mark.parametrize("name", [*ATTENTION, *ERRORS, "tt_milliseconds", "leap_milliseconds"])
def test_statistics_of_models_in_smoke(name):
    """Tiny untrained models and shapes checked; numbers mean nothing."""
    found = STATISTICS[name]("smoke")
    assert found.low <= found.score <= found.high and np.isfinite([found.low, found.high]).all()


# --- tables and pictures -----------------------------------------------------------------------


@pytest.fixture
def judged():
    """A supported, a refuted and an inconclusive claim; the first one is counted."""
    intervals = (
        Interval(2.0, 2.0, 2.0),
        Interval(-1234.5, -2000.0, -3.0),
        Interval(0.1, -1.0, 3.0),
    )
    names = ("is-good", "is-bad", "is-open")
    return [
        Judged(Claim(name, "7.a", topic, f"<{name}>", "06_leap", "t & u", threshold=0.5), interval)
        for name, topic, interval in zip(names, ("x", "y", "x"), intervals, strict=True)
    ]


def test_numbers_have_as_many_digits_as_they_need():
    assert text(Interval(9.75, 7.5, 12.083)) == "9.8 (7.5 to 12.1)"
    assert text(Interval(-0.004, -0.25, 0.3)) == "0.00 (\N{MINUS SIGN}0.25 to 0.30)"
    assert text(Interval(-7.0, -7.0, -7.0)) == "\N{MINUS SIGN}7.00"
    assert text(Interval(3462.4, 2940.4, 3898.0)) == "3,462 (2,940 to 3,898)"
    assert (plain(-0.25), plain(1000.0)) == ("\N{MINUS SIGN}0.25", "1,000")


def test_tables_have_every_claim_and_lead_to_it(judged):
    rows = BeautifulSoup(verdict_table(judged), "html.parser")
    assert [row["id"] for row in rows.select("tr[id]")] == [
        "claim-is-good", "claim-is-open", "claim-is-bad"
    ], "by topic"  # fmt: skip
    first = rows.select_one("#claim-is-good").get_text(" ")
    assert "<is-good>" in first and "t & u" in first and "supported" in first
    assert rows.select_one("#claim-is-bad a")["href"] == "06_leap.html"
    summary = BeautifulSoup(topic_table(judged), "html.parser")
    assert len(summary.select("tbody tr")) == 2
    assert [link["href"] for link in summary.select("a")] == [
        "#claim-is-good", "#claim-is-open", "#claim-is-bad"
    ]  # fmt: skip
    assert counts(judged) == {"supported": 1, "refuted": 1, "inconclusive": 1}


def test_the_table_says_what_came_later_and_what_was_not_tested(judged):
    later = replace(judged[0], claim=replace(judged[0].claim, late=True))
    rows = BeautifulSoup(verdict_table([later, judged[1]]), "html.parser").select("tr[id]")
    assert ["7.a, added later" in row.get_text() for row in rows] == [True, False]
    missing = untested_table([Untested("is-far", "4", "x", "a <b", "more & more")])
    shown = BeautifulSoup(missing, "html.parser").select_one("tbody tr").get_text(" ")
    assert "is far" in shown and "a <b" in shown and "more & more" in shown


# --- advice ------------------------------------------------------------------------------------

ADVICE = "- {when: It rains., advice: Take a coat., rests: {search-over-greedy: supported}}\n"


def test_advice_rests_on_verdicts_that_hold():
    """But for those of times, which depend on the machine."""
    claims = {claim.id: claim for claim in load_claims()}
    advice = load_advice()
    names = {name for one in advice for name in one.rests if not name.startswith("too-slow")}
    verdicts = {name: claims[name].verdict(evaluate(claims[name])) for name in names}
    for one in advice:
        assert not Advice(
            one.when, one.advice, {n: v for n, v in one.rests.items() if n in names}
        ).shaken(verdicts), one.when


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{search-over-greedy: supported}", "{}", "rests is {}; write claims with"),
        ("search-over-greedy", "search-over-all", r"rests on \['search-over-all'\]"),
        ("supported", "certain", r"\['certain'\] are no verdicts"),
        ("rests", "because", r"unknown \['because'\]"),
    ],
)
def test_bad_advice_is_named(written, old, new, message):
    with pytest.raises(BadFile, match=message):
        load_advice(written(ADVICE.replace(old, new)))


def test_advice_says_which_verdict_moved(judged):
    one = Advice("It <rains>.", "Take a coat.", {"is-good": "supported", "is-bad": "supported"})
    assert one.shaken({"is-good": "supported", "is-bad": "refuted"}) == ["is-bad"]
    rows = BeautifulSoup(advice_table([one], judged), "html.parser")
    shown = rows.select_one("tbody tr").get_text(" ")
    assert "It <rains>." in shown and shown.count("(was") == 1 and "(was supported)" in shown
    assert [link["href"] for link in rows.select("a")] == ["#claim-is-good", "#claim-is-bad"]


def test_every_row_of_the_picture_ends_at_its_edge(judged):
    figure, (ax,) = new_axes()
    draw_verdicts(ax, judged)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["is good", "is open", "is bad"]
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    ends = [max(abs(np.array(x))) for x in bars[:3]]
    assert ends == pytest.approx([1, 1, 1]) and bars[0][0] > 0 > bars[2][1]
    assert bars[1][0] < 0 < bars[1][1], "the inconclusive one crosses the line"
    plt.close(figure)


def test_the_comparison_counts_what_the_models_do():
    assert claim_comparison._tokens_of_a_step() == {"dt": "3", "tt": "8", "leap": "1"}
    # TT: map, mission and pose; six steps of an action and a reward, five poses of five numbers.
    calls = {method: plan_cost(method).passes for method in MODELS}
    assert calls == {"dt": 1, "tt": 1 + 6 * 2 + 5 * 6, "leap": 11}
    weights = claim_comparison._weights("book")
    path = cell_runs("babyai-leap babyai-gotolocal-s7n5/expert")[0].result_path()
    assert weights["leap"] == f"{read_json(path)['parameters'] / 1e3:,.0f}"
    firsts = {method: int(value) for method, value in claim_comparison._firsts("book").items()}
    assert max(firsts.values()) <= 7 <= sum(firsts.values())
    maze = claim_comparison._success(
        claim_comparison.level_cell("leap", claim_comparison.MAZE), "book"
    )
    assert maze == text(difference(("babyai-leap-maze babyai-gotoobjmaze-s7/expert",), (), "score"))
    halves = "cross-bc crossroads/halves"  # never turns to where it was not shown a way
    count = sum(len(read_json(run.result_path())["returns"]) for run in cell_runs(halves))
    bound = 100 * (1 - 0.025 ** (1 / count))
    assert claim_comparison._success(halves, "book") == f"0.00 (0.00 to {bound:.2f})"


@pytest.fixture(scope="module")
def compared():
    return claim_comparison.comparison("smoke")


def test_every_cell_is_a_number_with_an_interval_or_counted(compared):
    counted = {"architecture", "tokenization", "planning", "best for"}
    for aspect in compared:
        for method in MODELS:
            value = aspect.values[method]
            assert (" (" in value and " to " in value) == (aspect.name not in counted), aspect.name
            float(value.split(" (")[0].replace(",", "").replace("\N{MINUS SIGN}", "-"))
            assert aspect.tasks[method]
    assert len({aspect.name for aspect in compared}) == 11


def test_every_number_leads_to_a_figure_or_table_of_the_book(compared):
    names = {
        f"{path.stem}#{cell.metadata['mystnb']['figure']['name']}"
        for path in (paths.ROOT / "notebooks").glob("*.md")
        for cell in jupytext.read(path).cells
        if "figure" in cell.metadata.get("mystnb", {})
    }
    for aspect in compared:
        assert set(aspect.targets.values()) <= names, aspect.name
    links = BeautifulSoup(comparison_table(compared), "html.parser").select("a")
    assert len(links) == len(MODELS) * len(compared)
    pages = {link["href"].replace(".html#", "#") for link in links}
    assert pages == {target for aspect in compared for target in aspect.targets.values()}


def test_tasks_stand_once_if_they_are_the_same():
    def row(name, tasks):
        values = dict.fromkeys(MODELS, "4 (3 to 5)")
        return Aspect(name, "<b>", values, tasks, dict.fromkeys(MODELS, "06_leap#tab-x"))

    same, mixed = dict.fromkeys(MODELS, "room"), {"dt": "body", "tt": "body", "leap": "room"}
    html = comparison_table([row("a", same), row("a", same), row("c", mixed)])
    rows = BeautifulSoup(html, "html.parser").select("tbody tr")
    shown = [[cell.get_text("|") for cell in row.select("td")] for row in rows]
    interval = "4|(3\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}5)"
    assert shown[0] == shown[1] == ["<b>|room"] + 3 * [interval]
    assert shown[2] == ["<b>", f"{interval}|body", f"{interval}|body", f"{interval}|room"]
    assert [[head["rowspan"] for head in row.select("th")] for row in rows] == [["2"], [], ["1"]]
