"""Pictures of grids and mazes show what the data say."""

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from minigrid.core.grid import Grid

from helpers import grid_pictures
from helpers.data.catalogue import load_dataset, registry
from helpers.envs.grids import unpack
from helpers.envs.mazes import CENTRE, centre_of, lake_map
from helpers.tasks import get_task

TILE = 8
LEVEL = get_task("babyai-gotolocal")
DEMONSTRATIONS = load_dataset("babyai-gotolocal/expert", sample=True)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_a_replay_draws_the_grids_that_were_recorded():
    pictures = grid_pictures.replay_pictures(LEVEL, DEMONSTRATIONS, 1, TILE)
    length = DEMONSTRATIONS.lengths[1]
    assert pictures.shape == (length + 1, 8 * TILE, 8 * TILE, 3) and pictures.dtype == np.uint8
    first = DEMONSTRATIONS.starts[1]
    parts = unpack(DEMONSTRATIONS.observations[first : first + length], LEVEL.layout)
    for picture, cells, pose in zip(pictures[:-1], parts["grid"], parts["pose"], strict=True):
        x, y, direction = (int(v) for v in pose[:3])
        cells = cells.copy()
        cells[x, y] = 1, 0, 0
        seen = np.ones((8, 8), bool)  # light everywhere, so compare where the replay is light, too
        drawn = Grid.decode(cells)[0].render(TILE, (x, y), direction, highlight_mask=seen)
        dark = Grid.decode(cells)[0].render(TILE, (x, y), direction)
        assert ((picture == drawn) | (picture == dark)).all()


def test_a_replay_that_earns_something_else_is_refused():
    lied = replace(DEMONSTRATIONS, rewards=DEMONSTRATIONS.rewards * 0.5)
    with pytest.raises(ValueError, match="install the versions of requirements.lock"):
        grid_pictures.replay_pictures(LEVEL, lied, 1, TILE)


def test_the_two_views_are_of_the_step_asked_for():
    whole, view = grid_pictures.two_views(LEVEL, DEMONSTRATIONS, 1, 3, TILE)
    pictures = grid_pictures.replay_pictures(LEVEL, DEMONSTRATIONS, 1, TILE)
    assert np.array_equal(whole, pictures[3])
    assert view.shape == (7 * TILE, 7 * TILE, 3)
    assert view[-TILE:, 3 * TILE : 4 * TILE, 0].max() == 255, "the agent, red, at the bottom"
    with pytest.raises(ValueError, match="has 8 steps; there is no 9"):
        grid_pictures.two_views(LEVEL, DEMONSTRATIONS, 1, 9, TILE)


def yellow(picture):
    return ((picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 60)).any()


def test_the_key_is_in_the_first_room_and_the_door_in_the_third():
    rooms = grid_pictures.three_rooms(get_task("key-to-door"), seed=3, tile=16)
    assert [yellow(room) for room in rooms] == [True, False, True]
    inner = [room[16:-16, 16:-16] for room in rooms]
    assert [yellow(room) for room in inner] == [True, False, False], "the door is in the wall"


def test_visits_keep_their_place_and_their_scale(ax):
    visits = np.array([[0, 4, 0], [2, 0, 0]])  # (x, y)
    grid_pictures.draw_visits(ax, visits, "room")
    shown = ax.images[0].get_array()
    assert shown.shape == (3, 2), "rows are y"
    assert shown[1, 0] == 1.0 and shown[0, 1] == 0.5
    assert shown.mask.sum() == 4
    assert ax.images[0].get_clim() == (0, 1) and ax.get_xlabel() == "room"


def test_walls_were_never_visited():
    for level in ("gotolocal", "pickup", "gotoobjmaze-s7"):
        visits = np.array(registry()[f"babyai-{level}/expert"]["visits"])
        assert not (visits[0].any() or visits[-1].any() or visits[:, 0].any())
        assert visits.sum() == registry()[f"babyai-{level}/expert"]["steps"]


@pytest.mark.parametrize("name", ["pointmaze", "gridmaze"])
def test_ways_run_from_arm_to_arm_inside_the_corridors(name):
    for half in ("west-north", "south-east", "west-east"):
        data = load_dataset(f"{name}/{half}", sample=True)
        paths = grid_pictures.ways(get_task(name), data)
        assert [len(path) - 1 for path in paths] == data.lengths.tolist()
        start, end = (centre_of(end) for end in half.split("-"))
        for path in paths:
            assert np.abs(path[0] - start).max() <= 0.5
            nearest = np.abs(path - end).max(axis=1).min()
            assert nearest <= 0.75
            assert (np.abs(path).min(axis=1) <= 0.5).all()


def test_the_drawn_cross_is_the_maze(ax):
    grid_pictures.draw_cross(ax)
    corners = [patch.get_xy() for patch in ax.patches]
    for row, line in enumerate(lake_map()):
        for column, letter in enumerate(line):
            x, y = column - CENTRE, CENTRE - row
            inside = any(
                xy[:, 0].min() < x < xy[:, 0].max() and xy[:, 1].min() < y < xy[:, 1].max()
                for xy in corners
            )
            assert inside == (letter != "H")
    named = {text.get_text().split("\n")[0]: text.get_position() for text in ax.texts}
    assert set(named) == {"west", "east", "north", "south"}
    assert all(np.abs(centre_of(end) - place).max() <= 0.75 for end, place in named.items())


def test_ways_are_drawn_apart_and_their_starts_marked(ax):
    paths = [np.zeros((3, 2)), np.zeros((2, 2)), np.zeros((4, 2))]
    grid_pictures.draw_ways(ax, paths, "#0072b2", spread=0.2)
    lines, dots = ax.lines[::2], ax.lines[1::2]
    assert [len(line.get_xdata()) for line in lines] == [3, 2, 4]
    assert np.allclose([line.get_ydata()[0] for line in lines], [-0.2, 0.0, 0.2])
    assert all(len(dot.get_xdata()) == 1 for dot in dots)


def test_a_picture_is_shown_with_its_name(ax):
    grid_pictures.draw_picture(ax, np.zeros((4, 6, 3), np.uint8), "view")
    assert ax.get_xlabel() == "view" and not ax.get_xticks().size
    assert ax.images[0].get_array().shape == (4, 6, 3)
