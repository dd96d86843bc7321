"""Checks of the chapter on what comes after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from helpers.exercises.compare import compare, passed


def check_raised_returns(raised_returns: Callable[[np.ndarray, np.ndarray], ArrayLike]) -> None:
    """Chapter 11: returns-to-go that a critic's values have raised."""
    rewards, values = np.array([0.0, 1.0, 0.0, 0.5]), np.array([4.0, 0.3, 2.0, 0.2])

    def raised(choose: Callable[[int, float], float]) -> np.ndarray:
        labels = rewards.copy()
        for t in range(len(rewards) - 2, -1, -1):
            labels[t] += choose(t, labels[t + 1])
        return labels

    plain = rewards[::-1].cumsum()[::-1]
    compare(
        raised_returns(rewards.copy(), values.copy()),
        raised(lambda t, after: max(after, values[t + 1])),
        {
            "these are the recorded returns-to-go; no value has raised them": plain,
            "you compared with V(s_t); what is open is what follows the next state": raised(
                lambda t, after: max(after, values[t])
            ),
            "you raised a label after the next one had used it; go backwards": rewards
            + np.append(np.maximum(plain[1:], values[1:]), 0.0),
            "the value replaces what followed only where it is higher": raised(
                lambda t, after: values[t + 1]
            ),
        },
        what="raised returns",
    )
    passed("raised returns")


def check_reach(reach: Callable[[int, int], int]) -> None:
    """Chapter 11: tokens that a sliding window reaches through several layers."""
    cases = np.array([(12, 3), (2, 5), (1, 4), (8, 1)])
    window, layers = cases.T
    compare(
        [reach(int(w), int(n)) for w, n in cases],
        layers * (window - 1),
        {
            "the window holds the token itself: it looks at one fewer before it": layers * window,
            "a window of w tokens is shared by all layers in yours; each layer adds to it": window
            - 1,
            "reach adds up from layer to layer; it does not multiply": (window - 1) ** layers,
        },
        what="reach",
    )
    passed("reach")


def check_choose_history(
    choose_history: Callable[[np.ndarray, np.ndarray], ArrayLike],
) -> None:
    """Chapter 11: the history of the highest estimate, of equal ones the shortest."""
    lengths = np.array([10, 1, 4])
    estimates = np.array([[0.2, 0.9, 0.9], [0.7, 0.1, 0.3], [0.5, 0.5, 0.5], [0.0, 0.1, 0.4]])
    by_length = np.argsort(lengths)
    compare(
        choose_history(estimates.copy(), lengths.copy()),
        np.array([1, 10, 1, 4]),
        {
            "of equal estimates you took the first in the order given; take the shortest": lengths[
                estimates.argmax(axis=1)
            ],
            "of equal estimates you took the longest": lengths[by_length][::-1][
                estimates[:, by_length][:, ::-1].argmax(axis=1)
            ],
            "these are columns; return the lengths that belong to them": estimates.argmax(axis=1),
            "you took the lowest estimate": lengths[by_length][
                estimates[:, by_length].argmin(axis=1)
            ],
        },
        what="history",
    )
    passed("history")
