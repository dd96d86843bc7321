"""Rollouts: vectorised evaluation equals playing episodes one by one."""

import dataclasses
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from helpers import paths, sweep
from helpers.agents import DecisionAgent, PolicyAgent
from helpers.analysis.statistics import mean_interval, slope_interval
from helpers.data.policies import load_policy
from helpers.evaluate import evaluate, one_thread_each, rollout
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.tasks import get_task

TASK = get_task("halfcheetah")


def mean_policy(targets) -> PolicyAgent:
    return PolicyAgent(load_policy(paths.POLICIES / "halfcheetah-medium.safetensors"), sample=False)


def small_transformer(targets, layers: int = 1, heads: int = 1, steps: int = 5) -> DecisionAgent:
    torch.manual_seed(0)
    config = DecisionConfig(width=16, layers=layers, heads=heads, context_length=steps)
    model = DecisionTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return DecisionAgent(model, targets)


def test_rewards_are_what_each_environment_paid():
    played = rollout(mean_policy(None), TASK, [3, 4])
    assert played.lengths.tolist() == [1000, 1000]
    assert np.array_equal(played.returns, played.rewards.sum(axis=1))
    # The simulator is chaotic: a batch of two rounds otherwise than one of one, and after some
    # dozens of steps the episodes part. Until then they are the same to many digits.
    steps = 20
    actor = load_policy(paths.POLICIES / "halfcheetah-medium.safetensors").actor(sample=False)
    for row, seed in enumerate([3, 4]):
        env = TASK.make()
        observation, _ = env.reset(seed=seed)
        paid = np.zeros(steps)
        for t in range(steps):
            observation, paid[t], *_ = env.step(actor(observation, np.random.default_rng(0)))
        assert np.allclose(played.rewards[row, :steps], paid, atol=5e-3)


def test_processes_do_not_change_the_returns():
    seeds = list(range(26))  # a full chunk and a short one
    one = evaluate(mean_policy, TASK, seeds)
    two = evaluate(mean_policy, TASK, seeds, workers=2)
    assert np.array_equal(one.rewards, two.rewards)
    assert len(one.returns) == 26


def test_started_processes_have_one_thread(monkeypatch):
    """A variable that is set in the worker comes too late; and here all is as it was."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    spawn = multiprocessing.get_context("spawn")
    with one_thread_each(), ProcessPoolExecutor(1, spawn) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert os.environ["OMP_NUM_THREADS"] == "2" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("starts", ["evaluate", "sweep"])
def test_workers_are_started_with_one_thread(monkeypatch, starts):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    found = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers, context):
            super().__init__(workers)

        def submit(self, *given, **options):
            found.append(os.environ["OPENBLAS_NUM_THREADS"])
            return super().submit(*given, **options)

    monkeypatch.setattr(f"helpers.{starts}.ProcessPoolExecutor", Pool)
    if starts == "evaluate":
        short = dataclasses.replace(TASK, horizon=1)
        evaluate(mean_policy, short, [0, 1], workers=2)
    else:
        with sweep._executor(1, "") as pool:
            pool.submit(str).result()
    assert found == ["1"] and os.environ["OPENBLAS_NUM_THREADS"] == "2"


def test_episodes_that_end_early_are_counted_to_their_end():
    """Other episodes play on; an environment that has ended must not be stepped again."""
    import gymnasium

    from helpers.tasks import TASKS, Task

    class Countdown(gymnasium.Env):
        """Pays 1 a step and terminates after a number of steps that depends on the seed."""

        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.left = 99 if seed is None else seed
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert self.left > 0
            self.left -= 1
            return np.zeros(2, np.float32), 1.0, self.left == 0, False, {}

    gymnasium.register("Countdown-v0", Countdown, max_episode_steps=20)
    task = Task("countdown", "Countdown-v0", 2, 1, 20, 1.0, 1.0, (0.0, 1.0))
    assert "countdown" not in TASKS

    class Idle:
        kept = []

        def reset(self, n):
            self.n = n

        def act(self, observations):
            assert len(observations) == self.n
            return np.zeros((self.n, 1), np.float32)

        def observe(self, rewards):
            assert rewards.tolist() == [1.0] * self.n

        def keep(self, rows):
            self.n = len(rows)
            self.kept.append(rows.tolist())

    played = rollout(Idle(), task, [3, 7, 50])
    assert Idle.kept == [[1, 2], [1]], "whoever has ended leaves the batch"
    assert played.lengths.tolist() == [3, 7, 20]
    assert played.returns.tolist() == [3.0, 7.0, 20.0]


@pytest.mark.parametrize(
    ("layers", "heads", "steps"),
    [(1, 1, 5), (1, 2, 5), (3, 1, 5), (3, 2, 5), (3, 2, 1), (3, 2, 2)],
)
def test_the_agent_sees_the_window_it_should(layers, heads, steps):
    """Step by step, the agent's action is the model's on the last K true steps."""
    agent = small_transformer(np.array([1000.0, -200.0]), layers, heads, steps)
    rng = np.random.default_rng(0)
    agent.reset(2)
    togo, seen, acted = [np.array([1000.0, -200.0])], [], []
    for t in range(60):  # the agent's buffer is full several times
        seen.append(rng.normal(size=(2, 17)).astype(np.float32))
        action = agent.act(seen[-1])
        first = max(0, t + 1 - steps)
        window = range(first, t + 1)
        past = [acted[i] if i < t else np.zeros((2, 6), np.float32) for i in window]
        with torch.no_grad():
            expected = agent.model(
                torch.tensor(np.stack([togo[i] for i in window], 1)).float(),
                torch.tensor(np.stack([seen[i] for i in window], 1)),
                torch.tensor(np.stack(past, 1)),
                torch.arange(first, t + 1).expand(2, -1),
            )[:, -1]
        assert np.allclose(action, expected.numpy(), atol=1e-5)
        acted.append(action)
        reward = rng.normal(size=2)
        agent.observe(reward)
        togo.append(togo[-1] - reward)


def test_an_agent_goes_on_with_those_that_are_left():
    """The other episodes' past must stay with them."""
    rng = np.random.default_rng(0)
    both, one = small_transformer(np.array([1000.0, 500.0])), small_transformer(np.array([500.0]))
    both.reset(2)
    one.reset(1)
    for t in range(12):
        seen, paid = rng.normal(size=(2, 17)).astype(np.float32), rng.normal(size=2) * 100
        if t == 7:
            both.keep(np.array([1]))
        if t >= 7:
            seen, paid = seen[1:], paid[1:]
        assert np.allclose(both.act(seen)[-1:], one.act(seen[-1:]), atol=1e-5)
        both.observe(paid)
        one.observe(paid[-1:])


def test_targets_must_match_the_environments():
    with pytest.raises(ValueError, match="1 target returns for 2 environments"):
        small_transformer(np.array([1.0])).reset(2)


def test_interval_covers_the_mean_and_widens_with_disagreement():
    rng = np.random.default_rng(0)
    same = rng.normal(0, 1, (3, 100))
    apart = same + np.array([[-5.0], [0.0], [5.0]])
    narrow, wide = mean_interval(same), mean_interval(apart)
    assert narrow.low < narrow.score < narrow.high
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_interval_has_about_the_stated_coverage():
    """Within one seed the interval must hold the true mean about 95 times in 100."""
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(200):
        interval = mean_interval(rng.normal(2.0, 1.0, (1, 60)), seed=i)
        hits += interval.low <= 2.0 <= interval.high
    assert 180 <= hits <= 198


def test_the_slope_and_its_interval():
    rng = np.random.default_rng(0)
    asked = np.array([0.0, 1000.0, 2000.0, 4000.0])
    noise = rng.normal(0, 100, (4, 3, 10))
    obedient = slope_interval(asked, asked[:, None, None] + noise)
    deaf = slope_interval(asked, 5000 + noise)
    assert obedient.low < 1 < obedient.high and obedient.high - obedient.low < 0.1
    assert deaf.low < 0 < deaf.high
    assert obedient.score == pytest.approx(np.polyfit(asked, asked + noise.mean((1, 2)), 1)[0])
    # A seed that reacts otherwise to every target widens the interval as episodes cannot.
    mixed = asked[:, None, None] * np.array([0.0, 1.0, 2.0])[None, :, None] + noise
    assert slope_interval(asked, mixed).high - slope_interval(asked, mixed).low > 1
