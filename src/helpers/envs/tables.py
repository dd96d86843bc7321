"""Small problems that are known completely: their best return is computed, not estimated.

An environment of Gymnasium's toy_text family carries its transition table
`P[state][action] = [(probability, next state, reward, terminated), ...]`; dynamic programming over
it gives what the best policy earns, to which every learned one can be compared.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Int

Table = dict[int, dict[int, list[tuple[float, int, float | int, bool]]]]

SAFE, GAMBLE = 0, 1


class Gamble(gymnasium.Env):
    """Five rounds, each with a sure 1 or a bet that pays 5 or costs 3 (after Paster et al. 2022).

    The bet wins with probability 1/4, so it loses 1 on average: whoever always plays safe earns 5,
    the best that can be expected, and every return above 5 is luck. The state is the round.
    """

    rounds = 5
    win, loss, chance = 5.0, -3.0, 0.25

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(self.rounds + 1)
        self.action_space = spaces.Discrete(2)
        self.P: Table = {}
        for t in range(self.rounds):
            end = t == self.rounds - 1
            self.P[t] = {
                SAFE: [(1.0, t + 1, 1.0, end)],
                GAMBLE: [
                    (self.chance, t + 1, self.win, end),
                    (1 - self.chance, t + 1, self.loss, end),
                ],
            }
        self.P[self.rounds] = {a: [(1.0, self.rounds, 0.0, True)] for a in (SAFE, GAMBLE)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin with the first round."""
        super().reset(seed=seed)
        self.s = 0
        return self.s, {}

    def step(self, action: int | np.integer) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Play a round."""
        outcomes = self.P[self.s][int(action)]
        drawn = self.np_random.choice(len(outcomes), p=[outcome[0] for outcome in outcomes])
        _, self.s, reward, terminated = outcomes[drawn]
        return self.s, reward, terminated, False, {}


class StartAt(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Starts a toy_text environment in a given state; `reset` may name another one.

    Args:
        env: with its state in `s`, as FrozenLake has.
        state: where episodes begin unless `options={"state": ...}` says otherwise.
    """

    def __init__(self, env: gymnasium.Env, state: int) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, state=state)
        super().__init__(env)
        self.state = state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin there."""
        _, info = self.env.reset(seed=seed)
        self.env.unwrapped.s = (options or {}).get("state", self.state)
        return self.env.unwrapped.s, info


def best_values(
    table: Table, horizon: int
) -> tuple[Float[np.ndarray, "steps S"], Int[np.ndarray, "T S"]]:
    """Dynamic programming backwards from the horizon T (Bellman 1957), undiscounted.

    Returns:
        Best expected return from each state with t = 0..T steps gone (the last row is 0), and the
        best action at each of the T steps.
    """
    states, actions = len(table), len(table[0])
    values = np.zeros((horizon + 1, states))
    choices = np.zeros((horizon, states), int)
    for t in reversed(range(horizon)):
        for s in range(states):
            q = [
                sum(p * (r + (0.0 if end else values[t + 1, s2])) for p, s2, r, end in table[s][a])
                for a in range(actions)
            ]
            choices[t, s] = int(np.argmax(q))
            values[t, s] = max(q)
    return values, choices
