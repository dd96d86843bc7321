"""Which law a *sum* of errors follows: the law of the sum is not that of its parts.

A sum over steps grows even if no error does, and the sum of exponentially growing errors is not
itself an exponential: it bends on a logarithmic axis until the latest errors outweigh all earlier
ones. So a law for the sum and laws for the errors under it are fitted beside each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from scipy.optimize import least_squares

LAWS: dict[str, Callable[..., np.ndarray]] = {
    "the sum is a power": lambda t, rate: t**rate,
    "the sum is exponential": lambda t, rate: np.exp(rate * t),
    "errors grow linearly": lambda t, rate: t + rate * t**2 / 2,
    "errors grow exponentially": lambda t, rate: np.expm1(rate * t) / rate,
}
"""The sum up to step t under each law, but for its factor; `rate` is what it grows by."""
STARTS = {"the sum is a power": 1.0}
"""Where the search for the rate begins; else at START."""
START = 0.02


@dataclass(frozen=True)
class SumLaw:
    """A sum of errors fitted by factor * LAWS[name](t, rate)."""

    name: str
    factor: float
    rate: float
    residual: float
    """Root mean square of what is left of the logarithm of the sum."""

    def __call__(self, steps: Real[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The fitted sum up to each step."""
        return self.factor * LAWS[self.name](np.asarray(steps, float), self.rate)


def fit_sum(name: str, steps: Real[np.ndarray, " n"], sums: Float[np.ndarray, " n"]) -> SumLaw:
    """Fit one of LAWS to the logarithms by least squares; all of them have two parameters.

    Args:
        name: of the law.
        steps: where the sum was read, above 0.
        sums: of all errors up to there, above 0.

    Raises:
        ValueError: steps or sums that are not above 0, or fewer than three of them.
    """
    steps, logs = np.asarray(steps, float), np.asarray(sums, float)
    if len(steps) < 3 or not (steps > 0).all() or not (logs > 0).all():
        raise ValueError("fit sums above 0 at three steps or more, all above 0")
    logs = np.log(logs)

    def left(log_rate: np.ndarray) -> np.ndarray:
        off = logs - np.log(LAWS[name](steps, np.exp(log_rate[0])))
        return off - off.mean()

    found = least_squares(left, [np.log(STARTS.get(name, START))])
    rate = float(np.exp(found.x[0]))
    factor = float(np.exp((logs - np.log(LAWS[name](steps, rate))).mean()))
    return SumLaw(name, factor, rate, float(np.sqrt(np.square(found.fun).mean())))
