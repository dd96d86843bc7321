"""The benchmark's cells, comparisons, tables and pictures, on made-up results."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers import benchmark, benchmark_tables
from helpers.analysis.statistics import Interval
from helpers.benchmark import (
    KINDS,
    SEEDS,
    Cell,
    Entry,
    choice_gain,
    column,
    data_score,
    leaders,
    load_cells,
    model_scores,
    ranking,
    side,
)
from helpers.benchmark_pictures import draw_gains, draw_methods, draw_profiles
from helpers.benchmark_tables import (
    MISSING,
    beside_published,
    cost_table,
    listed,
    post_table,
    score_table,
    summary_table,
    text,
)
from helpers.data.catalogue import get_spec
from helpers.experiments import Run, load_experiments
from helpers.files import BadFile
from helpers.plotting import METHOD_STYLES
from helpers.tasks import get_task


def result(seed, returns, task="halfcheetah", checks=(), minutes=3.0):
    return {
        "run": {"seed": seed, "task": task, "train": {"steps": 1000, "batch_size": 32}},
        "returns": list(returns),
        "checks": [{"step": i, "returns": list(row)} for i, row in enumerate(checks)],
        "train_seconds": 60.0 * minutes,
    }


def cell(label, mean, dataset="halfcheetah/medium", seeds=SEEDS, **options):
    """Ten episodes a seed around a mean score."""
    task = get_task(get_spec(dataset).task)
    low, high = task.reference_scores
    rng = np.random.default_rng(len(label))
    rows = tuple(
        result(s, low + (high - low) * (mean + rng.normal(size=10)) / 100, task.name, **options)
        for s in seeds
    )
    return Cell(Entry(label, "dt", ("x",)), dataset, task, rows)


@pytest.fixture
def cells():
    """DT on all three dense sets, with a third model on one; BC on all; TT on medium only."""
    datasets = list(KINDS["halfcheetah"].datasets)
    made = {("DT", d): cell("DT", 50.0 + i, d) for i, d in enumerate(datasets)}
    made["DT", datasets[0]] = cell("DT", 50.0, datasets[0], seeds=(0, 1, 2))
    made |= {("BC", d): cell("BC", 30.0 + i, d) for i, d in enumerate(datasets)}
    return made | {("TT", datasets[0]): cell("TT", 50.0, datasets[0])}


# --- what is compared --------------------------------------------------------------------------


def test_every_cell_is_declared_with_the_seeds_of_the_benchmark():
    experiments = load_experiments()
    for kind in KINDS.values():
        for entry in kind.entries:
            assert entry.style in METHOD_STYLES
            runs = [run for name in entry.experiments for run in experiments[name]]
            found = {(run.dataset, run.seed) for run in runs if run.dataset in kind.datasets}
            for dataset in {dataset for dataset, _ in found}:
                assert {(dataset, seed) for seed in SEEDS} <= found
            assert found, entry
        # Sets of a kind share a score.
        tasks = [get_task(get_spec(dataset).task) for dataset in kind.datasets]
        assert len({bool(task.layout) for task in tasks}) == 1
        assert len({task.reference_scores for task in tasks}) == 1


def test_a_success_counts_whatever_it_was_paid():
    returns = np.array([[0.0, 0.3, 0.98]])
    assert get_task("babyai-pickuploc").score(returns).tolist() == [[0.0, 100.0, 100.0]]
    assert get_task("key-to-door").score(returns[:, :1]).tolist() == [[0.0]]
    assert get_task("pointmaze").score(np.array([1.0])) == 100.0
    low, high = get_task("halfcheetah").reference_scores
    assert np.allclose(get_task("halfcheetah").score(np.array([low, high])), [0, 100])


def test_the_datas_score_is_the_registrys_mean():
    assert data_score("key-to-door/random-10000") == pytest.approx(2.88)
    assert data_score("pointmaze/halves") == 50.0


@pytest.fixture
def declared(monkeypatch):
    """Runs of two experiments; (seeds declared, names of those that are done) -> what is loaded."""

    def load(seeds, done, profile="book"):
        runs = {
            name: [Run(name, "halfcheetah", "halfcheetah/medium", method, seed) for seed in seeds]
            for name, method in (("dt", "dt"), ("tt", "tt"))
        }
        asked = []

        def obtain(run, profile):
            asked.append((run.name, profile))
            if profile == "book" and run.seed not in done:
                raise BadFile(f"{run.name}: missing")
            return result(run.seed, [1.0, 2.0]), None

        monkeypatch.setattr(benchmark, "load_experiments", lambda: runs)
        monkeypatch.setattr(benchmark, "obtain", obtain)
        state = property(lambda run: lambda: "done" if run.seed in done else "missing")
        monkeypatch.setattr(Run, "state", state)
        entries = (Entry("DT", "dt", ("dt",)), Entry("TT", "tt", ("tt",)))
        datasets = dict.fromkeys(("halfcheetah/medium", "halfcheetah/medium-replay"), "x")
        loaded = load_cells(benchmark.Kind("x", "score", datasets, entries), profile)
        return loaded, asked

    return load


def seeds_of(loaded):
    return {key: [r["run"]["seed"] for r in cell.results] for key, cell in loaded.items()}


def test_further_seeds_are_used_where_they_are_done(declared):
    both = {("DT", "halfcheetah/medium"), ("TT", "halfcheetah/medium")}
    loaded, asked = declared((0, 1, 2, 3), done=(0, 1, 3))
    assert seeds_of(loaded) == dict.fromkeys(both, [0, 1, 3])
    assert ("dt/halfcheetah/medium-s2", "book") not in asked
    assert loaded["DT", "halfcheetah/medium"].models.shape == (2,)


def test_a_missing_seed_of_the_benchmark_is_not_passed_over(declared):
    with pytest.raises(BadFile, match="medium-s1: missing"):
        declared((0, 1), done=(0,))
    with pytest.raises(BadFile, match=r"\['dt'\] lack seeds \[1\] of halfcheetah/medium; every"):
        declared((0, 2), done=(0, 2))
    # full makes it.
    loaded, _ = declared((0, 1, 2), done=(0,), profile="full")
    assert seeds_of(loaded)["DT", "halfcheetah/medium"] == [0, 1]


def test_smoke_has_one_model_a_method_and_no_long_searches(declared):
    loaded, asked = declared((0, 1), done=(), profile="smoke")
    assert asked == [("dt/halfcheetah/medium-s0", "smoke")]
    assert seeds_of(loaded) == {("DT", "halfcheetah/medium"): [0]}


# --- comparisons -------------------------------------------------------------------------------


def test_sides_leaders_and_ranks(cells):
    assert [side(Interval(1.0, *e), 1.0) for e in ((2.0, 3.0), (-1.0, 0.0), (0.0, 2.0))] == [
        1,
        -1,
        0,
    ]
    found = column(cells, "halfcheetah/medium")
    assert set(found) == {"DT", "BC", "TT"}
    assert set(leaders(found)) == {"DT", "TT"}
    assert ranking(found)[-1] == "BC"


def test_summaries_need_all_sets_and_weigh_them_alike(cells):
    kind = KINDS["halfcheetah"]
    assert model_scores(kind, cells, "TT") == {}
    scores = model_scores(kind, cells, "DT")
    assert [len(runs) for runs in scores.values()] == [2, 2, 2]
    assert np.allclose([runs.mean() for runs in scores.values()], [50, 51, 52], atol=1.5)


def test_the_gain_of_a_choice_is_luck_where_nothing_differs():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 3, 20))
    reported, kept = choice_gain(noise, splits=20)
    # The best of three means exceeds the last by 0.846 of their standard deviation.
    assert reported == pytest.approx(0.846 / np.sqrt(20), abs=0.03)
    assert abs(kept) < 0.02
    better = noise + np.array([5.0, 0.0, 0.0])[:, None]
    assert np.allclose(choice_gain(better, splits=20), 5.0, atol=0.05)
    assert choice_gain(noise, splits=5) == choice_gain(noise, splits=5)


def test_one_episode_cannot_be_split():
    reported, kept = choice_gain(np.array([[[3.0], [1.0]]]))
    assert reported == 2.0 and np.isnan(kept)


def test_checks_are_scores_and_may_be_absent():
    low, high = get_task("halfcheetah").reference_scores
    checked = cell("DT", 50.0, checks=[[low, high], [high, high]])
    assert checked.checks.shape == (2, 2, 2) and checked.best == pytest.approx(100.0)
    for checks in ((), [[]]):
        assert cell("DT", 50.0, checks=checks).best is None


# --- tables ------------------------------------------------------------------------------------


def test_text_of_intervals_and_lists():
    assert text(Interval(-1.25, -2.0, -0.04)) == "−1.2 (−2.0 to 0.0)"
    assert text(Interval(0.5, 0.25, 1.0), digits=2) == "0.50 (0.25 to 1.00)"
    assert listed(["A", "B", "C"]) == "A, B and C"
    assert listed(["A"]) == "A" and listed([], "nobody") == "nobody"


def test_the_table_marks_leaders_and_leaves_gaps(cells):
    table = score_table(KINDS["halfcheetah"], cells)
    assert table.loc["CQL"].tolist() == [MISSING] * 3
    assert table.loc["TT", "medium-replay"] == MISSING
    assert table.loc["DT", "medium"].startswith("<b>") and "<b>" not in table.loc["BC", "medium"]
    cells["DT", "halfcheetah/medium"] = cell("DT", 50.0, checks=[[0.0] * 3])
    shown = score_table(KINDS["halfcheetah"], cells).loc["DT", "medium"]
    assert shown.endswith("<small>best check 2.3</small>")


def test_the_summary_compares_with_one_method(cells):
    table = summary_table(KINDS["halfcheetah"], cells, "DT")
    assert list(table.index) == ["BC", "DT"]
    assert table.iloc[0, 1] == "1.00 (1.00 to 1.00)" and table.loc["DT"].iloc[1] == MISSING


def test_costs_are_of_trainings(cells):
    kinds = dict.fromkeys(KINDS, {}) | {"halfcheetah": cells}
    played = cell("TT, no search", 50.0, minutes=0.0)
    cells["TT, no search", "halfcheetah/medium"] = played
    cells["BC", "halfcheetah/medium"] = cell("BC", 30.0, minutes=12.0)
    table = cost_table(kinds)
    assert list(table.index) == ["BC", "DT", "TT"]
    assert table.loc["BC", "HalfCheetah"] == "3.0 to 12<br><small>1,000 × 32</small>"


def test_published_scores_stand_beside_ours(cells):
    table = beside_published(cells).set_index(["set", "method"])
    ours, paper, corl = table.loc["medium", "DT"]
    assert ours.startswith(("49.", "50.")) and (paper, corl) == ("42.6 ± 0.1", "42.2 ± 0.3")
    assert table.loc["medium-expert", "10% BC"].tolist() == [MISSING, MISSING, "90.1 ± 2.5"]
    assert table.loc["medium", "TT"].tolist()[1:] == ["46.9 ± 0.4", MISSING]
    # Every paper's method is known in its file on the medium set.
    assert MISSING not in table.loc["medium", "its paper (v2 sets)"].tolist()


def test_the_posts_cells_are_in_the_order_of_its_columns():
    table = post_table()
    assert list(dict.fromkeys(table["benchmark"])) == ["Locomotion", "Atari", "AntMaze"]
    assert len(table) == 18
    row = table[(table["benchmark"] == "AntMaze") & (table["method"] == "TT")].iloc[0]
    assert (row["printed"], row["sources"], row["verdict"]) == (MISSING, "84.0", "omitted")


def test_all_trained_methods_have_a_row_in_tables_over_kinds():
    labels = {entry.label for kind in KINDS.values() for entry in kind.entries}
    assert labels - {"TT, no search"} == set(benchmark_tables.ROWS)


# --- pictures ----------------------------------------------------------------------------------


def test_a_row_a_method_and_a_word_where_there_is_none(cells):
    figure, ax = plt.subplots()
    found = column(cells, "halfcheetah/medium-replay")
    draw_methods(ax, found, ["BC", "TT", "DT"], episodes=True, hollow={"DT": 7.0, "X": 9.0})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["BC", "TT", "DT"]
    assert ax.yaxis_inverted(), "the first row is on top"
    assert [(t.get_text(), t.get_position()[1]) for t in ax.texts] == [("not run", 1)]
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [7.0]
    intervals = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 2.4]
    assert np.allclose(intervals[1], [found["DT"].interval.low, found["DT"].interval.high])
    ticks = [line for line in ax.lines if len(line.get_xdata()) == 10]
    assert len(ticks) == 4
    plt.close(figure)


def test_profiles_are_drawn_of_methods_with_all_sets(cells):
    figure, ax = plt.subplots()
    draw_profiles(ax, KINDS["halfcheetah"], cells, np.array([0.0, 40.0, 90.0]))
    shares = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert shares == {"BC": [1.0, 0.0, 0.0], "DT": [1.0, 1.0, 0.0]}
    plt.close(figure)


def test_gains_show_means_and_single_sets():
    figure, ax = plt.subplots()
    draw_gains(ax, ["BC"], ["bc"], np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
    drawn = [line.get_xdata().tolist() for line in ax.lines if line.get_linestyle() != "-"]
    assert [[1.0, 3.0], [0.0, 1.0]] == [xs for xs in drawn if len(xs) == 2]
    assert any(line.get_xdata().tolist() == [0.5] for line in ax.lines)
    plt.close(figure)
