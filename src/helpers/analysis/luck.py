"""What asking for a return earns in a small world that is known completely.

The data come from a policy that chooses all actions equally often. Everything here is exact: it is
what a return-conditioned model would learn from infinitely many episodes, with nothing left to
blame on training. (`helpers.return_conditioning` counts in finite data, for tasks without states.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from helpers.envs.tables import Table

Chances = dict[float, float]
"""Probability of each return; rewards are whole numbers, so that equal sums are equal."""


@dataclass(frozen=True)
class Conditional:
    """Returns-to-go of a random policy, by the action that comes first."""

    table: Table
    horizon: int
    to_go: list[dict[int, list[Chances]]]
    """By time step, state and action."""

    def returns(self, step: int = 0, state: int = 0) -> Chances:
        """Return-to-go of the random policy itself."""
        return _mix(self.to_go[step][state])

    def actions(self, step: int, state: int, asked: float | int) -> Float[np.ndarray, " A"]:
        """How often each action is taken where that return-to-go follows: P(a | t, s, asked).

        Where none of the policy's episodes has that return-to-go, the nearest one (the lower of
        two) takes its place: what a model makes of such a request is extrapolation.
        """
        known = self.returns(step, state)
        nearest = min(sorted(known), key=lambda value: abs(value - asked))
        chances = np.array([after.get(nearest, 0.0) for after in self.to_go[step][state]])
        return chances / chances.sum()

    def earned(self, asked: float | int, *, likeliest: bool, state: int = 0) -> float:
        """Expected return of an agent that asks, acts, and lowers what it asks by each reward.

        Args:
            asked: at the first step.
            likeliest: take the likeliest action (any of them in turn, if several are) instead of
                drawing one by its probability.
            state: the first.
        """

        @cache
        def value(step: int, here: int, still: float | int) -> float:
            chances = self.actions(step, here, still)
            if likeliest:
                best = np.isclose(chances, chances.max())
                chances = best / best.sum()
            total = 0.0
            for action, chance in enumerate(chances):
                for p, after, reward, ended in self.table[here][action]:
                    over = ended or step + 1 == self.horizon
                    rest = 0.0 if over else value(step + 1, after, still - reward)
                    total += chance * p * (reward + rest)
            return total

        return float(value(0, state, float(asked)))


def condition(table: Table, horizon: int) -> Conditional:
    """Distributions of the return-to-go under random actions, backwards from the horizon."""
    later: dict[int, list[Chances]] = {}
    to_go: list[dict[int, list[Chances]]] = []
    for step in reversed(range(horizon)):
        here: dict[int, list[Chances]] = {}
        for state, actions in table.items():
            here[state] = []
            for outcomes in actions.values():
                chances: Chances = {}
                for p, after, reward, ended in outcomes:
                    over = ended or step + 1 == horizon
                    for rest, q in ({0.0: 1.0} if over else _mix(later[after])).items():
                        chances[reward + rest] = chances.get(reward + rest, 0.0) + p * q
                here[state].append(chances)
        to_go.insert(0, here)
        later = here
    return Conditional(table, horizon, to_go)


def _mix(by_action: list[Chances]) -> Chances:
    """All actions equally often."""
    mixed: Chances = {}
    for chances in by_action:
        for value, p in chances.items():
            mixed[value] = mixed.get(value, 0.0) + p / len(by_action)
    return mixed
