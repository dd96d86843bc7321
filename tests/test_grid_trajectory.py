"""The Trajectory Transformer on grid levels: steps, windows, the token for the map, the planner."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.agents import GridTrajectoryAgent, trajectory_agent
from helpers.data.catalogue import load_dataset
from helpers.envs.grids import unpack
from helpers.evaluate import rollout
from helpers.models.checkpoints import save_model
from helpers.models.grid_trajectory import (
    POSE,
    grid_edges,
    make_grid_trajectory,
    make_grid_windows,
    relative_poses,
)
from helpers.models.trajectory import TrajectoryTransformer, trajectory_loss
from helpers.planning.beam import BeamConfig, BeamPlanner
from helpers.tasks import get_task

TASK = get_task("babyai-gotolocal-s7n5")
STEP, ACTION, END = 8, 5, 16
SEARCH = BeamConfig(beam_width=4, context=0, horizon=3, action_cdf=None, ends=True)


@pytest.fixture(scope="module")
def data():
    return load_dataset("babyai-gotolocal-s7n5/expert", sample=True)


@pytest.fixture(scope="module")
def model(data) -> TrajectoryTransformer:
    """A random one whose weights are large enough to matter."""
    torch.manual_seed(0)
    shape = {"context_length": 4, "bins": END, "width": 32, "layers": 2, "heads": 2, "dropout": 0.0}
    model = make_grid_trajectory(TASK, data, **shape).eval()
    with torch.no_grad():
        for parameter in (*model.transformer.parameters(), model.head, model.embed_position):
            parameter.mul_(5.0) if parameter.ndim > 1 else parameter
    return model


def test_poses_count_from_the_first_one():
    """A random walk, followed in the walker's own first frame by counting."""
    env, rng = TASK.make(), np.random.default_rng(0)
    packed = [TASK.pack(env.reset(seed=1)[0])]
    ahead, right, turned, expected = 0, 0, 0, [(0, 0, 0)]
    for action in rng.choice([0, 1, 2], 60, p=[0.2, 0.2, 0.6]):
        before = tuple(env.unwrapped.agent_pos)
        packed.append(TASK.pack(env.step(action)[0]))
        if action == 2 and tuple(env.unwrapped.agent_pos) != before:
            ahead += (1, 0, -1, 0)[turned]
            right += (0, 1, 0, -1)[turned]
        turned = (turned + {0: -1, 1: 1, 2: 0}[action]) % 4
        expected.append((ahead, right, turned))
    env.close()
    poses = unpack(torch.from_numpy(np.stack(packed)), TASK.layout)["pose"]
    assert len(set(expected)) > 15, "the walk must go somewhere"
    assert relative_poses(poses, poses[0])[:, :3].tolist() == [list(pose) for pose in expected]
    assert torch.equal(relative_poses(poses, poses[0])[:, 3:], poses[:, 3:].long())


def test_whole_numbers_have_bins_of_their_own(model, data):
    numbers = np.zeros((7, STEP))
    numbers[:, 0] = numbers[:, 1] = np.arange(-3, 4)
    numbers[:, 2] = numbers[:, ACTION] = numbers[:, 3] = np.arange(7)
    tokens = model.discretiser.encode(numbers)
    assert tokens[:, 0].tolist() == list(range(7)), "all that a window of 4 steps can reach"
    assert tokens[:, ACTION].tolist() == list(range(7))
    decoded = model.discretiser.decode(tokens)
    assert np.allclose(decoded[:, : ACTION + 1], numbers[:, : ACTION + 1])
    with pytest.raises(ValueError, match="7 bins are needed"):
        grid_edges(np.zeros(3), np.zeros(3), reach=3, bins=6)


def test_windows_hold_what_happened(model, data):
    windows = make_grid_windows(data, model)
    batch = windows.sample(np.random.default_rng(0), 64)
    tokens = batch["tokens"].view(64, 4, STEP)
    first = {row.numpy().tobytes(): i for i, row in enumerate(torch.from_numpy(data.observations))}
    last = np.cumsum(data.lengths) - 1
    ended = 0
    for seen, steps in zip(batch["observations"], tokens, strict=True):
        row = first[seen.numpy().tobytes()]
        left = int(last[last >= row][0]) - row + 1
        kept = min(4, left)
        assert steps[:kept, ACTION].tolist() == data.actions[row : row + kept].tolist()
        assert steps[0, :POSE].tolist()[:3] == [3, 3, 0], (
            "bins of no cell ahead, none aside, no turn"
        )
        assert (steps[kept:] == END).all()
        ended += left < 4
    assert ended > 5
    assert batch["valid"].all(), "all of these episodes end with success"

    cut = dataclasses.replace(windows, ends=torch.zeros_like(windows.ends))
    batch = cut.sample(np.random.default_rng(0), 64)
    assert torch.equal(batch["valid"], (tokens != END).flatten(1))


def test_the_map_tells_on_all_tokens_and_none_on_the_map(model, data):
    batch = make_grid_windows(data, model).sample(np.random.default_rng(0), 8)
    prefix = model.embed_map(batch["observations"])[:, None]
    tokens = batch["tokens"]
    with torch.no_grad():
        logits = model(tokens, prefix)
        other = model(tokens, prefix.roll(1, 0))
        later = tokens.clone()
        later[:, 2 * STEP :] = (later[:, 2 * STEP :] + 1) % END
        assert torch.equal(model(later, prefix)[:, : 2 * STEP], logits[:, : 2 * STEP])
    assert ((logits - other).abs().amax(dim=(0, 2)) > 1e-3).all()
    loss = trajectory_loss(model, batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.embed_map.parameters())
    model.zero_grad()


def greedy(model: TrajectoryTransformer, seen: torch.Tensor, context: torch.Tensor, steps: int):
    """The likeliest tokens one after another, each by a full pass."""
    prefix, tokens = model.embed_map(seen)[:, None], context
    while tokens.shape[1] < (steps - 1) * STEP + ACTION + 1:
        dimension = tokens.shape[1] % STEP
        count = TASK.action_size if dimension == ACTION else END
        logits = model(tokens, prefix)[:, -1, :count]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    return tokens.view(len(tokens), -1)[:, ACTION::STEP]


def test_decoding_behind_a_map_equals_full_passes(model, data):
    windows = make_grid_windows(data, model)
    batch = windows.sample(np.random.default_rng(1), 16)
    going = (batch["tokens"] != END).all(dim=1)
    seen, context = batch["observations"][going], batch["tokens"][going][:, : STEP + POSE]
    config = BeamConfig(beam_width=1, expansions=1, horizon=3, context=1, temperature=0.0,
                        action_cdf=None)  # fmt: skip
    with torch.no_grad():
        prefix = model.embed_map(seen)[:, None]
        plans = BeamPlanner(model, config).plan(context, torch.Generator(), prefix=prefix)
        expected = greedy(model, seen, context, 4)[:, 1:]
    assert expected.unique().numel() > 1, "the models must disagree about something"
    assert plans.actions[..., 0].round().astype(int).tolist() == expected.tolist()


def test_plans_hold_actions_that_exist(model, data):
    seen = torch.from_numpy(data.observations[:8])
    context = torch.tensor([[3, 3, 0, 0, 0]]).repeat(8, 1)
    prefix = model.embed_map(seen)[:, None].detach()
    plans = BeamPlanner(model, SEARCH).plan(context, torch.Generator(), prefix=prefix)
    assert plans.actions.max() < TASK.action_size - 0.5
    assert np.allclose(plans.actions, plans.actions.round())


@pytest.mark.parametrize("value", [None, lambda states, actions: torch.ones(len(states))])
def test_nothing_is_earned_behind_a_predicted_end(model, data, value):
    """A model for which every episode ends after its first step."""
    doomed = TrajectoryTransformer(model.config).eval()
    doomed.load_state_dict(model.state_dict())
    doomed.edges[-2:] = torch.linspace(0, 1, END + 1)
    logits = doomed.logits

    def ending(features, dimension):
        out = logits(features, dimension)
        return out.index_fill(-1, torch.tensor([END]), 1e3) if dimension == 0 else out

    doomed.logits = ending
    seen = torch.from_numpy(data.observations[:6])
    context = torch.tensor([[3, 3, 0, 0, 0]]).repeat(6, 1)
    prefix = doomed.embed_map(seen)[:, None].detach()
    for ends in (True, False):
        config = dataclasses.replace(SEARCH, ends=ends)
        planner = BeamPlanner(doomed, config, value=value)
        plans = planner.plan(context, torch.Generator(), prefix=prefix)
        first = plans.rewards[:, 0]
        if ends:
            assert np.allclose(plans.scores, first, atol=1e-5)
        else:
            assert (plans.scores > first + 0.1).all()


@pytest.mark.parametrize("every", [1, 3])
def test_an_agent_plays_what_was_saved(model, data, tmp_path, every):
    path = tmp_path / "tt.safetensors"
    save_model(path, model, {"task": TASK.name})
    config = dataclasses.replace(SEARCH, plan_every=every, context=1)
    agent = trajectory_agent(path, np.zeros(3), config)
    assert isinstance(agent, GridTrajectoryAgent)
    result = rollout(agent, TASK, [5, 6, 7])
    again = rollout(GridTrajectoryAgent(model, config), TASK, [5, 6, 7])
    assert result.returns.tolist() == again.returns.tolist()
    assert result.lengths.tolist() == again.lengths.tolist()


def test_the_agent_sees_poses_from_its_oldest_step(model, data):
    """The tokens of the past are those of a training window that begins there."""
    agent = GridTrajectoryAgent(model, dataclasses.replace(SEARCH, context=1))
    agent.reset(1)
    row = int(np.flatnonzero(data.actions[:-1] == 2)[0])
    agent.seen = list(np.array(data.observations[row : row + 2])[:, None])
    agent.taken = [np.array(data.actions[row : row + 1])]
    windows, rng = make_grid_windows(data, model), np.random.default_rng(0)
    batch = windows.sample(rng, 500)
    same = (batch["observations"] == torch.from_numpy(data.observations[row])).all(dim=1)
    seen, expected = agent._tokens()[0], batch["tokens"][same][0, : STEP + POSE]
    known = torch.arange(STEP + POSE) != STEP - 1  # the value is unknown to who acts
    assert torch.equal(seen[known], expected[known])


def test_an_agent_goes_on_with_those_that_are_left(model, data):
    """The likeliest actions do not depend on who else plays."""
    config = dataclasses.replace(SEARCH, beam_width=1, expansions=1, temperature=0.0, plan_every=2)
    agents = [GridTrajectoryAgent(model, dataclasses.replace(config, context=1)) for _ in range(2)]
    agents[0].reset(2)
    agents[1].reset(1)
    for t in range(6):
        seen = np.array(data.observations[[t, t + 6]])
        if t == 3:
            agents[0].keep(np.array([1]))
        both = agents[0].act(seen if t < 3 else seen[1:])
        assert both[-1:].tolist() == agents[1].act(seen[1:]).tolist()
