"""Another world than the data's: a MuJoCo body under changed physics, or thrown into its start.

A recorded set comes from one simulator, and methods are evaluated in the same one. To ask what
becomes of a trained model where states and consequences differ from those of its data, these
wrappers change one property of the world by a factor. Nobody is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium

from helpers.names import look_up
from helpers.tasks import Task

SHIFTS = {
    "gravity": "gravity",
    "friction": "friction between body and ground",
    "damping": "damping of the joints",
    "start": "noise on the first state",
}
"""What can be changed by a factor, in words."""


class Shifted(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """A MuJoCo environment whose world differs by factors; 1 leaves a property as it is.

    Each environment has a compiled model of its own, which is changed once, when it is wrapped: no
    other environment notices, and a fresh one has the old world again. Draws do not change, so that
    two factors of `start` throw the body the same way, one further than the other.

    Args:
        env: one of Gymnasium's MuJoCo environments.
        gravity: factor of the pull of gravity.
        friction: of the friction of every surface. MuJoCo takes the larger of the two that meet.
        damping: of the viscous damping of every joint. Stiffness stays.
        start: of the noise that `reset` adds to positions and velocities.

    Raises:
        ValueError: a factor that is no positive number, another kind of environment, or one that
            adds no noise when it is reset.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        gravity: float | int = 1.0,
        friction: float | int = 1.0,
        damping: float | int = 1.0,
        start: float | int = 1.0,
    ) -> None:
        factors = {"gravity": gravity, "friction": friction, "damping": damping, "start": start}
        gymnasium.utils.RecordConstructorArgs.__init__(self, **factors)
        super().__init__(env)
        for name, factor in factors.items():
            _check_factor(name, factor)
        world = _mujoco(env)
        world.model.opt.gravity[:] *= gravity
        world.model.geom_friction[:] *= friction
        world.model.dof_damping[:] *= damping
        if start != 1.0:
            if not hasattr(world, "_reset_noise_scale"):
                raise ValueError(f"{_id(env)} has no noise on its first state to change")
            world._reset_noise_scale *= start


def _mujoco(env: gymnasium.Env) -> Any:
    from gymnasium.envs.mujoco import MujocoEnv  # which imports MuJoCo

    if not isinstance(env.unwrapped, MujocoEnv):
        raise ValueError(
            f"{_id(env)} is none of Gymnasium's MuJoCo environments; its world cannot be changed"
        )
    return env.unwrapped


def _id(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def _check_factor(name: str, factor: Any) -> None:
    if type(factor) not in (int, float) or not 0.0 < factor < math.inf:
        raise ValueError(f"factor of {name} is {factor!r}; write a number above 0")


def check_shifts(shifts: Mapping[str, Any]) -> None:
    """Raise if these are not factors by the name of what they change.

    Raises:
        UnknownName: no such property of the world.
        ValueError: not a list of different positive numbers.
    """
    for name, factors in shifts.items():
        look_up(SHIFTS, name, "shift")
        if not isinstance(factors, list | tuple) or not factors:
            raise ValueError(f"factors of {name} are {factors!r}; write a list of numbers")
        for factor in factors:
            _check_factor(name, factor)
        if len(set(factors)) < len(factors):
            raise ValueError(f"factors of {name} are {factors}; name each of them once")


def shifted(task: Task, name: str, factor: float | int) -> Task:
    """The task in a world where that property of `SHIFTS` is multiplied by the factor.

    Raises:
        UnknownName: no such property.
        ValueError: as of `Shifted`, at once and not in the middle of an evaluation.
    """
    look_up(SHIFTS, name, "shift")
    changed = replace(task, wrappers=(partial(Shifted, **{name: factor}), *task.wrappers))
    changed.make().close()
    return changed
