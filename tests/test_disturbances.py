"""Kicks, noise, and play that is watched."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from helpers import paths
from helpers.agents import Agent, PolicyAgent
from helpers.analysis.disturbances import (
    NoisyAgent,
    RecordedActions,
    SlippingAgent,
    action_box,
    divergence,
    watch,
)
from helpers.data.policies import load_policy
from helpers.evaluate import rollout
from helpers.methods import noisy_agent
from helpers.tasks import Task, get_task

CHEETAH = get_task("halfcheetah")


class Drift(gymnasium.Env):
    """Moves by the action and pays it; ends after a number of steps that the seed says."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(np.float32(-2), np.float32(2), (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.place = seed, np.zeros(2)
        return self.place.copy(), {}

    def step(self, action):
        self.left -= 1
        self.place += action
        return self.place.copy(), float(action.sum()), self.left == 0, False, {}


gymnasium.register("Drift-v0", Drift)
DRIFT = Task("drift", "Drift-v0", 2, 2, 30, 1.0, 1.0)


class Steady:
    """Always does the same."""

    def __init__(self, action: float = 0.5) -> None:
        self.action = action

    def reset(self, n):
        self.n = n

    def act(self, observations):
        assert len(observations) == self.n
        return np.full((self.n, 2), self.action, np.float32)

    def observe(self, rewards):
        assert len(rewards) == self.n

    def keep(self, rows):
        self.n = len(rows)


def mean_policy(targets) -> PolicyAgent:
    return PolicyAgent(load_policy(paths.POLICIES / "halfcheetah-medium.safetensors"), sample=False)


def actions_of(agent: Agent, n: int, steps: int) -> np.ndarray:
    agent.reset(n)
    taken = []
    for _ in range(steps):
        taken.append(agent.act(np.zeros((n, 2))))
        agent.observe(np.zeros(n))
    return np.stack(taken)


def test_no_noise_is_the_agent():
    short = dataclasses.replace(CHEETAH, horizon=10)
    alone = rollout(mean_policy(None), short, [3, 4])
    noisy = rollout(NoisyAgent(mean_policy(None), action_box(CHEETAH), 0.0), short, [3, 4])
    assert np.array_equal(alone.rewards, noisy.rewards)
    shaken = rollout(NoisyAgent(mean_policy(None), action_box(CHEETAH), 0.1), short, [3, 4])
    assert not np.allclose(alone.returns, shaken.returns)


def test_noise_is_what_was_asked_for():
    box = action_box(DRIFT)
    taken = actions_of(NoisyAgent(Steady(), box, 0.1), 50, 40)
    assert taken.dtype == np.float32
    assert taken.mean() == pytest.approx(0.5, abs=0.02)
    assert taken.std() == pytest.approx(0.2, rel=0.05), "a tenth of half the range of 4"
    wild = actions_of(NoisyAgent(Steady(), box, 5.0), 50, 4)
    assert wild.min() == -2.0 and wild.max() == 2.0
    once = actions_of(NoisyAgent(Steady(), box, 0.1, only_step=2), 3, 5)
    assert (once[[0, 1, 3, 4]] == 0.5).all() and (once[2] != 0.5).all()


def check_draws_stay_with_their_episodes(agent, taken):
    """Of three episodes, the second ends after a step; the others do what they did before."""
    agent.reset(3)
    assert np.array_equal(agent.act(np.zeros((3, 2))), taken[0])
    agent.observe(np.zeros(3))
    agent.keep(np.array([0, 2]))
    for done in taken[1:]:
        assert np.array_equal(agent.act(np.zeros((2, 2))), done[[0, 2]])
        agent.observe(np.zeros(2))


def test_draws_belong_to_an_episode_and_a_seed():
    box = action_box(DRIFT)
    agent = NoisyAgent(Steady(), box, 0.1)
    taken = actions_of(agent, 3, 6)
    assert np.array_equal(actions_of(agent, 3, 6), taken), "draws restart"
    assert not np.array_equal(actions_of(NoisyAgent(Steady(), box, 0.1, seed=1), 3, 6), taken)
    double = actions_of(NoisyAgent(Steady(), box, 0.2), 3, 6)
    assert np.allclose(double - 0.5, 2 * (taken - 0.5), atol=1e-6)
    check_draws_stay_with_their_episodes(agent, taken)


def test_numbered_actions_have_no_box():
    with pytest.raises(ValueError, match="'key-to-door' has no bounded continuous actions"):
        action_box(get_task("key-to-door"))


class Fixed(Steady):
    """Always does the same of numbered actions."""

    def act(self, observations):
        return np.full(len(observations), 3)


def test_a_hand_slips_as_often_as_was_asked_for():
    never, rarely, often, always = (
        actions_of(SlippingAgent(Fixed(), 5, chance), 50, 60) for chance in (0.0, 0.1, 0.5, 1.0)
    )
    assert (never == 3).all()
    # A slip does any of five actions, the meant one too.
    assert (rarely != 3).mean() == pytest.approx(0.08, abs=0.01)
    assert (often != 3).mean() == pytest.approx(0.40, abs=0.02)
    assert np.bincount(always.ravel()) / always.size == pytest.approx(np.full(5, 0.2), abs=0.02)
    assert (often[rarely != 3] == rarely[rarely != 3]).all(), "a greater chance adds slips"
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="choose a chance, 0 to 1"):
            SlippingAgent(Fixed(), 5, wrong)


def test_slips_belong_to_an_episode_and_the_agent_is_not_told():
    taken = actions_of(agent := SlippingAgent(Fixed(), 5, 0.5), 3, 6)
    assert np.array_equal(actions_of(agent, 3, 6), taken), "draws restart"
    check_draws_stay_with_their_episodes(agent, taken)


def test_a_run_in_a_grid_slips_and_one_of_torques_shakes():
    def make(targets):
        return Fixed()

    assert isinstance(noisy_agent(make, "key-to-door", 0.1, np.ones(1)), SlippingAgent)
    slipping = noisy_agent(make, "babyai-gotolocal-s7n5", 0.1, np.ones(1))
    assert (slipping.actions, slipping.chance) == (7, 0.1)
    assert isinstance(noisy_agent(make, "halfcheetah", 0.1, np.ones(1)), NoisyAgent)


def test_a_kick_by_hand():
    """Where nothing pulls back, the distance stays what the kick made it."""
    scale = np.array([1.0, 4.0])
    found = divergence(lambda targets: Steady(), DRIFT, [99, 6, 99], 3, 0.05, 10, scale=scale)
    kick = actions_of(NoisyAgent(Steady(), action_box(DRIFT), 0.05), 3, 1)[0] - 0.5
    assert found.distances.shape == (3, 10)
    assert (found.distances[:, :4] == 0).all()
    expected = np.sqrt(np.square(kick / scale).mean(axis=1))
    assert np.allclose(found.distances[:, 4:6], expected[:, None], atol=1e-6)
    assert np.isnan(found.distances[1, 6:]).all(), "its sixth step was the last one"
    assert np.allclose(found.distances[[0, 2], 6:], expected[[0, 2], None], atol=1e-6)
    assert found.undisturbed.tolist() == [10.0, 6.0, 10.0]
    assert np.allclose(found.disturbed - found.undisturbed, kick.sum(axis=1), atol=1e-6)


def test_all_may_end_before_the_last_step():
    found = divergence(lambda targets: Steady(), DRIFT, [4, 6], 1, 0.1, 10, scale=np.ones(2))
    assert np.isfinite(found.distances).sum(axis=1).tolist() == [4, 6]


def test_episodes_of_the_simulator_part_after_the_kick():
    def play(kick: float):
        return divergence(mean_policy, CHEETAH, [0, 1], 5, kick, 20, scale=np.ones(17))

    small, none = play(1e-3), play(0.0)
    assert (small.distances[:, :6] == 0).all() and (small.distances[:, 6:] > 0).all()
    assert (small.disturbed != small.undisturbed).all()
    assert (none.distances == 0).all() and np.array_equal(none.disturbed, none.undisturbed)
    assert (play(1e-2).distances[:, 6] > 3 * small.distances[:, 6]).all()


def test_divergence_needs_time_and_determinism():
    with pytest.raises(ValueError, match="leaves nothing to see"):
        divergence(lambda targets: Steady(), DRIFT, [9], 9, 0.1, 10, scale=np.ones(2))
    moods = iter([0.5, 0.6])
    with pytest.raises(ValueError, match="must be deterministic"):
        divergence(lambda targets: Steady(next(moods)), DRIFT, [9], 3, 0.1, 8, scale=np.ones(2))


def test_watching_changes_nothing():
    watched = watch(mean_policy(None), CHEETAH, [3, 4], 6)
    played = rollout(mean_policy(None), dataclasses.replace(CHEETAH, horizon=6), [3, 4])
    assert np.array_equal(watched.returns, played.returns)
    policy = mean_policy(None).actor
    again = policy(watched.observations.reshape(-1, 17), np.random.default_rng()).reshape(2, 6, 6)
    assert np.allclose(again, watched.actions, atol=1e-6)


def test_what_has_ended_is_not_seen():
    watched = watch(Steady(), DRIFT, [3, 9], 5)
    assert watched.observations.shape == watched.actions.shape == (2, 5, 2)
    assert np.isnan(watched.actions[0, 3:]).all() and np.isnan(watched.observations[0, 3:]).all()
    assert np.allclose(watched.observations[1, :, 0], 0.5 * np.arange(5))
    assert (watched.actions[1] == 0.5).all() and watched.returns.tolist() == [3.0, 5.0]


def test_recorded_actions_are_repeated_whatever_happens():
    done = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    agent = RecordedActions(done)
    assert np.array_equal(actions_of(agent, 3, 5).swapaxes(0, 1), done)
    agent.reset(3)
    agent.act(np.zeros((3, 2)))
    agent.observe(np.zeros(3))
    agent.keep(np.array([0, 2]))
    assert np.array_equal(agent.act(np.ones((2, 2))), done[[0, 2], 1])
    with pytest.raises(ValueError, match="actions of 3 episodes for 2"):
        agent.reset(2)


def test_without_feedback_a_kick_is_not_made_up_for():
    """Actions that were recorded give the same play again, and a kick to them stays."""
    first = watch(mean_policy(None), CHEETAH, [0, 1], 12)
    again = watch(RecordedActions(first.actions), CHEETAH, [0, 1], 12)
    assert np.array_equal(first.observations, again.observations)
    scale = np.ones(17)
    found = divergence(
        lambda targets: RecordedActions(first.actions), CHEETAH, [0, 1], 2, 0.1, 12, scale=scale
    )
    assert np.array_equal(found.undisturbed, first.returns)
    assert (found.distances[:, 3:] > 0).all()
