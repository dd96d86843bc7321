"""Statistics of errors for `claims.yml`, of the models and episodes of `claim_models`.

The definitions are those of the chapter on errors and cost: an action's error is its distance from
what the policy that made the data would do in the same state, without its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from jaxtyping import Float

from helpers.agents import DecisionAgent, TrajectoryAgent
from helpers.analysis.disturbances import watch
from helpers.analysis.errors import actions_on_record, fit_growth
from helpers.analysis.open_loop import open_loop, root_mean_square
from helpers.analysis.statistics import (
    Interval,
    difference_interval,
    mean_interval,
)
from helpers.claim_models import (
    CONTEXT,
    TASK,
    decision_models,
    episodes,
    intended,
    trajectory_models,
)
from helpers.planning.beam import BeamConfig
from helpers.tasks import get_task

FIRST_SEED = 700_000
"""Of the episodes that are played here; no dataset was recorded with it."""
STEPS, SHORT, EDGE = 200, 100, 10
"""Steps of own play; steps in which growth is judged, as in the post; steps at either end."""
HORIZON = 20


def _errors(
    actions: Float[np.ndarray, "*n A"], observations: Float[np.ndarray, "*n S"], profile: str
) -> Float[np.ndarray, "*n"]:
    """Distance from the intended action, in standard deviations of the data's actions."""
    scale = episodes("medium", profile).actions.std(axis=0)
    return root_mean_square((actions - intended(observations)) / scale)


def _steps(profile: str) -> tuple[int, int, int]:
    """`STEPS`, `SHORT` and `EDGE`, or fewer in smoke."""
    return (20, 10, 3) if profile == "smoke" else (STEPS, SHORT, EDGE)


@cache
def _own_decisions(profile: str) -> Float[np.ndarray, "models episodes steps"]:
    """Decision Transformer's errors in its own play, asked for the task's usual return."""
    task, count = get_task(TASK), len(episodes("medium", profile).lengths)
    seeds, found = [FIRST_SEED + i for i in range(count)], []
    for model in decision_models("medium", profile):
        agent = DecisionAgent(model, np.full(count, float(task.target_return)))
        play = watch(agent, task, seeds, _steps(profile)[0])
        found.append(_errors(play.actions, play.observations, profile))
    return np.stack(found)


@cache
def _own_trajectories(profile: str) -> Float[np.ndarray, "models episodes steps"]:
    """Trajectory Transformer's errors in its own play: the likeliest action, without a search."""
    task, found = get_task(TASK), []
    count = len(episodes("medium", profile).lengths) // 2
    for model in trajectory_models(profile):
        context = min(CONTEXT, model.config.context_length - 2)
        greedy = BeamConfig(beam_width=1, expansions=1, horizon=1, temperature=0.0, context=context)
        seeds = [FIRST_SEED + i for i in range(count)]
        play = watch(TrajectoryAgent(model, greedy), task, seeds, _steps(profile)[1])
        found.append(_errors(play.actions, play.observations, profile))
    return np.stack(found)


def _growth(errors: Float[np.ndarray, "models episodes steps"], profile: str) -> Interval:
    """Decimal logarithm of the error at the end of `SHORT` steps over that at their beginning."""
    _, short, edge = _steps(profile)
    first, last = errors[..., :edge].mean(axis=-1), errors[..., short - edge : short].mean(axis=-1)
    return mean_interval(np.log10(last / first))


def dt_error_growth(profile: str) -> Interval:
    """Of Decision Transformer."""
    return _growth(_own_decisions(profile), profile)


def tt_error_stable(profile: str) -> Interval:
    """Negative growth of Trajectory Transformer's."""
    found = _growth(_own_trajectories(profile), profile)
    return found.scaled(-1)


def dt_error_compounds(profile: str) -> Interval:
    """Decision Transformer's error in its own play minus that on recorded states."""
    data, steps = episodes("medium", profile), _steps(profile)[0]
    numbers = np.arange(len(data.lengths))
    seen = data.observations[data.starts[:, None] + np.arange(steps)]
    recorded = [_errors(actions_on_record(model, data, numbers, steps=steps), seen, profile)
                for model in decision_models("medium", profile)]  # fmt: skip
    return mean_interval((_own_decisions(profile) - np.stack(recorded)).mean(axis=-1))


def tt_lower_error(profile: str) -> Interval:
    """Decision Transformer's error minus Trajectory Transformer's, over `SHORT` steps."""
    short = _steps(profile)[1]
    dt, tt = _own_decisions(profile)[..., :short], _own_trajectories(profile)
    return difference_interval(dt.mean(axis=-1), tt.mean(axis=-1))


def tt_dream_stable(profile: str) -> Interval:
    """Negative exponent of the horizon in Trajectory Transformer's open-loop error."""
    data, horizon = episodes("medium", profile), 6 if profile == "smoke" else HORIZON
    inside = data.lengths[:, None] * np.linspace(0.1, 0.9, 3)
    now = (data.starts[:, None] + inside.astype(int)).ravel()
    scale, errors = data.observations.std(axis=0), []
    for model in trajectory_models(profile):
        context = min(CONTEXT, model.config.context_length - 2)
        errors.append(open_loop(model, data, now, context=context, horizon=horizon).errors(scale))
    ahead = np.arange(1, horizon + 1)
    exponent = fit_growth(ahead, np.mean(errors, axis=0), typical=True).power.rate
    return exponent.scaled(-1)


ERRORS: Mapping[str, Callable[[str], Interval]] = {
    function.__name__: function
    for function in (
        dt_error_growth, dt_error_compounds, tt_lower_error, tt_error_stable, tt_dream_stable,
    )
}  # fmt: skip
