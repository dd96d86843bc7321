"""Environments: what is observed, who demonstrates, and what the best possible return is."""

from collections import deque

import numpy as np
import pytest

from helpers import paths
from helpers.data.behaviours import SightedBot, get_behaviour
from helpers.envs.grids import (
    MISSION_LENGTH,
    decode_mission,
    encode_mission,
    grid_layout,
    pack,
    unpack,
)
from helpers.envs.key_to_door import KeyToDoor
from helpers.envs.mazes import CENTRE, centre_of, lake_state
from helpers.envs.tables import Gamble, best_values
from helpers.names import UnknownName
from helpers.tasks import TASKS, get_task

REAL = paths.ROOT.parent / "shared" / "data-real" / "babyai"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="third-party data is not here")
LEVELS = [name for name in TASKS if name.startswith("babyai")]
LEFT, RIGHT, FORWARD, PICKUP = range(4)
AGENT, KEY, DOOR, EMPTY = 10, 5, 4, 1


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_what_it_says(name):
    task = get_task(name)
    env = task.make()
    observation, _ = env.reset(seed=0)
    assert task.pack(observation).shape == (task.observation_size,)
    assert env.observation_space.contains(observation)
    space = env.action_space
    assert (
        (space.n,) == (task.action_size,) if task.discrete else space.shape == (task.action_size,)
    )
    rng = np.random.default_rng(0)
    choose = get_behaviour("random")(env, rng)
    for step in range(1, task.horizon + 1):  # noqa: B007
        observation, _, terminated, truncated, _ = env.step(choose(observation))
        if terminated or truncated:
            break
    assert terminated or truncated, "no episode is longer than the horizon"
    again = task.make()
    assert np.array_equal(task.pack(again.reset(seed=0)[0]), task.pack(env.reset(seed=0)[0]))


# --- grids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_missions_survive_their_tokens(name):
    env = get_task(name).make()
    for seed in range(40):
        mission = env.reset(seed=seed)[0]["mission"]
        assert decode_mission(encode_mission(mission)) == mission


def test_strange_missions_are_refused():
    with pytest.raises(ValueError, match=r"unknown words \['dance', 'tango'\]"):
        encode_mission("dance the tango")
    with pytest.raises(ValueError, match=f"30 words; there is room for {MISSION_LENGTH}"):
        encode_mission(" ".join(["go"] * 30))


def test_packing_loses_nothing():
    env = get_task("babyai-pickuploc").make()
    layout = get_task("babyai-pickuploc").layout
    observations = [env.reset(seed=seed)[0] for seed in range(5)]
    parts = unpack(np.stack([pack(observation, layout) for observation in observations]), layout)
    for i, observation in enumerate(observations):
        for name in ("grid", "view", "pose", "target"):
            assert np.array_equal(parts[name][i], observation[name])
        assert decode_mission(parts["mission"][i]) == observation["mission"]
    with pytest.raises(ValueError, match="choose the dataset's own task"):
        unpack(np.zeros((2, 9), np.uint8), layout)


def test_the_agent_stands_in_the_grid_where_its_pose_says():
    env = get_task("babyai-gotolocal").make()
    observation, _ = env.reset(seed=3)
    moves = np.random.default_rng(0).integers(3, size=30)
    for move in moves:
        x, y, direction, carried, _ = observation["pose"]
        assert observation["grid"][x, y].tolist() == [AGENT, 0, direction]
        assert (observation["grid"][..., 0] == AGENT).sum() == 1
        assert carried == EMPTY
        observation, _, terminated, _, _ = env.step(move)
        if terminated:
            break


def test_what_is_carried_is_in_the_pose_and_gone_from_the_grid():
    env = get_task("babyai-pickuploc").make()
    observation, _ = env.reset(seed=0)
    choose = get_behaviour("bot")(env, np.random.default_rng(0))
    tx, ty = observation["target"]
    wanted = observation["grid"][tx, ty, :2].tolist()
    done = False
    while not done:
        observation, reward, done, _, _ = env.step(choose(observation))
    assert reward > 0
    assert observation["pose"][3:].tolist() == wanted
    assert observation["grid"][tx, ty, 0] == EMPTY


@pytest.mark.parametrize("name", LEVELS)
def test_the_oracle_points_at_what_ends_the_episode(name):
    """Success comes while facing the target that the observation before had named."""
    env = get_task(name).make()
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        choose = get_behaviour("bot")(env, np.random.default_rng(0))
        done = False
        while not done:
            target = observation["target"]
            observation, reward, done, truncated, _ = env.step(choose(observation))
            assert not truncated
        assert reward > 0
        assert np.array_equal(env.unwrapped.front_pos, target)


@needs_real_data
@pytest.mark.parametrize("level", ["gotolocal-s7n5", "gotolocal-s8n7", "gotoobjmaze-s4"])
def test_leap_recorded_what_we_record(level):
    """LEAP's own demonstrations, put into our environment and replayed, give LEAP's grids."""
    from minigrid.core.grid import Grid

    recorded = np.load(REAL / f"leap-{level}.npz", allow_pickle=False)
    env = get_task(f"babyai-{level}").make()
    env.reset(seed=0)
    world = env.unwrapped
    first = 0
    for length, mission in zip(recorded["lengths"][:60], recorded["missions"], strict=False):
        steps = slice(first, first + length)
        first += length
        grid = recorded["images"][steps][0].copy()
        x, y, direction, *_ = recorded["state"][steps][0]
        grid[x, y] = (1, 0, 0)
        world.grid, _ = Grid.decode(grid)
        world.agent_pos, world.agent_dir = (int(x), int(y)), int(direction)
        world.mission = str(mission)
        world.instrs.desc.type, world.instrs.desc.color = str(mission).split()[-1:-3:-1]
        world.instrs.desc.loc = None
        world.instrs.reset_verifier(world)
        world.step_count = 0
        for t, action in enumerate(recorded["actions"][steps]):
            ours = env.observation(world.gen_obs())
            image, state = recorded["images"][steps][t], recorded["state"][steps][t]
            inside = image[..., 0] != AGENT  # they keep another colour for the agent
            assert np.array_equal(ours["grid"][inside], image[inside])
            assert ours["pose"][:3].tolist() == state[:3].tolist()
            assert ours["target"].tolist() == state[3:].tolist()
            _, reward, done, _, _ = env.step(int(action))
            assert done == (t == length - 1)
        assert reward > 0


# --- the bot -----------------------------------------------------------------------------------


def shortest(observation) -> int:
    """Fewest turns and steps until the agent faces the target; open doors can be walked through."""
    grid = observation["grid"]
    x, y, direction = (int(v) for v in observation["pose"][:3])
    free = (grid[..., 0] == EMPTY) | (grid[..., 0] == AGENT)
    free |= (grid[..., 0] == DOOR) & (grid[..., 2] == 0)
    ahead = ((1, 0), (0, 1), (-1, 0), (0, -1))
    queue, seen = deque([(x, y, direction, 0)]), {(x, y, direction)}
    while queue:
        x, y, d, steps = queue.popleft()
        front = (x + ahead[d][0], y + ahead[d][1])
        if front == tuple(observation["target"]):
            return steps
        near = [(x, y, (d + 1) % 4), (x, y, (d - 1) % 4)]
        for pose in near + [(*front, d)] * bool(free[front]):
            if pose not in seen:
                seen.add(pose)
                queue.append((*pose, steps + 1))
    raise AssertionError("no way to the target")


@pytest.mark.parametrize("name", ["babyai-gotolocal-s7n5", "babyai-gotoobjmaze-s4"])
def test_where_doors_are_open_the_bot_takes_the_shortest_way(name):
    env = get_task(name).make()
    optimal = 0
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        fewest = max(1, shortest(observation))
        choose = get_behaviour("bot")(env, np.random.default_rng(0))
        steps, done = 0, False
        while not done:
            observation, _, done, _, _ = env.step(choose(observation))
            steps += 1
        optimal += steps == fewest
    # LEAP's demonstrations: 99 %. The bot does not count turns, and may prefer another object.
    assert optimal >= 38


def test_the_bot_does_not_see_through_closed_doors():
    env = get_task("babyai-gotoobjmaze-s4r2").make()
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        bot = SightedBot(env.unwrapped)
        bot._process_obs()
        seen = observation["grid"][bot.vis_mask]
        rooms = (seen[:, 0] == AGENT).sum(), (seen[:, 0] == EMPTY).sum()
        assert rooms[0] == 1
        if observation["grid"][..., 2][observation["grid"][..., 0] == DOOR].all():
            assert rooms[1] < 4, "a room of 2 x 2 cells and its walls"


def test_noise_varies_between_episodes_and_lowers_returns():
    from helpers.data.catalogue import registry

    for level in ("gotolocal", "pickup", "gotoobjmaze-s4"):
        expert, noisy = (registry()[f"babyai-{level}/{tier}"] for tier in ("expert", "noisy"))
        assert noisy["return_mean"] < expert["return_mean"] - 0.03
        assert noisy["return_std"] > 2 * expert["return_std"]
        assert noisy["return_min"] == 0.0 and noisy["return_max"] > 0.95
        assert expert["return_min"] > 0.0, "the bot always succeeds"


# --- key to door -------------------------------------------------------------------------------


def walk_to(env: KeyToDoor, cell: tuple[int, int]) -> list[int]:
    """Actions that bring the agent to face `cell`, in a room without obstacles."""
    x, y = env.agent_pos
    direction = int(env.agent_dir)
    blocked = {tuple(cell)}
    queue, seen = deque([((x, y, direction), [])]), {(x, y, direction)}
    ahead = ((1, 0), (0, 1), (-1, 0), (0, -1))
    while queue:
        (x, y, d), way = queue.popleft()
        front = (x + ahead[d][0], y + ahead[d][1])
        if front == tuple(cell):
            return way
        options = [((x, y, (d - 1) % 4), LEFT), ((x, y, (d + 1) % 4), RIGHT)]
        inside = 0 < front[0] < env.width - 1 and 0 < front[1] < env.height - 1
        if inside and front not in blocked:
            options.append(((*front, d), FORWARD))
        for pose, action in options:
            if pose not in seen:
                seen.add(pose)
                queue.append((pose, [*way, action]))
    raise AssertionError("no way")


def find(env: KeyToDoor, kind: int) -> tuple[int, int]:
    return tuple(int(v) for v in np.argwhere(env.grid.encode()[..., 0] == kind)[0])


@pytest.mark.parametrize("take_key", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_door_pays_only_with_the_key(take_key, seed):
    env = KeyToDoor()
    env.reset(seed=seed)
    actions = walk_to(env, find(env, KEY)) + [PICKUP] * take_key
    actions += [LEFT] * (2 * env.phase_steps - len(actions))
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        assert reward == 0 and not (terminated or truncated)
        assert env.carrying is None, "what is carried cannot be seen"
    for action in [*walk_to(env, find(env, DOOR)), FORWARD]:
        observation, reward, terminated, truncated, _ = env.step(action)
    assert terminated and reward == float(take_key)


def test_the_rooms_follow_each_other_and_the_time_ends():
    env = KeyToDoor(phase_steps=5)
    env.reset(seed=0)
    seen = []
    for step in range(15):
        codes = set(env.grid.encode()[..., 0].ravel().tolist())
        seen.append((KEY in codes, DOOR in codes))
        *_, truncated, _ = env.step(LEFT)
        assert truncated == (step == 14)
    assert seen == [(True, False)] * 5 + [(False, False)] * 5 + [(False, True)] * 5
    env.reset(seed=1)
    assert find(env, KEY), "the next episode begins with the key room again"


def test_random_walks_succeed_about_as_often_as_in_the_paper():
    """3.1 % in Chen et al. 2021, table 6."""
    from helpers.data.catalogue import registry

    entry = registry()["key-to-door/random-10000"]
    assert 0.025 < entry["return_mean"] < 0.037
    assert registry()["key-to-door/random-1000"]["return_max"] == 1.0


# --- tables and mazes --------------------------------------------------------------------------


def test_the_safe_choice_is_best_in_every_round():
    env = Gamble()
    for actions in env.P.values():
        for outcomes in actions.values():
            assert sum(outcome[0] for outcome in outcomes) == 1
    values, choices = best_values(env.P, env.rounds)
    assert values[0, 0] == 5.0
    assert all(choices[t, t] == 0 for t in range(env.rounds))


def test_gambles_win_as_often_as_the_table_says():
    env = get_task("gamble").make()
    returns = []
    for seed in range(400):
        env.reset(seed=seed)
        done, total = False, 0.0
        while not done:
            _, reward, done, _, _ = env.step(1)
            total += reward
        returns.append(total)
    # Five bets: mean -5, standard deviation 8 sqrt(5 / 4 * 3 / 4) = 7.7; of the mean of 400, 0.4.
    assert abs(np.mean(returns) + 5) < 1.5
    assert max(returns) > 5, "luck beats the best policy now and then"


def test_the_best_return_of_the_grid_maze_is_reached_by_its_plan():
    task = get_task("gridmaze")
    env = task.make()
    values, choices = best_values(env.unwrapped.P, task.horizon)
    start = lake_state("west")
    assert values[0, start] == task.reference_scores[1] == 15.0
    env.reset(seed=0)
    total, done, t = 0.0, False, 0
    while not done:
        _, reward, done, _, _ = env.step(int(choices[t, env.unwrapped.s]))
        total, t = total + reward, t + 1
    assert total == 15.0


def test_dynamic_programming_respects_the_horizon():
    table = get_task("gridmaze").make().unwrapped.P
    values, _ = best_values(table, 5)
    assert values[0, lake_state("west")] == -5.0, "six steps to the goal, five allowed"


@pytest.mark.parametrize("start", ["west", "south", "north"])
def test_the_point_starts_where_it_is_told(start):
    env = get_task("pointmaze").make()
    observation, _ = env.reset(seed=0, options={"start": start})
    assert np.abs(observation[:2] - centre_of(start)).max() <= 0.25
    assert np.abs(observation[4:] - centre_of("east")).max() <= 0.25


@pytest.mark.parametrize("task", ["pointmaze", "gridmaze"])
def test_the_halves_never_hold_the_whole_way(task):
    """Trips that are paid never touch the west, those that begin there never the east; yet both
    cross the centre, so that the whole way is there in pieces."""
    from helpers.data.catalogue import load_dataset

    def places(data):
        if task == "pointmaze":
            return data.observations[:, :2]
        rows, columns = np.divmod(data.observations.argmax(1), 2 * CENTRE + 1)
        return np.stack([columns - CENTRE, CENTRE - rows], 1)

    data = load_dataset(f"{task}/halves", sample=True)
    paid = data.returns > data.returns.min()
    assert paid.any() and not paid.all()
    for i, (start, length) in enumerate(zip(data.starts, data.lengths, strict=True)):
        x, y = places(data)[start : start + length].T
        assert (np.hypot(x, y) < 0.5).any()
        assert (x.min() > -0.6) if paid[i] else (x.max() < 0.6)
    whole = load_dataset(f"{task}/west-east", sample=True)
    x = places(whole)[:, 0]
    assert x[whole.starts].max() < -2 and x.max() >= 2


def test_unknown_behaviours_are_named():
    with pytest.raises(UnknownName, match="did you mean noisy-bot"):
        get_behaviour("noisy-bott")


def test_the_layout_has_the_size_of_the_observations():
    sizes = [np.prod(shape) for shape in grid_layout(8, 8).values()]
    assert sum(sizes) == get_task("babyai-gotolocal").observation_size
