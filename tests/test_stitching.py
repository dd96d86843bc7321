"""The crossroads, returns-to-go that a critic raised, and critics that rank a beam."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.data.catalogue import get_spec, load_dataset
from helpers.data.collect import EpisodeMaker
from helpers.data.episodes import Dataset, join
from helpers.envs.crossroads import FORWARD, Crossroads, cell_of, fewest_steps, is_open
from helpers.envs.grids import grid_layout, pack_tensors, unpack
from helpers.models.grid_trajectory import relative_poses
from helpers.models.value_based import make_cql, make_iql
from helpers.stitching import GridCritic, VectorCritic, load_critic, relabel, state_values
from helpers.tasks import get_task

TASK = get_task("crossroads")
LAYOUT = grid_layout(TASK.grid_size, TASK.grid_size)
SMALL = {"width": 16, "layers": 1}


@pytest.fixture(scope="module")
def halves() -> Dataset:
    return load_dataset("crossroads/halves", sample=True)


# --- the level ---------------------------------------------------------------------------------


def test_the_yellow_door_pays_and_the_grey_one_does_not():
    for turn, paid in ((None, 1.0), (0, 0.0)):
        level = Crossroads()
        level.reset(seed=0)
        level.agent_dir = 0
        for _ in range(3):
            assert level.step(FORWARD)[1:3] == (0.0, False)
        if turn is not None:
            level.step(turn)
        rewards = [level.step(FORWARD)[1:3] for _ in range(3)]
        assert rewards == [(0.0, False), (0.0, False), (paid, True)]


@pytest.mark.parametrize("start", ["west", "south", "north"])
def test_an_episode_begins_where_it_is_told_and_looks_anywhere(start):
    env = TASK.make()
    poses = [env.reset(seed=s, options={"start": start})[0]["pose"] for s in range(30)]
    assert {tuple(pose[:2]) for pose in poses} == {cell_of(start)}
    assert {pose[2] for pose in poses} == {0, 1, 2, 3}
    assert tuple(env.reset(seed=0)[0]["pose"][:2]) == cell_of("west"), "the test's start"


def test_the_best_way_is_counted_as_it_is_walked():
    """Six cells, and a turn for each quarter; from behind the door there is none."""
    assert [fewest_steps(*cell_of("west"), d) for d in range(4)] == [6, 7, 8, 7]
    assert [fewest_steps(*cell_of("south"), d) for d in range(4)] == [8, 9, 8, 7]
    assert sum(is_open(x, y) for x in range(9) for y in range(9)) == 13
    with pytest.raises(ValueError, match="no way leads"):
        fewest_steps(1, 1, 0)


@pytest.mark.parametrize(("half", "paid"), [("west-north", 0.0), ("south-east", 1.0)])
def test_the_halves_never_hold_the_whole_way(half, paid):
    maker = EpisodeMaker(get_spec(f"crossroads/{half}"))
    trips = join([maker(k) for k in range(40)])
    assert (trips.returns == paid).all() and trips.terminated.all()
    assert trips.lengths.max() > trips.lengths.min(), "random steps make trips differ"
    poses = unpack(trips.observations, LAYOUT)["pose"].astype(int)
    x, y = poses[:, 0], poses[:, 1]
    centre = cell_of("centre")
    assert ((x == centre[0]) & (y == centre[1])).any(), "both halves pass the centre"
    if paid:
        assert x.min() >= centre[0] and y.min() >= centre[1], "never in the west or the north"
    else:
        assert x.max() <= centre[0] and y.max() <= centre[1], "never in the east or the south"


def test_at_the_centre_the_halves_part():
    """Looking east there, trips from the west turn; trips from the south walk on and are paid."""
    for half, on in (("west-north", False), ("south-east", True)):
        maker = EpisodeMaker(get_spec(f"crossroads/{half}"))
        trips = join([maker(k) for k in range(60)])
        poses = unpack(trips.observations, LAYOUT)["pose"][:, :3].astype(int)
        there = (poses == (*cell_of("centre"), 0)).all(axis=1)
        assert there.sum() > 10
        share = (trips.actions[there] == FORWARD).mean()
        assert share > 0.8 if on else share == 0


# --- returns-to-go that know better ways --------------------------------------------------------


def plain(rewards: list[float], lengths: list[int]) -> Dataset:
    """Episodes of the point maze with these rewards; a critic sees the step in the first entry."""
    steps = sum(lengths)
    observations = np.zeros((steps, 6), np.float32)
    observations[:, 0] = np.arange(steps)
    return Dataset(
        observations=observations,
        actions=np.zeros((steps, 2), np.float32),
        rewards=np.array(rewards, float),
        lengths=np.array(lengths),
        terminated=np.zeros(len(lengths), bool),
        final_observations=np.zeros((len(lengths), 6), np.float32),
        seeds=np.zeros(len(lengths), np.int64),
    )


def test_returns_to_go_are_raised_as_computed_by_hand(monkeypatch):
    """R_t = r_t + max(R_{t+1}, V(s_{t+1})), within each episode and backwards."""
    import helpers.stitching as stitching

    values = torch.tensor([9.0, 0.2, 0.7, 0.1, 5.0, 0.0])
    monkeypatch.setattr(stitching, "state_values", lambda _, rows: values[rows[:, 0].long()])
    data = plain([0, 0, 0, 1, 0, 1], [4, 2])
    model = make_iql(get_task("pointmaze"), data, **SMALL)
    found = relabel(data, model)
    # First: 0 + max(1, 0.1) behind step 2, 0 + max(1, .7), 0 + max(1, .2); second: max(1, 0).
    assert np.allclose(found.returns_to_go(), [1, 1, 1, 1, 1, 1])
    unpaid = relabel(plain([0, 0, 0, 0, 0, 0], [4, 2]), model)
    assert np.allclose(unpaid.returns_to_go(), [0.7, 0.7, 0.1, 0.0, 0.0, 0.0])
    assert np.array_equal(unpaid.actions, data.actions) and np.array_equal(data.rewards[3:4], [1])


def test_a_critic_of_no_use_changes_nothing(halves):
    """Where values are far below what followed, returns-to-go stay as they are."""
    model = make_iql(TASK, halves, **SMALL)
    with torch.no_grad():
        for parameter in model.value.parameters():
            parameter.zero_()
        model.value.heads.biases[-1].fill_(-5.0)
    assert (state_values(model, torch.from_numpy(halves.observations)) < -4).all()
    assert np.allclose(relabel(halves, model).returns_to_go(), halves.returns_to_go())


def test_values_of_both_learners(halves):
    rows = torch.from_numpy(halves.observations[:5])
    cql = make_cql(TASK, halves, **SMALL)
    best = cql.critics.all_actions(rows).amin(dim=0).amax(dim=-1)
    assert torch.allclose(state_values(cql, rows), best)
    iql = make_iql(TASK, halves, **SMALL)
    assert torch.allclose(state_values(iql, rows), iql.value(rows)[0, :, 0])


# --- critics for the beam -----------------------------------------------------------------------


def test_a_grid_critic_sees_what_the_environment_would_show(halves):
    """Imagined poses, drawn into the first map, equal the observations that were really seen."""
    model = make_iql(TASK, halves, **SMALL)
    critic = GridCritic(model)
    seen = []
    model.critics.forward = lambda rows, actions: seen.append(rows) or torch.zeros(2, len(rows))
    for start, length in zip(halves.starts, halves.lengths, strict=True):
        episode = torch.from_numpy(halves.observations[start : start + length])
        poses = unpack(episode, LAYOUT)["pose"]
        imagined = relative_poses(poses, poses[0]).double()
        critic.look(episode[:1])
        critic(imagined, torch.zeros(length, 1))
        found, wanted = unpack(seen[-1], LAYOUT), unpack(episode, LAYOUT)
        for name in ("grid", "pose", "mission", "target"):
            assert torch.equal(found[name], wanted[name]), name


def test_candidates_stay_with_their_environment(halves):
    """Rows come environment by environment: each is drawn into its own map."""
    model = make_iql(TASK, halves, **SMALL)
    critic = GridCritic(model)
    two = torch.from_numpy(halves.observations[[0, halves.starts[-1]]])
    critic.look(two)
    same = torch.zeros(6, 5, dtype=torch.float64)
    same[:, 3] = 1  # empty hands
    values = critic(same, torch.full((6, 1), 2.0))
    wanted = model.critics(two, torch.tensor([2, 2])).amin(dim=0)
    assert torch.allclose(values, wanted.repeat_interleave(3))


def test_a_critic_that_sees_a_view_is_refused(halves):
    with pytest.raises(ValueError, match='train it with sight = "grid"'):
        GridCritic(make_iql(TASK, halves, sight="view", **SMALL))


def test_packing_tensors_undoes_unpacking(halves):
    rows = torch.from_numpy(halves.observations[:3])
    assert torch.equal(pack_tensors(unpack(rows, LAYOUT), LAYOUT), rows)


def test_a_vector_critic_takes_the_lower_value():
    data = load_dataset("pointmaze/halves", sample=True)
    model = make_iql(get_task("pointmaze"), data, **SMALL)
    rows = torch.from_numpy(data.observations[:4])
    actions = torch.from_numpy(data.actions[:4])
    found = VectorCritic(model)(rows, actions)
    assert torch.allclose(found, model.critics(rows.float(), actions).amin(dim=0))


def test_a_search_follows_its_critic(halves, tmp_path):
    """A critic that likes one action makes an untrained model's plan begin with it."""
    from helpers.agents import GridTrajectoryAgent
    from helpers.models.grid_trajectory import make_grid_trajectory
    from helpers.planning.beam import BeamConfig

    torch.manual_seed(0)
    model = make_grid_trajectory(TASK, halves, context_length=4, width=16, layers=1)
    search = BeamConfig(beam_width=8, expansions=4, horizon=1, context=0, action_cdf=None)
    observations = halves.observations[:2]
    for liked in range(3):
        critic = GridCritic(make_iql(TASK, halves, **SMALL))
        critic.model.critics.forward = lambda _, actions, liked=liked: (
            (actions == liked).float().expand(2, -1)
        )
        agent = GridTrajectoryAgent(model, search, value=critic)
        agent.reset(2)
        assert agent.act(observations).tolist() == [liked, liked]


def test_a_foreign_critic_is_refused(tmp_path, halves):
    from helpers.files import BadFile
    from helpers.models.checkpoints import save_model
    from helpers.models.decision import make_decision

    path = tmp_path / "dt.safetensors"
    save_model(path, make_decision(TASK, halves, width=16, layers=1, heads=1), {})
    with pytest.raises(BadFile, match=r"holds method 'dt'; expected one of \['cql', 'iql'\]"):
        load_critic(path)


def test_the_dataset_is_not_touched(halves):
    before = dataclasses.replace(halves, rewards=halves.rewards.copy())
    relabel(halves, make_iql(TASK, halves, **SMALL))
    assert np.array_equal(before.rewards, halves.rewards)
