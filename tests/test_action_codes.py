"""Vectors of actions as numbers: codes, plans made of them, and what is done for a plan."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.agents import LeapAgent
from helpers.analysis.disturbances import RecordedActions, RoundedAgent, action_box
from helpers.data.catalogue import load_dataset
from helpers.envs.mazes import centre_of
from helpers.models.action_codes import fit_codes, nearest, variance_kept
from helpers.models.checkpoints import save_model
from helpers.models.leap import (
    Leap,
    LeapConfig,
    leap_loss,
    load_leap,
    make_leap,
    make_plan_windows,
)
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.repairs import starting_at
from helpers.tasks import get_task

BALL = get_task("pointmaze")
DATA = load_dataset("pointmaze/halves", sample=True)
SMALL = {"width": 32, "layers": 1, "heads": 2, "dropout": 0.0, "plan_length": 4}


def test_codes_are_the_middles_of_clusters():
    middles = np.array([[-0.8, 0.5], [0.0, 0.0], [0.7, -0.9]])
    rng = np.random.default_rng(3)
    actions = np.concatenate([m + 0.01 * rng.standard_normal((50, 2)) for m in middles])
    codes = fit_codes(actions, 3)
    assert np.allclose(codes[np.argsort(codes[:, 0])], middles, atol=0.01)
    assert np.array_equal(fit_codes(actions, 3), codes), "the same draws every time"
    by_hand = np.linalg.norm(actions[:, None] - codes, axis=-1).argmin(axis=1)
    assert np.array_equal(nearest(actions, codes), by_hand)


def test_more_codes_keep_more_of_the_variance():
    codes = {count: fit_codes(DATA.actions, count) for count in (1, 8, 64)}
    kept = {count: variance_kept(DATA.actions, table) for count, table in codes.items()}
    assert kept[1] == pytest.approx(0.0, abs=1e-6), "one code is the mean"
    assert 0.85 < kept[8] < 0.95 and kept[64] > 0.98
    left = DATA.actions - codes[8][nearest(DATA.actions, codes[8])]
    by_hand = 1 - left.var(axis=0).sum() / DATA.actions.var(axis=0).sum()
    assert kept[8] == pytest.approx(by_hand, abs=1e-3)


def test_too_few_different_actions():
    with pytest.raises(ValueError, match="action_codes is 3, but the data hold 2 different"):
        fit_codes(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), 3)


def test_plans_of_vectors_are_numbers_and_back(tmp_path):
    model = make_leap(BALL, DATA, action_codes=16, **SMALL)
    assert (model.config.end, model.config.mask) == (16, 17)
    tokens = np.arange(16)
    assert np.array_equal(model.tokenise(model.decode(tokens)), tokens)
    assert model.decode(tokens).shape == (16, 2)
    batch = make_plan_windows(DATA, model).sample(np.random.default_rng(0), 8)
    assert batch["plans"].max() <= model.config.end
    rounded = model.decode(model.tokenise(DATA.actions))
    assert np.abs(rounded - DATA.actions).mean() < 0.2
    save_model(tmp_path / "m.safetensors", model, {})
    loaded, _ = load_leap(tmp_path / "m.safetensors")
    assert torch.equal(loaded.codes, model.codes)


def test_numbered_actions_have_no_codes():
    model = Leap(LeapConfig(observation_size=3, action_size=2, **SMALL))
    assert "codes" not in model.state_dict()
    assert model.tokenise(np.array([1, 0])).tolist() == [1, 0]
    assert model.decode(np.array([1, 0])).tolist() == [1, 0]


def test_bad_options():
    with pytest.raises(ValueError, match="vectors for actions.*set action_codes"):
        make_leap(BALL, DATA, **SMALL)
    level = "babyai-gotolocal-s7n5"
    demonstrations = load_dataset(f"{level}/expert", sample=True)
    with pytest.raises(ValueError, match="numbered actions; remove action_codes, which is 8"):
        make_leap(get_task(level), demonstrations, action_codes=8)
    with pytest.raises(ValueError, match="action_codes is -1"):
        LeapConfig(observation_size=3, action_size=2, action_codes=-1)


def test_energies_of_other_codes_are_not_added():
    models = [make_leap(BALL, DATA, action_codes=8, **SMALL) for _ in range(2)]
    GibbsPlanner(models, GibbsConfig())
    models[1].codes[0, 0] += 0.1
    with pytest.raises(ValueError, match="number different vectors"):
        GibbsPlanner(models, GibbsConfig())


def test_learns_pushes_and_carries_them_out():
    """East up to a place and north behind it: two codes, and which one it is the state tells."""
    torch.manual_seed(0)
    east, north = np.array([[1.0, 0.2], [-0.3, 0.9]], np.float32)
    behind = DATA.observations[:, :1] > -1.0
    data = dataclasses.replace(DATA, actions=np.where(behind, north, east))
    model = make_leap(BALL, data, action_codes=2, **SMALL)
    windows = make_plan_windows(data, model)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(150):
        losses.append(leap_loss(model.train(), windows.sample(np.random.default_rng(step), 32)))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
    agent = LeapAgent(model, GibbsConfig(iterations=4))
    rows = np.flatnonzero(np.abs(DATA.observations[:, 0] + 1.0) > 0.5)[::20]
    agent.reset(len(rows))
    done = agent.act(DATA.observations[rows])  # doubles, as environments give them
    box = action_box(BALL)
    assert done.shape == (len(rows), 2)
    assert (box.low <= done).all() and (done <= box.high).all()
    right = np.isclose(done, data.actions[rows], atol=1e-6).all(axis=1)
    assert right.mean() > 0.95


def test_rounded_actions_are_codes():
    actions = np.array([[[0.4, 0.1]], [[-0.9, -0.9]]], np.float32)
    codes = np.array([[0.5, 0.0], [-1.0, -1.0], [0.0, 1.0]], np.float32)
    agent = RoundedAgent(RecordedActions(actions), codes)
    agent.reset(2)
    assert agent.act(np.zeros((2, 6))).tolist() == codes[:2].tolist()


def test_a_maze_can_be_entered_by_another_arm():
    for name in ("pointmaze", "crossroads"):
        task = get_task(name)
        usual, west, south = (
            task.pack(some.make().reset(seed=1)[0])
            for some in (task, starting_at(task, "west"), starting_at(task, "south"))
        )
        assert np.array_equal(usual, west) and not np.array_equal(usual, south)
        if name == "pointmaze":
            assert np.hypot(*(south[:2] - centre_of("south"))) < 0.5
