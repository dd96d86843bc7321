"""What chapters 10 and 11 read and draw of the two mazes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from helpers.agents import ElasticAgent
from helpers.data.catalogue import load_dataset
from helpers.envs.crossroads import cell_of
from helpers.experiments import load_experiments
from helpers.models.elastic import make_elastic
from helpers.models.value_based import make_iql
from helpers.repairs import (
    MAZES,
    VARIANTS,
    at_the_crossing,
    by_cell,
    chosen_histories,
    crossing_states,
    draw_cells,
    draw_variants,
    gains,
    positions,
    unpaid,
    untrained_agent,
)
from helpers.tasks import get_task

CROSS, BALL = MAZES


def test_every_variant_is_an_experiment_of_its_maze():
    experiments, of = load_experiments(), {variant.label: variant for variant in VARIANTS}
    for variant in VARIANTS:
        for dataset, name in zip(MAZES, variant.experiments, strict=False):
            assert {run.dataset for run in experiments[name]} == {dataset}, name
            assert 0 in {run.seed for run in experiments[name]}
        assert not variant.repairs or not of[variant.repairs].repairs


def test_variants_of_one_method_differ_in_what_they_repair_only():
    """A repair is compared with the same shape, training and data."""
    experiments = load_experiments()
    for dt, repaired in (("cross-dt", "cross-qdt"), ("stitch-dt", "stitch-qdt")):
        a, b = experiments[dt][0], experiments[repaired][0]
        assert (a.model, a.train, a.method) == (b.model, b.train, b.method)
        assert b.critic and not a.critic
    for dt, elastic in (("cross-dt", "cross-edt"), ("stitch-dt", "stitch-edt")):
        a, b = experiments[dt][0], experiments[elastic][0]
        assert (a.model, a.train) == (b.model, b.train) and b.method == "edt"


def test_gains_are_differences_to_what_is_repaired():
    rng = np.random.default_rng(0)
    found = {
        (variant.label, dataset): 100.0 * (rng.random((2, 50)) < 0.5)
        for variant in VARIANTS
        for dataset in MAZES
    }
    found["QDT", CROSS] = np.full((2, 50), 100.0)
    found["TT+Q", CROSS] = found["TT", CROSS]
    added = gains(found)
    assert ("DT", CROSS) not in added
    expected = 100.0 - found["DT", CROSS].mean()
    assert added["QDT", CROSS].score == pytest.approx(expected)
    assert added["QDT", CROSS].low < expected < added["QDT", CROSS].high
    same = added["TT+Q", CROSS]  # plays the same models: nothing is left to vary
    assert (same.low, same.score, same.high) == (0, 0, 0)


def test_means_by_cell():
    places = np.array([[1, 4], [1, 4], [2, 4]])
    assert by_cell(places, np.array([1.0, 3.0, 5.0])) == {(1, 4): 2.0, (2, 4): 5.0}


def test_unpaid_trips_come_from_the_west():
    task, data = get_task("crossroads"), load_dataset("crossroads/halves", sample=True)
    trips = unpaid(data)
    assert 0 < len(trips.lengths) < len(data.lengths)
    starts = positions(task, trips.observations[trips.starts])
    assert {tuple(place) for place in starts} == {cell_of("west")}


def test_chosen_histories_are_those_of_the_agent():
    task, data = get_task("crossroads"), load_dataset("crossroads/halves", sample=True)
    torch.manual_seed(0)
    model = make_elastic(task, data, width=16, layers=1, heads=1, context_length=4).eval()
    cells = chosen_histories(model, task, [1, 2])
    assert cell_of("west") in cells and all(1 <= mean <= 4 for mean in cells.values())


@pytest.mark.parametrize("name", ["babyai-bc", "babyai-tt", "distilled"])
def test_untrained_agents_act(name, monkeypatch, tmp_path):
    from helpers import paths

    monkeypatch.setattr(paths, "WORK", tmp_path)
    agent = untrained_agent(load_experiments()[name][0])
    agent.reset(1)
    state = load_dataset("babyai-gotolocal-s7n5/expert", sample=True).observations[:1]
    assert agent.act(state).shape == (1,)
    assert not isinstance(agent, ElasticAgent)


def test_the_crossing_is_met_with_the_speed_of_the_west():
    states = crossing_states(2)
    assert len(states) > 5 and np.hypot(states[:, 0], states[:, 1]).max() < 0.4
    assert states[:, 2].mean() > 0.5, "still moving east"


def test_values_and_pushes_at_the_crossing():
    task, data = get_task("pointmaze"), load_dataset("pointmaze/halves", sample=True)
    learner = make_iql(task, data, width=16, layers=1)
    states = data.observations[:7]
    found = at_the_crossing(learner, states)
    rows = torch.from_numpy(states).float()
    east = learner.critics(rows, torch.tensor([[1.0, 0.0]]).expand(7, -1)).amin(dim=0)
    assert found.values["east"] == pytest.approx(east.mean().item(), abs=1e-5)
    assert np.allclose(found.push, learner.act(rows).mean(dim=0).detach(), atol=1e-5)


def test_pictures_show_what_they_are_given():
    _, ax = plt.subplots()
    draw_cells(ax, {cell_of("west"): 0.25, cell_of("centre"): 1.0})
    texts = [text.get_text() for text in ax.texts]
    assert {"0.25", "1.00", "start", "paid", "not paid"} <= set(texts)
    assert len(ax.patches) == 13
    _, ax = plt.subplots()
    draw_variants(ax, {(label, CROSS): np.full((2, 5), 100.0) for label in ("DT", "LEAP")}, CROSS,
                  ["DT", "LEAP"])  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["DT", "LEAP"]
    assert ax.lines[1].get_xdata()[0] == 100.0
    plt.close("all")
