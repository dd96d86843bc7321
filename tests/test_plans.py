"""Plans are scored, changed and carried out as the planner and the environment would."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.analysis.plans import every_energy, every_plan, first_plans, one_change, walk
from helpers.data.catalogue import load_dataset
from helpers.models.leap import Leap, LeapConfig
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.tasks import get_task

TASK = get_task("babyai-gotolocal-s7n5")
DATA = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
SMALL = LeapConfig(
    observation_size=3, action_size=2, plan_length=3, width=16, layers=2, heads=2, dropout=0.0
)
END = SMALL.end


def loud_model():
    torch.manual_seed(0)
    model = Leap(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)
    return model


def test_every_plan_occurs_once_and_none_is_empty():
    plans = every_plan(3, 2)
    assert len(plans) == 2 + 4 + 8 == len({tuple(plan.tolist()) for plan in plans})
    assert (plans[:, 0] != END).all()
    after = plans[:, :-1] == END
    assert (plans[:, 1:][after] == END).all()


def test_every_energy_is_the_planners():
    model, plans = loud_model(), every_plan(3, 2)
    seen = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    found = every_energy(model, seen, plans)
    planner = GibbsPlanner(model, GibbsConfig())
    for i in range(3):
        wanted = planner.energy(seen[i].expand(len(plans), -1), plans)
        assert torch.allclose(found[i], wanted, atol=1e-4)


def test_plans_of_demonstrations_end_with_them():
    short = dataclasses.replace(DATA, lengths=np.minimum(DATA.lengths, [2, 99, 99, 99]))
    plans = first_plans(short.select([0]), 5, 7)
    assert plans.tolist() == [[*DATA.actions[:2].tolist(), 7, 7, 7]]
    whole = first_plans(DATA, 2, 7)
    assert whole[1].tolist() == DATA.actions[DATA.starts[1] :][:2].tolist()


def test_one_change_reaches_every_neighbour():
    plans, where = one_change(torch.tensor([1, 0, END]), END)
    assert plans.tolist() == [
        [0, 0, END],  # place 0; END there would leave no plan
        [1, 1, END],
        [1, END, END],
        [1, 0, 0],  # one action more
        [1, 0, 1],
    ]
    assert where.tolist() == [[0, 0], [1, 1], [1, END], [2, 0], [2, 1]]
    full, _ = one_change(torch.tensor([1, 0, 1]), END)
    assert full.shape == (1 + 2 + 2, 3)
    ended, _ = one_change(torch.tensor([1, END, END]), END)
    assert ended.tolist() == [[0, END, END], [1, 0, END], [1, 1, END]]


def test_a_walk_is_the_recorded_episode():
    episode = int(DATA.lengths.argmax())
    start, length = DATA.starts[episode], DATA.lengths[episode]
    actions = [*DATA.actions[start : start + length].tolist(), 7, 2]
    walked = walk(TASK, int(DATA.seeds[episode]), actions)
    assert walked.success and len(walked.poses) == length + 1
    recorded = DATA.observations[start : start + length]
    grid = 7 * 7 * 3 + 7 * 7 * 3
    assert np.array_equal(walked.poses[:-1], recorded[:, grid : grid + 3])


@pytest.mark.parametrize("actions", [[], [7], [8, 2]])
def test_nothing_is_carried_out_behind_an_end(actions):
    walked = walk(TASK, int(DATA.seeds[0]), actions)
    assert not walked.success and len(walked.poses) == 1
