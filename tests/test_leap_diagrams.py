"""Pictures of LEAP fit their canvas, come out the same twice and show what they are given."""

import numpy as np
import pytest
from drawings import check_drawing
from matplotlib.patches import Rectangle

from helpers import leap_diagrams, plotting
from helpers.analysis.plans import walk
from helpers.analysis.statistics import Interval
from helpers.data.catalogue import load_dataset
from helpers.models.leap import LeapConfig
from helpers.tasks import get_task

TASK = get_task("babyai-gotolocal-s7n5")
DATA = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
END, MASK = TASK.action_size, TASK.action_size + 1
CONFIG = LeapConfig(TASK.observation_size, TASK.action_size, grid_size=7)
PLAN = ["left", "forward", "forward", "END", "END"]
COSTS = np.log([0.9, 0.5, 0.25, 0.8, 1.0])


def draw_leap():
    return leap_diagrams.draw_leap(CONFIG)


def draw_short_leap():
    return leap_diagrams.draw_leap(LeapConfig(3, 2, plan_length=3))


def draw_energy():
    return leap_diagrams.draw_energy(PLAN, COSTS)


def draw_energy_of_a_whole_plan():
    return leap_diagrams.draw_energy(["toggle"] * 5, np.log(np.full(5, 1e-4)))


pytestmark = pytest.mark.usefixtures("style")

DRAWINGS = (draw_leap, draw_short_leap, draw_energy, draw_energy_of_a_whole_plan)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_words_stand_apart_on_the_canvas(draw):
    check_drawing(draw)


def test_the_architecture_states_its_sizes():
    config = LeapConfig(10, 4, plan_length=9, width=64, layers=2, heads=8)
    found = "\n".join(texts(leap_diagrams.draw_leap(config)))
    for part in ("× 2", "width 64, 8 heads", "4 actions and END", "10 embeddings of position"):
        assert part in found, part


def test_the_energy_adds_up_to_the_first_end():
    found = texts(draw_energy())
    assert found[-1] == f"{-COSTS[:4].sum():.3f}"
    assert found.count("MASK") == 4, "a row for each word that counts"
    assert found.count("–") == 4, "padding in each of them"
    bars = [p for p in draw_energy().axes[0].patches if isinstance(p, Rectangle)]
    widths = np.array([bar.get_width() for bar in bars])
    assert np.allclose(widths / widths.max(), COSTS[:4] / COSTS[:4].min())


def test_changes_are_numbers_and_lower_ones_are_framed():
    figure, (ax,) = plotting.new_axes()
    table = np.array([[np.nan, 1.25, np.nan], [2.0, np.nan, -0.5]])
    leap_diagrams.draw_changes(ax, ["left", "right"], table, ["left", "right", "END"])
    assert [t.get_text() for t in ax.texts] == ["plan", "+1.2", "", "+2.0", "plan", "−0.5"]
    framed = [patch.get_linewidth() > 1 for patch in ax.patches]
    assert framed == [False, False, False, False, False, True]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0: left", "1: right"]


# --- plans being refined -----------------------------------------------------------------------


def refinements():
    start, steps = DATA.starts[0], int(min(DATA.lengths[0], 5))
    good = [*DATA.actions[start : start + steps].tolist(), *[END] * (5 - steps)]
    history = np.array([[0, 0, 0, 0, 0], good])
    return [
        leap_diagrams.Refinement.of(name, history, np.array([9.0, 2.5]), MASK)
        for name in ("argmax", "Gibbs")
    ]


def test_a_refinement_begins_with_masks():
    one = refinements()[0]
    assert leap_diagrams.words(one.plans[0]) == ["MASK"] * 5
    assert np.isnan(one.energies[0]) and one.energies[1:].tolist() == [9.0, 2.5]
    assert len(one.plans) == 3


def test_there_is_a_picture_for_every_iteration_and_they_differ():
    pictures = leap_diagrams.refinement_pictures(TASK, int(DATA.seeds[0]), refinements())
    assert pictures.shape[0] == 3 and pictures.dtype == np.uint8
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()
    half = pictures.shape[2] // 2
    level = slice(0, int(0.7 * pictures.shape[1]))
    same = (pictures[:, level, 40 : half - 40] == pictures[:, level, half + 40 : -40]).mean()
    assert same > 0.95, "the same plans on the same level, side by side"


def test_the_way_is_where_the_agent_went():
    _, (ax,) = plotting.new_axes()
    start, length = DATA.starts[0], int(DATA.lengths[0])
    walked = walk(TASK, int(DATA.seeds[0]), DATA.actions[start : start + length])
    leap_diagrams.draw_way(ax, walked, tile=10.0)
    (*ways, tip) = ax.lines
    for way in ways:
        assert np.array_equal(way.get_xdata(), 10.0 * walked.poses[:, 0] + 5.0)
        assert np.array_equal(way.get_ydata(), 10.0 * walked.poses[:, 1] + 5.0)
    assert abs(tip.get_xdata()[0] - ways[0].get_xdata()[-1]) <= 5.0


# --- results -----------------------------------------------------------------------------------


def test_gains_show_both_ends_and_what_was_published():
    _, (ax,) = plotting.new_axes()
    pair = (Interval(40.0, 35.0, 45.0), Interval(80.0, 75.0, 85.0))
    pairs = {"one": {"bc": pair, "leap": pair}, "two": {"bc": pair, "leap": pair}}
    leap_diagrams.draw_gains(ax, pairs, {("LEAP", "one"): 62.5})
    strokes = [line for line in ax.lines if line.get_marker() == "|"]
    assert [line.get_xdata()[0] for line in strokes] == [62.5]
    marks = [line for line in ax.lines if line.get_marker() in ("X", "D")]
    assert sorted(line.get_xdata()[0] for line in marks) == [40.0] * 4 + [80.0] * 4
    hollow = [line for line in marks if line.get_markerfacecolor() == plotting.BACKGROUND]
    assert [line.get_xdata()[0] for line in hollow] == [40.0] * 4
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two"]
