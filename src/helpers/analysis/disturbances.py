"""Kicks and noise in play: what becomes of an error once the agent meets its consequences.

Nothing here looks into a method. An agent is wrapped, its actions are disturbed, and what it sees
afterwards is compared with what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium
import numpy as np
from jaxtyping import Float, Int, Real

from helpers.agents import Actions, Agent
from helpers.analysis.open_loop import root_mean_square
from helpers.evaluate import MakeAgent, rollout
from helpers.tasks import Task


class _WrappedAgent:
    """Passes everything on, and knows which of the `n` episodes are still played."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""
        self.agent.reset(n)
        self.n, self.playing, self.step = n, np.arange(n), 0

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Pass on; the step is over."""
        self.agent.observe(rewards)
        self.step += 1

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.agent.keep(rows)
        self.playing = self.playing[rows]


class _ShakenAgent(_WrappedAgent):
    """Draws at every step for all episodes, so that nobody's draws depend on who has ended."""

    def __init__(self, agent: Agent, seed: int) -> None:
        super().__init__(agent)
        self.seed = seed

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws restart."""
        super().reset(n)
        self.rng = np.random.default_rng(self.seed)


class SlippingAgent(_ShakenAgent):
    """An agent of numbered actions whose hand slips: by chance, any action is done instead.

    The agent is not told: in its past stands what it meant to do, and it goes on with a plan that
    no longer fits. An episode that slips at one chance slips at a greater one, too.
    """

    def __init__(self, agent: Agent, actions: int, chance: float, *, seed: int = 0) -> None:
        """Choose.

        Args:
            agent: with numbered actions.
            actions: how many there are; each is equally likely after a slip, the meant one too.
            chance: of a slip, at every step.
            seed: of the draws, which restart with `reset`.

        Raises:
            ValueError: a chance that is none.
        """
        if not 0 <= chance <= 1:
            raise ValueError(f"noise is {chance}; for numbered actions choose a chance, 0 to 1")
        super().__init__(agent, seed)
        self.actions, self.chance = actions, chance

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The agent's actions, or what slipped in."""
        meant = self.agent.act(observations)
        slips = (self.rng.random(self.n) < self.chance)[self.playing]
        others = self.rng.integers(self.actions, size=self.n)[self.playing]
        return np.where(slips, others, meant)


class NoisyAgent(_ShakenAgent):
    """An agent whose hand shakes: Gaussian noise on its actions, clipped to the action box.

    The agent is not told: in its past stands what it meant to do. Every episode has its own draws,
    whether or not others have ended, and those of two standard deviations differ by a factor only.
    """

    def __init__(
        self,
        agent: Agent,
        box: gymnasium.spaces.Box,
        std: float,
        *,
        seed: int = 0,
        only_step: int | None = None,
    ) -> None:
        """Choose.

        Args:
            agent: with continuous actions.
            box: the task's; see `action_box`.
            std: of the noise, as a fraction of half the range of each entry.
            seed: of the draws, which restart with `reset`.
            only_step: the step (0 is the first) with noise; default all.
        """
        super().__init__(agent, seed)
        self.low, self.high = box.low, box.high
        self.std, self.only_step = std, only_step

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The agent's actions and noise."""
        actions = self.agent.act(observations)
        if self.only_step not in (None, self.step):
            return actions
        noise = self.rng.standard_normal((self.n, len(self.low)))[self.playing]
        noisy = actions + self.std * (self.high - self.low) / 2 * noise
        return noisy.clip(self.low, self.high).astype(actions.dtype)


def action_box(task: Task) -> gymnasium.spaces.Box:
    """The bounds of a task's actions.

    Raises:
        ValueError: numbered or unbounded actions.
    """
    env = task.make()
    env.close()
    if not isinstance(env.action_space, gymnasium.spaces.Box) or not env.action_space.is_bounded():
        raise ValueError(f"task {task.name!r} has no bounded continuous actions to add noise to")
    return env.action_space


class RecordedActions:
    """Does what was done before, whatever it sees now: play without feedback."""

    def __init__(self, actions: Float[np.ndarray, "n steps A"]) -> None:
        self.actions = actions

    def reset(self, n: int) -> None:
        """Begin `n` episodes.

        Raises:
            ValueError: there are not actions of `n`.
        """
        if len(self.actions) != n:
            raise ValueError(f"actions of {len(self.actions)} episodes for {n} environments")
        self.n, self.playing, self.step = n, np.arange(n), 0

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The recorded actions."""
        return self.actions[self.playing, self.step]

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """The step is over."""
        self.step += 1

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.playing = self.playing[rows]


class WatchedAgent(_WrappedAgent):
    """Remembers what the agent saw and did at each step."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes, and forget those before."""
        super().reset(n)
        self.log: list[tuple[Int[np.ndarray, " _m"], Real[np.ndarray, "_m S"], Actions]] = []
        """Episodes that were still played, what they saw and what was done."""

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The agent's actions."""
        actions = self.agent.act(observations)
        # A copy: whoever plays uses the array again.
        self.log.append((self.playing, observations.copy(), actions))
        return actions

    def seen(self) -> Float[np.ndarray, "n steps S"]:
        """Observations; NaN behind the end of an episode."""
        return self._padded([(playing, seen) for playing, seen, _ in self.log])

    def done(self) -> Float[np.ndarray, "n steps A"]:
        """Actions; NaN behind the end of an episode."""
        return self._padded([(playing, done) for playing, _, done in self.log])

    def _padded(
        self, log: list[tuple[Int[np.ndarray, " _m"], Float[np.ndarray, "_m X"]]]
    ) -> Float[np.ndarray, "n steps X"]:
        first = log[0][1]
        padded = np.full((self.n, len(log), first.shape[1]), np.nan, first.dtype)
        for step, (playing, rows) in enumerate(log):
            padded[playing, step] = rows
        return padded


@dataclass(frozen=True)
class Watched:
    """What n agents saw and did; NaN behind the end of an episode."""

    observations: Float[np.ndarray, "n steps S"]
    actions: Float[np.ndarray, "n steps A"]
    returns: Float[np.ndarray, " n"]


def watch(agent: Agent, task: Task, seeds: list[int], steps: int) -> Watched:
    """Play the first steps of one episode per seed.

    Args:
        agent: with continuous actions.
        task: where to play.
        seeds: environment seeds.
        steps: how many to play.
    """
    watched = WatchedAgent(agent)
    played = rollout(watched, replace(task, horizon=steps), seeds)
    return Watched(watched.seen(), watched.done(), played.returns)


@dataclass(frozen=True)
class Divergence:
    """n episodes, each played twice; they differ by a kick to the actions of one step."""

    distances: Float[np.ndarray, "n steps"]
    """Root mean square over the observation's entries, each divided by its scale, before each
    action: 0 up to the kicked step, NaN once one of the two episodes has ended."""
    undisturbed: Float[np.ndarray, " n"]
    """Returns over these steps without the kick."""
    disturbed: Float[np.ndarray, " n"]


def divergence(
    make_agent: MakeAgent,
    task: Task,
    seeds: list[int],
    kick_step: int,
    kick: float,
    steps: int,
    *,
    scale: Float[np.ndarray, " S"],
    seed: int = 0,
) -> Divergence:
    """Play the same episodes with and without a kick and see how they part.

    Args:
        make_agent: called for each of the two plays with the task's target return per episode; the
            agent must be deterministic.
        task: where to play, with continuous actions.
        seeds: environment seeds, one an episode; all episodes step together.
        kick_step: the step (0 is the first) whose actions are kicked.
        kick: standard deviation of the kick, as in `NoisyAgent`.
        steps: how many to play, beyond the kick.
        scale: what the distance of each entry is divided by (say, the observations' std).
        seed: of the kick.

    Raises:
        ValueError: numbered actions, no step after the kick, or episodes that part before it.
    """
    if not 0 <= kick_step < steps - 1:
        raise ValueError(f"a kick at step {kick_step} of {steps} leaves nothing to see")
    box, short = action_box(task), replace(task, horizon=steps)
    returns, seen = [], []
    for std in (0.0, kick):
        agent = make_agent(np.full(len(seeds), float(task.target_return)))
        watched = WatchedAgent(NoisyAgent(agent, box, std, seed=seed, only_step=kick_step))
        returns.append(rollout(watched, short, seeds).returns)
        seen.append(watched.seen())
    both = min(play.shape[1] for play in seen)
    distances = np.full((len(seeds), steps), np.nan)
    distances[:, :both] = root_mean_square((seen[1][:, :both] - seen[0][:, :both]) / scale)
    if (distances[:, : kick_step + 1] > 0).any():
        raise ValueError("episodes part before the kick; the agent must be deterministic")
    return Divergence(distances, *returns)
