"""How errors grow: laws fitted to them, and errors of single actions along recorded episodes.

Two quantities are easily mixed up: the error *at* step h and the sum of errors *up to* step h. A
constant error a step has a sum that grows linearly. So both have a function here, and none is
compared with the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Real

from helpers.analysis.open_loop import root_mean_square
from helpers.analysis.statistics import RESAMPLES, Interval, percentile_interval
from helpers.data.episodes import Dataset
from helpers.models.decision import DecisionTransformer

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
    horizons: Real[np.ndarray, " H"],
    errors: Float[np.ndarray, "W H"],
    seed: int = 0,
    *,
    typical: bool = False,
) -> Growth:
    """Fit log e = a + b log h and log e = a + b h to the mean over windows, by least squares.

    Where errors differ by orders of magnitude between windows, the largest ones rule the mean;
    `typical` fits the mean of the logarithms instead, that is the geometric mean. Its exponential
    rate is then the mean growth of a window, which for small errors is the Lyapunov exponent.

    A resample draws windows with replacement, each with its errors at all horizons, as these belong
    together. Windows of one episode are not independent: draw few from each.

    Args:
        horizons: steps ahead, such as 1 to H; at least three.
        errors: of W windows at each horizon, not summed up.
        seed: of the resamples.
        typical: fit the geometric mean.

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
    shares = np.concatenate([np.full((1, windows), 1 / windows), times / windows])
    logs = shares @ np.log(errors) if typical else np.log(shares @ errors)
    power, of_power = _law(np.log(horizons), logs)
    exponential, of_exponential = _law(np.asarray(horizons, float), logs)
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


def action_errors(
    model: DecisionTransformer,
    dataset: Dataset,
    episodes: Int[np.ndarray, " E"],
    scale: Float[np.ndarray, " A"],
    *,
    steps: int,
) -> Float[np.ndarray, "E steps"]:
    """Root mean square error of the action at each step along recorded episodes.

    Args:
        model: as for `actions_on_record`.
        dataset: recorded episodes.
        episodes: numbers of those to use.
        scale: what the error of each entry is divided by (say, the actions' std).
        steps: first steps of each episode to use.

    Raises:
        ValueError: as `actions_on_record`.
    """
    predicted = actions_on_record(model, dataset, episodes, steps=steps)
    rows = dataset.starts[episodes][:, None] + np.arange(steps)
    return root_mean_square((predicted - dataset.actions[rows]) / scale)


@torch.inference_mode()
def actions_on_record(
    model: DecisionTransformer,
    dataset: Dataset,
    episodes: Int[np.ndarray, " E"],
    *,
    steps: int,
) -> Float[np.ndarray, "E steps A"]:
    """What the model would do at each step of recorded episodes.

    The model decides from the last K recorded steps and returns-to-go, as in play, but whatever it
    answers, the next state is the recorded one: its errors cannot feed themselves.

    Args:
        model: one for continuous actions; it is left in evaluation mode.
        dataset: recorded episodes.
        episodes: numbers of those to use.
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
    decided = []
    for step, start in zip(window.split(BATCH), first.split(BATCH), strict=True):
        time = step.clamp(min=0)
        rows = start + time
        predicted = model(to_go[rows], observations[rows], recorded[rows], time, step >= 0)
        decided.append(predicted[:, -1].double().numpy())
    return np.concatenate(decided).reshape(len(episodes), steps, -1)
