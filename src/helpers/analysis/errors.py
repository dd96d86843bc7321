"""How errors grow: laws fitted to them, errors of single actions, and kicks and noise in play.

Two quantities are easily mixed up: the error *at* step h and the sum of errors *up to* step h. A
constant error a step has a sum that grows linearly. So both have a function here, and none is
compared with the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int, Real

from helpers.agents import Actions, Agent
from helpers.analysis.open_loop import root_mean_square
from helpers.analysis.statistics import RESAMPLES, Interval, percentile_interval
from helpers.data.episodes import Dataset
from helpers.evaluate import MakeAgent, rollout
from helpers.models.decision import DecisionTransformer
from helpers.tasks import Task

BATCH = 256
"""Windows that a model is given at once."""
ROUNDING = 1e-10
"""Residuals below this are rounding: of two perfect fits none is the better one."""

# --- growth over a horizon ---------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """A straight line for log e, over log h (power law) or over h (exponential)."""

    intercept: float
    """a, the logarithm of the error where the line begins (h = 1, or h = 0)."""
    rate: Interval
    """b, the exponent of h, or the growth of log e in a step."""
    residual: float
    """Root mean square over the horizons of what the line leaves of log e."""


@dataclass(frozen=True)
class Growth:
    """Both laws for one table of errors, and which of them describes it better."""

    power: Law
    exponential: Law
    aic: Interval
    """AIC of the exponential minus that of the power law: positive is for the power law.

    The interval is cautious: resampling adds noise to means that have noise already, and noise
    makes two laws more alike. With many horizons the score lies outside, further from 0.
    """

    @property
    def better(self) -> str:
        """The law with the lower AIC, or 'undecided' where the interval includes 0."""
        if self.aic.low <= 0 <= self.aic.high:
            return "undecided"
        return "power law" if self.aic.low > 0 else "exponential"


def fit_growth(
    horizons: Real[np.ndarray, " H"], errors: Float[np.ndarray, "W H"], seed: int = 0
) -> Growth:
    """Fit log e = a + b log h and log e = a + b h to the mean over windows, by least squares.

    A resample draws windows with replacement, each with its errors at all horizons, as these belong
    together. Windows of one episode are not independent: draw few from each.

    Args:
        horizons: steps ahead, such as 1 to H; at least three.
        errors: of W windows at each horizon, not summed up.
        seed: of the resamples.

    Raises:
        ValueError: fewer than three horizons, one that is not above 0, or errors that are not
            above 0 or not finite; names the horizon.
    """
    if len(horizons) < 3 or (horizons <= 0).any():
        raise ValueError(f"horizons must be above 0 and at least three; these are {horizons}")
    bad = ~((errors > 0) & np.isfinite(errors))
    if bad.any():
        column = int(np.argmax(bad.any(axis=0)))
        raise ValueError(
            f"errors must be finite and above 0, as their logarithms are fitted; at horizon "
            f"{horizons[column]} they are not in {int(bad[:, column].sum())} of {len(errors)} "
            "windows"
        )
    windows = len(errors)
    # How often each window is drawn, instead of the drawn windows: H numbers a resample.
    times = np.random.default_rng(seed).multinomial(
        windows, np.full(windows, 1 / windows), size=RESAMPLES
    )
    means = np.concatenate([errors.mean(axis=0)[None], times @ errors / windows])
    power, of_power = _law(np.log(horizons), np.log(means))
    exponential, of_exponential = _law(np.asarray(horizons, float), np.log(means))
    # AIC = H log(residual^2) + twice the number of parameters, which is the same for both.
    aic = 2 * len(horizons) * np.log(of_exponential / of_power)
    return Growth(power, exponential, percentile_interval(aic[0], aic[1:]))


def _law(
    x: Float[np.ndarray, " H"], logs: Float[np.ndarray, "R H"]
) -> tuple[Law, Float[np.ndarray, " R"]]:
    """Lines through all rows, of which the first one is no resample; and their residuals."""
    centred = x - x.mean()
    rates = logs @ centred / np.square(centred).sum()
    intercepts = logs.mean(axis=1) - rates * x.mean()
    residuals = root_mean_square(logs - intercepts[:, None] - rates[:, None] * x)
    law = Law(float(intercepts[0]), percentile_interval(rates[0], rates[1:]), float(residuals[0]))
    return law, residuals.clip(min=ROUNDING)


def cumulative(errors: Float[np.ndarray, "*n H"]) -> Float[np.ndarray, "*n H"]:
    """Sum of the errors up to each horizon; a power law h^b a step sums up to about h^(b + 1)."""
    return errors.cumsum(axis=-1)


def local_slopes(
    horizons: Real[np.ndarray, " H"], mean_errors: Float[np.ndarray, " H"]
) -> Float[np.ndarray, " H"]:
    """Slope d log e / d log h by finite differences: constant for a power law, b h for exp(b h)."""
    return np.gradient(np.log(mean_errors), np.log(horizons))


# --- errors of single actions ------------------------------------------------------------------


@torch.inference_mode()
def action_errors(
    model: DecisionTransformer,
    dataset: Dataset,
    episodes: Int[np.ndarray, " E"],
    scale: Float[np.ndarray, " A"],
    *,
    steps: int,
) -> Float[np.ndarray, "E steps"]:
    """Root mean square error of the action at each step along recorded episodes.

    The model decides from the last K recorded steps and returns-to-go, as in play, but whatever it
    answers, the next state is the recorded one: its errors cannot feed themselves.

    Args:
        model: one for continuous actions; it is left in evaluation mode.
        dataset: recorded episodes.
        episodes: numbers of those to use.
        scale: what the error of each entry is divided by (say, the actions' std).
        steps: first steps of each episode to use.

    Raises:
        ValueError: numbered actions, an episode of fewer steps, or more steps than the model knows.
    """
    if model.config.discrete:
        raise ValueError("numbered actions have no root mean square error")
    chosen = dataset.select(episodes.tolist())
    shortest, horizon = int(chosen.lengths.min()), model.config.horizon
    if steps > min(shortest, horizon):
        raise ValueError(
            f"{steps} steps are more than the shortest of the episodes ({shortest}) or the model's "
            f"horizon ({horizon})"
        )
    model.eval()
    to_go, observations, recorded = (
        torch.from_numpy(values).float()
        for values in (chosen.returns_to_go(), chosen.observations, chosen.actions)
    )
    # Window t of an episode ends with its step t, and is padded before its first step.
    window = torch.arange(steps)[:, None] + torch.arange(1 - model.config.context_length, 1)
    window = window.repeat(len(episodes), 1)
    first = torch.from_numpy(chosen.starts).repeat_interleave(steps)[:, None]
    errors = []
    for step, start in zip(window.split(BATCH), first.split(BATCH), strict=True):
        time = step.clamp(min=0)
        rows = start + time
        actions = recorded[rows]
        predicted = model(to_go[rows], observations[rows], actions, time, step >= 0)
        errors.append(root_mean_square((predicted - actions)[:, -1].double().numpy() / scale))
    return np.concatenate(errors).reshape(len(episodes), steps)


# --- disturbances in play ----------------------------------------------------------------------


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


class NoisyAgent(_WrappedAgent):
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
        super().__init__(agent)
        self.low, self.high = box.low, box.high
        self.std, self.seed, self.only_step = std, seed, only_step

    def reset(self, n: int) -> None:
        """Begin `n` episodes; the draws restart."""
        super().reset(n)
        self.rng = np.random.default_rng(self.seed)

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


class _WatchedAgent(_WrappedAgent):
    """Remembers what the agent saw at each step; NaN for episodes that have ended."""

    def reset(self, n: int) -> None:
        """Begin `n` episodes."""
        super().reset(n)
        self.seen: list[Float[np.ndarray, "n S"]] = []

    def act(self, observations: Real[np.ndarray, "n S"]) -> Actions:
        """The agent's actions."""
        seen = np.full((self.n, observations.shape[1]), np.nan)
        seen[self.playing] = observations
        self.seen.append(seen)
        return self.agent.act(observations)


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
        watched = _WatchedAgent(NoisyAgent(agent, box, std, seed=seed, only_step=kick_step))
        returns.append(rollout(watched, short, seeds).returns)
        seen.append(np.stack(watched.seen, axis=1))
    both = min(play.shape[1] for play in seen)
    distances = np.full((len(seeds), steps), np.nan)
    distances[:, :both] = root_mean_square((seen[1][:, :both] - seen[0][:, :both]) / scale)
    if (distances[:, : kick_step + 1] > 0).any():
        raise ValueError("episodes part before the kick; the agent must be deterministic")
    return Divergence(distances, *returns)
