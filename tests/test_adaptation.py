"""Lava that was not there in training, and missions joined by "and"."""

import numpy as np
import pytest
import torch

from helpers.adaptation import (
    FORBIDDEN,
    Adaptation,
    AdaptedDecisionAgent,
    AdaptedLeapAgent,
    hide_lava,
    lava_energy,
    split_mission,
)
from helpers.data.catalogue import load_dataset
from helpers.envs.adaptation import can_reach
from helpers.envs.grids import decode_mission, unpack
from helpers.evaluate import rollout
from helpers.methods import METHODS, agent_maker
from helpers.models.checkpoints import save_model
from helpers.models.decision import make_decision
from helpers.models.leap import make_leap
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.tasks import get_task

ROOM, LAVA, BOTH = (get_task(f"babyai-{name}") for name in ("gotolocal-s7n5", "lava", "both"))
LEFT, RIGHT, AHEAD = range(3)
END = ROOM.action_size


@pytest.fixture(scope="module")
def data():
    return load_dataset("babyai-gotolocal-s7n5/expert", sample=True)


@pytest.fixture(scope="module")
def leap(data):
    torch.manual_seed(0)
    return make_leap(ROOM, data, width=16, layers=1, heads=2, plan_length=3).eval()


@pytest.fixture(scope="module")
def decision(data):
    torch.manual_seed(0)
    return make_decision(ROOM, data, width=16, layers=1, heads=1, context_length=3).eval()


def starts(task, count: int = 20) -> np.ndarray:
    """First observations."""
    env = task.make()
    packed = np.stack([task.pack(env.reset(seed=seed)[0]) for seed in range(count)])
    env.close()
    return packed


def test_lava_leaves_a_way_and_returns_with_the_seed():
    env, plain = LAVA.make(), ROOM.make()
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        level = env.unwrapped
        assert (observation["grid"][..., 0] == 9).sum() == 4
        assert can_reach(level, level.instrs.desc.obj_poss)
        assert observation["mission"] == plain.reset(seed=seed)[0]["mission"], "the same level"
    again = env.reset(seed=29)[0]
    assert np.array_equal(again["grid"], observation["grid"])
    env.close()


def test_a_step_into_lava_ends_without_reward():
    env = LAVA.make()
    burnt = 0
    for seed in range(200):
        env.reset(seed=seed)
        ahead = env.unwrapped.grid.get(*env.unwrapped.front_pos)
        if ahead is not None and ahead.type == "lava":
            _, reward, terminated, _, _ = env.step(AHEAD)
            assert terminated and reward == 0
            burnt += 1
    env.close()
    assert burnt > 5


def test_hidden_lava_leaves_the_rest_as_it_is():
    seen = starts(LAVA)
    hidden, lava = hide_lava(seen, LAVA.layout)
    cells, before = (unpack(x, LAVA.layout)["grid"] for x in (hidden, seen))
    assert lava.sum() == 4 * len(seen)
    assert (cells[lava.numpy()] == [1, 0, 0]).all()
    assert np.array_equal(cells[~lava.numpy()], before[~lava.numpy()])
    assert not (unpack(hidden, LAVA.layout)["view"][..., 0] == 9).any()
    assert (seen != hidden).any(), "the observations given are left alone"


def test_the_energy_knows_where_a_plan_leads():
    """Random plans, carried out in the environment."""
    env, rng = LAVA.make(), np.random.default_rng(0)
    burnt = []
    for seed in range(150):
        observation = LAVA.pack(env.reset(seed=seed)[0])[None]
        hidden, lava = hide_lava(observation, LAVA.layout)
        plan = rng.choice([LEFT, RIGHT, AHEAD], 8, p=[0.2, 0.2, 0.6])
        energy = lava_energy(torch.from_numpy(hidden), lava)
        told = energy(torch.from_numpy(plan)[None], torch.zeros(1, dtype=torch.long))
        for action in plan:
            _, reward, terminated, _, _ = env.step(action)
            here = env.unwrapped.grid.get(*env.unwrapped.agent_pos)
            if terminated:
                break
        if terminated and reward > 0:
            continue  # the mission was fulfilled by accident before the plan was over
        burnt.append(here is not None and here.type == "lava")
        assert told.item() == FORBIDDEN * burnt[-1]
    env.close()
    assert 15 < sum(burnt) < len(burnt) - 15


def test_avoiding_agents_do_not_burn(leap, decision):
    """Untrained models wander; what they are forbidden they do not do."""
    search = GibbsConfig(iterations=20, sampler="gibbs", chains=4)

    def play(lava: str) -> tuple[float, float]:
        lengths = []
        for agent in (
            AdaptedLeapAgent(leap, search, Adaptation(lava=lava)),
            AdaptedDecisionAgent(decision, np.ones(12), Adaptation(lava=lava)),
        ):
            played = rollout(agent, LAVA, list(range(12)))
            failed = played.returns == 0
            lengths.append(np.mean(played.lengths[failed] < LAVA.horizon))
        return lengths

    assert play("avoided") == [0.0, 0.0]
    assert max(play("hidden")) > 0


def test_missions_are_split():
    packed = starts(BOTH)
    first, second = (unpack(half, BOTH.layout) for half in split_mission(packed, BOTH.layout))
    for row, whole in enumerate(unpack(packed, BOTH.layout)["mission"]):
        halves = [decode_mission(part["mission"][row]) for part in (first, second)]
        assert " and ".join(halves) == decode_mission(whole)
    with pytest.raises(ValueError, match="'go to the .*' does not join two missions"):
        split_mission(starts(ROOM, 4)[-1:], ROOM.layout)


def test_one_object_serves_both_missions():
    env = BOTH.make()
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        level = env.unwrapped
        things = [cell for cell in level.grid.grid if cell is not None and cell.type != "wall"]
        wanted = level.instrs.desc
        both = [x for x in things if x.color == wanted.color and x.type == wanted.type]
        either = [x for x in things if (x.color == wanted.color) != (x.type == wanted.type)]
        assert len(both) == 1 and len(either) == 4
        words = observation["mission"].split()
        assert (words[2], words[-1]) == (wanted.color, wanted.type)
    env.close()


def test_energies_of_two_missions_are_added(leap):
    packed = starts(BOTH, 6)
    halves = [torch.from_numpy(half) for half in split_mission(packed, BOTH.layout)]
    agent = AdaptedLeapAgent(leap, GibbsConfig(iterations=6), Adaptation(compose=True))
    agent.reset(6)
    plans = agent.plan(packed)
    planner = GibbsPlanner(leap, GibbsConfig())
    actions = torch.from_numpy(plans.actions)
    parts = sum(planner.energy(half, actions) for half in halves)
    assert np.allclose(plans.energy, parts.numpy(), atol=1e-4)


def test_decisions_weigh_both_missions(decision):
    packed = starts(BOTH, 5)
    agent = AdaptedDecisionAgent(decision, np.ones(5), Adaptation(compose=True))
    agent.reset(5)
    actions = agent.act(packed)
    logs = torch.zeros(5, ROOM.action_size)
    for half in split_mission(packed, BOTH.layout):
        one = AdaptedDecisionAgent(decision, np.ones(5), Adaptation())
        one.reset(5)
        logs += one.agents[0].scores(half).log_softmax(-1)
    assert actions.tolist() == logs.argmax(-1).tolist()


def test_options_reach_the_agents_and_bad_ones_are_told(decision, tmp_path):
    path = tmp_path / "dt.safetensors"
    save_model(path, decision, {})
    agent = agent_maker(METHODS["dt"], {"lava": "avoided"}, path)(np.ones(3))
    assert isinstance(agent, AdaptedDecisionAgent) and agent.adaptation.lava == "avoided"
    with pytest.raises(ValueError, match="choose seen, hidden or avoided"):
        agent_maker(METHODS["dt"], {"lava": "avoid"}, path)(np.ones(3))
    with pytest.raises(ValueError, match="does not plan; remove .'chains'"):
        agent_maker(METHODS["dt"], {"chains": 2}, path)(np.ones(3))
