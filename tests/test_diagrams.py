"""Diagrams fit their canvas and come out the same twice."""

import matplotlib.colors as mcolors
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from drawings import check_drawing
from matplotlib.patches import Rectangle

from helpers import diagrams, plotting, trajectory_diagrams
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer
from helpers.planning.beam import BeamConfig, BeamPlanner

SMALL = TrajectoryConfig(
    observation_size=3, action_size=2, context_length=4, bins=7, width=16, layers=1, heads=2
)


def draw_trajectory_transformer():
    return trajectory_diagrams.draw_trajectory_transformer(TrajectoryConfig())


def draw_attention_pattern():
    allowed = TrajectoryTransformer(SMALL).allowed(14)[0, 0].numpy()
    return trajectory_diagrams.draw_attention_pattern(allowed, 3, 2)


pytestmark = pytest.mark.usefixtures("style")

DRAWINGS = (
    diagrams.draw_value_recursion,
    diagrams.draw_token_stream,
    diagrams.draw_decision_transformer,
    draw_trajectory_transformer,
    draw_attention_pattern,
)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_words_stand_apart_on_the_canvas(draw):
    check_drawing(draw)


@pytest.mark.parametrize(("places", "message"), [((0.5, 0.5), "covers"), ((0.5, 2.0), "leaves")])
def test_a_bad_drawing_is_seen(places, message):
    def draw():
        figure, ax = plt.subplots(layout="none")
        for place in places:
            ax.text(place, place, "word")
        return figure

    with pytest.raises(AssertionError, match=message):
        check_drawing(draw)


def test_decision_transformer_states_its_depth():
    texts = [text.get_text() for text in diagrams.draw_decision_transformer(4).axes[0].texts]
    assert any("× 4" in text for text in texts)


def test_trajectory_transformer_states_its_sizes():
    config = TrajectoryConfig(observation_size=11, action_size=3, layers=2, bins=50)
    figure = trajectory_diagrams.draw_trajectory_transformer(config)
    texts = "\n".join(text.get_text() for text in figure.axes[0].texts)
    for part in ("× 2", "s^{11}", "a^{3}", "0 to 49", "50 bins and the end", "16 tokens"):
        assert part in texts, part


def test_filled_cells_are_those_that_may_be_looked_at():
    """Cells are drawn column by column; the frames of the value columns come in between."""
    allowed = TrajectoryTransformer(SMALL).allowed(14)[0, 0].numpy()
    ax = trajectory_diagrams.draw_attention_pattern(allowed, 3, 2).axes[0]
    cells = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_fill()]
    background = mcolors.to_rgba(plotting.BACKGROUND)
    filled = np.array([cell.get_facecolor() != background for cell in cells]).reshape(14, 14)
    assert np.array_equal(filled.T, allowed)
    frames = [p for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert len(frames) == 2


# --- the picture of a search -------------------------------------------------------------------

NONE = -np.inf
HISTORY = [
    {"scores": np.array([[3.0, 1.0, NONE, 2.0]]), "kept": np.array([[0, 3]])},
    {"scores": np.array([[1.0, 2.0, 5.0, 4.0]]), "kept": np.array([[2, 3]])},
    {"scores": np.array([[6.0, 7.0, 6.5, NONE]]), "kept": np.array([[1, 2]])},
]
"""Two beams with two expansions each."""


def test_a_search_is_traced_back_to_its_first_candidate():
    tree = trajectory_diagrams.search_tree(HISTORY, 2)
    assert [parents.tolist() for parents in tree.parents] == [
        [-1, -1, -1, -1], [0, 0, 3, 3], [2, 2, 3, 3]
    ]  # fmt: skip
    assert tree.best == [3, 2, 1]


def test_the_traced_plan_is_the_planners():
    torch.manual_seed(0)
    model = TrajectoryTransformer(SMALL).eval()
    for parameter in model.parameters():
        parameter.data.mul_(8)
    model.edges.copy_(torch.linspace(-1, 1, 8, dtype=torch.float64).expand(7, -1))
    search = BeamConfig(beam_width=3, expansions=2, horizon=3, context=1)
    past = torch.randint(7, (2, 10), generator=torch.Generator().manual_seed(1))
    planner = BeamPlanner(model, search)
    plans = planner.plan(past, torch.Generator().manual_seed(0), record=True)
    for environment in range(2):
        tree = trajectory_diagrams.search_tree(plans.history, 2, environment)
        assert tree.scores[-1][tree.best[-1]] == plans.scores[environment]
        survives = [c in kept for c, kept in zip(tree.best, tree.kept, strict=True)]
        assert all(survives)


def test_the_picture_of_a_search_shows_every_candidate_but_copies():
    figure, (ax,) = plotting.new_axes()
    trajectory_diagrams.draw_search(ax, trajectory_diagrams.search_tree(HISTORY, 2))
    assert len(ax.lines) == 3 + 4 + 3  # an edge each
    marks = sum(len(collection.get_offsets()) for collection in ax.collections)
    assert marks == 10 + 3 + 1  # candidates, the best one of each step again, the beginning
    assert [text.get_text() for text in ax.texts] == ["2 of 3", "2 of 4", "2 of 3"]
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    legend = ax.get_legend().get_window_extent()
    assert not any(legend.overlaps(box) for box in boxes)
