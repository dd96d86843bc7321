"""Every method behind one interface that acts in `n` environments at once."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers.data.policies import Policy
from helpers.envs.grids import grid_layout, unpack
from helpers.models import imitation, value_based
from helpers.models.checkpoints import load_model
from helpers.models.decision import DecisionTransformer
from helpers.models.grid_trajectory import POSE, relative_poses
from helpers.models.leap import Leap
from helpers.models.trajectory import TrajectoryTransformer, load_trajectory
from helpers.planning.beam import BeamConfig, BeamPlanner, ValueFunction
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner, GibbsPlans
from helpers.stitching import GridCritic, VectorCritic, load_critic

Actions = Float[np.ndarray, "n A"] | Int[np.ndarray, " n"]
"""Vectors, or numbers where the task is discrete."""


@runtime_checkable
class Agent(Protocol):
    """What evaluation needs to know of a method."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """Actions for the current observations."""

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Take note of the rewards that followed the last actions."""

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Go on with these of the episodes only; the others have ended."""


class PolicyAgent:
    """A memoryless policy (behaviour policies, behaviour cloning)."""

    def __init__(self, policy: Policy, *, sample: bool, seed: int = 0) -> None:
        self.actor = policy.actor(sample=sample)
        self.seed = seed

    def reset(self, n: int) -> None:
        """Restart the noise."""
        self.rng = np.random.default_rng(self.seed)

    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """The policy's actions."""
        return self.actor(observations, self.rng)

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Nothing to remember."""

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Nothing to forget."""


class MemorylessAgent:
    """A learned policy that looks at the present observation alone (BC, CQL, IQL)."""

    def __init__(self, model: imitation.ClonedPolicy | value_based.QLearner) -> None:
        self.model = model.eval()

    def reset(self, n: int) -> None:
        """Nothing to prepare."""

    @torch.inference_mode()
    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The policy's most likely actions, or those of highest value."""
        return self.model.act(torch.from_numpy(observations)).numpy()

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Nothing to remember."""

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Nothing to forget."""


def memoryless_agent(checkpoint: Path, targets: Float[np.ndarray, " n"]) -> MemorylessAgent:
    """The agent of a saved checkpoint; it does what it learned, whatever the targets."""
    return MemorylessAgent(load_model(checkpoint, imitation.KINDS | value_based.KINDS)[0])


class DecisionAgent:
    """A Decision Transformer that keeps the last K steps and its remaining return.

    After every step the return-to-go is lowered by the reward received (Chen et al. 2021,
    section 3); each environment has its own target.
    """

    def __init__(self, model: DecisionTransformer, targets: Float[np.ndarray, " n"]) -> None:
        self.model = model.eval()
        self.targets = np.asarray(targets, np.float32)

    def reset(self, n: int) -> None:
        """Begin `n` episodes.

        Raises:
            ValueError: there are not `n` targets.
        """
        if len(self.targets) != n:
            raise ValueError(f"{len(self.targets)} target returns for {n} environments")
        config = self.model.config
        self.step = 0
        self.returns_to_go = torch.zeros(n, config.horizon + 1)
        self.returns_to_go[:, 0] = torch.from_numpy(self.targets)
        # The present and the last step; older ones live on in the prepared tokens.
        kind = torch.uint8 if config.grid_size else torch.float32
        self.observations = torch.zeros(n, 2, config.observation_size, dtype=kind)
        self.actions = (
            torch.zeros(n, 2, dtype=torch.int64)
            if config.discrete
            else torch.zeros(n, 2, config.action_size)
        )
        self.window = SlidingWindow(3 * config.context_length - 1)

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """Deterministic actions given the last K steps."""
        scores = self.scores(observations)
        actions = scores.argmax(dim=-1) if self.model.config.discrete else scores
        self.take(actions)
        return actions.numpy()

    @torch.inference_mode()
    def scores(self, observations: Real[np.ndarray, "n S"]) -> Float[Tensor, "n A"]:
        """The actions, or the logits of numbered ones; `take` must follow."""
        t = self.step
        self.observations[:, 1] = torch.from_numpy(observations)
        two = slice(t - 1, t + 1) if t else slice(0, 1)
        tokens = self.model.tokens(
            self.returns_to_go[:, two],
            self.observations[:, two.start - two.stop :],
            self.actions[:, two.start - two.stop :],
            torch.arange(two.start, two.stop).expand(len(observations), -1),
        )
        # Of these, the last action and the present return-to-go and state are new.
        new = self.model.transformer.prepare(tokens[:, -4 if t else 0 : -1])
        self.observations[:, 0] = self.observations[:, 1]
        return self.decide(self.window.append(new))

    def decide(self, prepared: Float[Tensor, "n L P"]) -> Float[Tensor, "n A"]:
        """The model's scores from the last steps; L = 3 K - 1, or fewer at the beginning."""
        return self.model.scores(prepared)

    def take(self, actions: Float[Tensor, "n A"] | Int[Tensor, " n"]) -> None:
        """Note what is done, whoever chose it."""
        self.actions[:, 0] = actions

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Lower the returns-to-go by the rewards."""
        t = self.step
        self.returns_to_go[:, t + 1] = self.returns_to_go[:, t] - torch.from_numpy(rewards).float()
        self.step = t + 1

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.returns_to_go = self.returns_to_go[rows]
        self.observations, self.actions = self.observations[rows], self.actions[rows]
        self.window.keep(rows)


class ElasticAgent(DecisionAgent):
    """A Decision Transformer that looks back as far as promises most (Wu et al. 2023).

    Lengths are tried by doubling, 1, 2, 4, ... steps up to K; of equal estimates the shortest wins.
    """

    def reset(self, n: int) -> None:
        """Begin `n` episodes; `chosen` notes the length of each decision, in steps."""
        super().reset(n)
        self.chosen: list[Int[np.ndarray, " n"]] = []

    def decide(self, prepared: Float[Tensor, "n L P"]) -> Float[Tensor, "n A"]:
        """Scores of each episode with the history of its highest estimate."""
        steps = (prepared.shape[1] + 1) // 3
        lengths = [2**i for i in range(steps.bit_length())]
        lengths = [length for length in lengths if length < steps] + [steps]
        histories = [prepared[:, 1 - 3 * length :] for length in lengths]
        estimates = torch.stack([self.model.estimate(history) for history in histories])
        best = estimates.argmax(dim=0)
        self.chosen.append(np.array(lengths)[best.numpy()])
        scores = prepared.new_empty(len(prepared), self.model.config.action_size)
        for i, history in enumerate(histories):
            if len(rows := (best == i).nonzero()[:, 0]):
                scores[rows] = self.model.scores(history[rows])
        return scores


class SlidingWindow:
    """The last `length` rows of a growing sequence, in a buffer that is seldom shifted."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.filled = 0

    def append(self, rows: Float[Tensor, "n new P"]) -> Float[Tensor, "n L P"]:
        """Add rows at the end; returns a view of the last `length` rows, or of all so far."""
        rows = rows[:, -self.length :]
        n, new, width = rows.shape
        if self.filled == 0:
            self.buffer = rows.new_empty(n, 4 * self.length, width)
        if self.filled + new > self.buffer.shape[1]:
            kept = self.length - new
            self.buffer[:, :kept] = self.buffer[:, self.filled - kept : self.filled].clone()
            self.filled = kept
        self.buffer[:, self.filled : self.filled + new] = rows
        self.filled += new
        return self.buffer[:, max(0, self.filled - self.length) : self.filled]

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other sequences."""
        self.buffer = self.buffer[rows]


class TrajectoryAgent:
    """A Trajectory Transformer that plans by beam search from its last steps.

    Observations outside the range of the data fall into the outermost bins.
    """

    def __init__(
        self,
        model: TrajectoryTransformer,
        config: BeamConfig,
        *,
        seed: int = 0,
        value: ValueFunction | None = None,
    ) -> None:
        self.planner = BeamPlanner(model, config, value=value)
        self.discretiser = model.discretiser
        self.shape, self.config, self.seed = model.config, config, seed

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws of the planner restart."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.rows = np.zeros((n, self.shape.step_size))
        self.past = torch.zeros(n, 0, dtype=torch.int64)
        self.planned: list[np.ndarray] = []

    def act(self, observations: Float[np.ndarray, "n S"]) -> Float[np.ndarray, "n A"]:
        """The next actions of the present plans, or the first ones of new plans."""
        size = self.shape.observation_size
        self.rows[:, :size] = observations
        if not self.planned:
            tokens = torch.from_numpy(self.discretiser.encode(self.rows))[:, :size]
            plans = self.planner.plan(torch.cat([self.past, tokens], dim=1), self.generator)
            self.planned = list(plans.actions[:, : self.config.plan_every].swapaxes(0, 1))
        actions = self.planned.pop(0)
        self.rows[:, size:-2] = actions
        return actions

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Add the step to the past; its value is unknown, and nothing looks at it."""
        self.rows[:, -2] = rewards
        tokens = torch.from_numpy(self.discretiser.encode(self.rows))
        keep = self.config.context * self.shape.step_size
        grown = torch.cat([self.past, tokens], dim=1)
        self.past = grown[:, max(0, grown.shape[1] - keep) :]

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.rows, self.past = self.rows[rows], self.past[rows]
        self.planned = [actions[rows] for actions in self.planned]


def trajectory_agent(
    checkpoint: Path,
    targets: Float[np.ndarray, " n"],
    config: BeamConfig | None = None,
    critic: Path | None = None,
) -> TrajectoryAgent | GridTrajectoryAgent:
    """The agent of a saved checkpoint; it asks for as much as it can get, whatever the targets.

    Args:
        checkpoint: of a Trajectory Transformer.
        targets: one an episode.
        config: of the search.
        critic: checkpoint of a value-based learner that ranks candidates (TT+Q).
    """
    model, _ = load_trajectory(checkpoint)
    learner = load_critic(critic) if critic else None
    if model.config.grid_size:
        value = GridCritic(learner) if learner else None
        return GridTrajectoryAgent(model, config or BeamConfig(), value=value)
    value = VectorCritic(learner) if learner else None
    return TrajectoryAgent(model, config or BeamConfig(), value=value)


class GridTrajectoryAgent:
    """A Trajectory Transformer on grid levels.

    Plans from the last steps, and from map and mission as the oldest of them saw these.
    """

    def __init__(
        self,
        model: TrajectoryTransformer,
        config: BeamConfig,
        *,
        seed: int = 0,
        value: GridCritic | None = None,
    ) -> None:
        self.planner = BeamPlanner(model, config, value=value)
        self.model, self.config, self.seed = model, config, seed
        self.layout = grid_layout(model.config.grid_size, model.config.grid_size)

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws of the planner restart."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.seen: list[np.ndarray] = []
        self.taken: list[np.ndarray] = []
        self.planned: list[np.ndarray] = []

    @torch.inference_mode()
    def act(self, observations: Real[np.ndarray, "n S"]) -> Int[np.ndarray, " n"]:
        """The next actions of the present plans, or the first ones of new plans."""
        self.seen = [*self.seen, observations.copy()][-self.config.context - 1 :]
        if not self.planned:
            first = torch.from_numpy(self.seen[0])
            prefix = self.model.embed_map(first)[:, None]
            if self.planner.value is not None:
                self.planner.value.look(first)
            plans = self.planner.plan(self._tokens(), self.generator, prefix=prefix)
            actions = plans.actions[:, : self.config.plan_every, 0].round().astype(np.int64)
            self.planned = list(actions.T)
        actions = self.planned.pop(0)
        self.taken = [*self.taken, actions][-self.config.context :] if self.config.context else []
        return actions

    def _tokens(self) -> Int[Tensor, "n P"]:
        """The past in the frame of its first step; nothing was paid yet, or it would be over."""
        packed = torch.from_numpy(np.stack(self.seen, axis=1))  # (n, steps, S)
        poses = unpack(packed, self.layout)["pose"]
        numbers = np.zeros((*poses.shape[:2], self.model.config.step_size))
        numbers[..., :POSE] = relative_poses(poses, poses[:, 0]).numpy()
        if self.taken:
            numbers[:, :-1, POSE] = np.stack(self.taken, axis=1)
        tokens = torch.from_numpy(self.model.discretiser.encode(numbers)).flatten(1)
        return tokens[:, : tokens.shape[1] - (self.model.config.step_size - POSE)]

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """A reward is the end."""

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.seen = [observations[rows] for observations in self.seen]
        self.taken = [actions[rows] for actions in self.taken]
        self.planned = [actions[rows] for actions in self.planned]


class LeapAgent:
    """A LEAP model that carries out a plan, or its beginning, before it makes the next one.

    Environments whose plans have run out are planned for together.
    """

    def __init__(self, model: Leap, config: GibbsConfig, *, seed: int = 0) -> None:
        self.model, self.planner = model, GibbsPlanner(model, config)
        self.steps = config.plan_every or model.config.plan_length
        self.seed = seed

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws of the planner restart."""
        self.generator = torch.Generator().manual_seed(self.seed)
        self.plans = np.zeros((n, self.planner.length), np.int64)
        self.lengths, self.done = np.zeros(n, int), np.zeros(n, int)

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The next actions of the present plans, or the first ones of new plans."""
        over = np.flatnonzero(self.done >= self.lengths)
        if len(over):
            plans = self.plan(observations[over])
            self.plans[over], self.done[over] = plans.actions, 0
            self.lengths[over] = np.minimum(plans.lengths, self.steps)
        actions = self.plans[np.arange(len(observations)), self.done]
        self.done += 1
        return self.model.decode(actions)

    def plan(self, observations: Real[np.ndarray, "n S"]) -> GibbsPlans:
        """New plans."""
        return self.planner.plan(torch.from_numpy(observations), self.generator)

    def observe(self, rewards: Float[np.ndarray, " n"]) -> None:
        """Rewards do not enter the plan."""

    def keep(self, rows: Int[np.ndarray, " m"]) -> None:
        """Forget the other episodes."""
        self.plans, self.lengths, self.done = self.plans[rows], self.lengths[rows], self.done[rows]
