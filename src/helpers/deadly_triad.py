"""Baird's counterexample, learned offline: which leg of the deadly triad makes values diverge.

The problem is that of Baird 1995 in the form of Sutton and Barto 2018, section 11.2. There are
seven states. The action *solid* leads to the seventh state; *dashed* leads to one of the first six,
each as likely. The behaviour policy takes solid with probability 1/7, the target policy always.
All rewards are zero, so every value is zero and any other estimate is an error.

Departures from the book:

- the data are one fixed trajectory of the behaviour policy, sampled before learning begins; every
  learner draws its updates from the same transitions, in the same order;
- the step size 0.02 of the linear learners is twice the book's. A table takes 0.1, because a
  feature vector has squared length 5: both then move the visited estimate by the same amount;
- `solid_reward` can pay for the solid action, which makes values differ from zero.

For predictions v of the seven states, the expected update on the data is v + step (b - M v) with
M = K D (I - discount P): K holds the inner products of the features, D the weight of each state in
the data, P the transitions. Learning converges where every eigenvalue of M has a positive real
part (and the step is small), and diverges when one is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

STATES = 7
SOLID = 1.0 / STATES
"""Probability of the solid action under the behaviour policy."""


@dataclass(frozen=True)
class Baird:
    """The decision problem and the size of the data set."""

    discount: float = 0.99
    transitions: int = 1000
    solid_reward: float = 0.0
    """Paid for each solid action; 0 in the original."""


@dataclass(frozen=True)
class Transitions:
    """A recorded trajectory of N transitions."""

    states: Int[np.ndarray, " N"]
    solid: Bool[np.ndarray, " N"]
    rewards: Float[np.ndarray, " N"]
    next_states: Int[np.ndarray, " N"]
    returns: Float[np.ndarray, " N"]
    """Discounted return observed from each transition on."""


@dataclass(frozen=True)
class Learner:
    """A way to learn values, by the legs of the triad that it keeps."""

    function_approximation: bool = True
    """Eight shared linear features; a table with one entry per state otherwise."""
    off_policy: bool = True
    """Ask for the target policy's values, weighting each update by 7 or 0; else the behaviour's."""
    bootstrapping: bool = True
    """Learn from reward + discount * next estimate; from the observed return otherwise."""

    @property
    def features(self) -> Float[np.ndarray, "S F"]:
        """One row of features per state."""
        return linear_features() if self.function_approximation else np.eye(STATES)

    @property
    def initial_weights(self) -> Float[np.ndarray, " F"]:
        """The book's initial weights, or a table that starts from the same predictions."""
        weights = np.array([1.0, 1, 1, 1, 1, 1, 10, 1])
        return weights if self.function_approximation else linear_features() @ weights

    @property
    def step_size(self) -> float:
        """0.1 over the squared length of a feature vector."""
        return 0.1 / float(np.sum(self.features[0] ** 2))


@dataclass(frozen=True)
class Curves:
    """What a group of runs, one per seed, records while learning."""

    steps: Int[np.ndarray, " R"]
    """Number of updates done at each record."""
    values: Float[np.ndarray, "seeds R S"]
    """Predicted value of each state."""
    weight_norms: Float[np.ndarray, "seeds R"]

    def errors(self, true_value: float = 0.0) -> Float[np.ndarray, "seeds R"]:
        """Root mean squared error over the seven states."""
        return np.sqrt(np.mean((self.values - true_value) ** 2, axis=-1))


def linear_features() -> Float[np.ndarray, "S F"]:
    """The eight features: 2 w_i + w_8 for the first six states, w_7 + 2 w_8 for the seventh."""
    features = np.zeros((STATES, STATES + 1))
    features[:6, :6] = 2.0 * np.eye(6)
    features[:6, 7] = 1.0
    features[6, 6:] = 1.0, 2.0
    return features


def true_value(problem: Baird, off_policy: bool = True) -> float:
    """Value of every state, under the target policy or under the behaviour policy."""
    return (1.0 if off_policy else SOLID) * problem.solid_reward / (1.0 - problem.discount)


def sample_transitions(problem: Baird, rng: np.random.Generator) -> Transitions:
    """One trajectory of the behaviour policy.

    It goes on for 1,000 more steps that only complete the returns of the recorded ones.
    """
    length = problem.transitions + 1000
    solid = rng.random(length) < SOLID
    next_states = np.where(solid, STATES - 1, rng.integers(0, STATES - 1, length))
    states = np.concatenate([rng.integers(0, STATES, 1), next_states[:-1]])
    rewards = problem.solid_reward * solid
    returns = np.zeros(length + 1)
    for index in reversed(range(length)):
        returns[index] = rewards[index] + problem.discount * returns[index + 1]
    kept = slice(0, problem.transitions)
    return Transitions(states[kept], solid[kept], rewards[kept], next_states[kept], returns[kept])


def learn(
    learner: Learner,
    problem: Baird,
    data: list[Transitions],
    order: Int[np.ndarray, "steps seeds"],
    record_at: Int[np.ndarray, " R"],
) -> Curves:
    """Semi-gradient updates on recorded transitions, all seeds side by side.

    Args:
        learner: which legs of the triad it keeps.
        problem: for its discount.
        data: one data set per seed.
        order: which transition each update uses, from `update_order`.
        record_at: numbers of updates after which to record, ascending, from `record_points`.
    """
    steps, seeds = order.shape
    column = np.arange(seeds)
    drawn = {
        name: np.stack([getattr(one, name) for one in data])[column, order]
        for name in ("states", "solid", "rewards", "next_states", "returns")
    }
    ratios = np.where(drawn["solid"], 1.0 / SOLID, 0.0)
    scale = learner.step_size * (ratios if learner.off_policy else np.ones_like(ratios))
    features = learner.features
    weights = np.tile(learner.initial_weights, (seeds, 1))
    wanted, values, norms = set(record_at.tolist()), [], []
    for step in range(steps + 1):
        if step in wanted:
            values.append(weights @ features.T)
            norms.append(np.linalg.norm(weights, axis=1))
        if step == steps:
            break
        here = features[drawn["states"][step]]
        target = drawn["returns"][step]
        if learner.bootstrapping:
            there = features[drawn["next_states"][step]]
            target = drawn["rewards"][step] + problem.discount * np.sum(weights * there, axis=1)
        error = target - np.sum(weights * here, axis=1)
        weights = weights + (scale[step] * error)[:, None] * here
    return Curves(record_at, np.stack(values, axis=1), np.stack(norms, axis=1))


def clone(
    data: list[Transitions],
    order: Int[np.ndarray, "steps seeds"],
    record_at: Int[np.ndarray, " R"],
) -> Float[np.ndarray, "seeds R"]:
    """Behaviour cloning: logistic regression of the action, same features and initial weights.

    Returns:
        Cross-entropy on all recorded transitions, in nats, less the least that any policy of the
        state can reach on them.
    """
    steps, seeds = order.shape
    column = np.arange(seeds)
    states, solid = (np.stack([getattr(one, name) for one in data]) for name in ("states", "solid"))
    share = np.stack([np.bincount(row, minlength=STATES) for row in states]) / states.shape[1]
    taken = np.stack(
        [np.bincount(s, a, minlength=STATES) for s, a in zip(states, solid, strict=True)]
    )
    frequency = taken / states.shape[1] / share
    learner = Learner()
    weights = np.tile(learner.initial_weights, (seeds, 1))
    wanted, excess = set(record_at.tolist()), []
    for step in range(steps + 1):
        if step in wanted:
            logits = weights @ learner.features.T
            excess.append(np.sum(share * _relative_entropy(frequency, logits), axis=1))
        if step == steps:
            break
        here = learner.features[states[column, order[step]]]
        error = solid[column, order[step]] - _sigmoid(np.sum(weights * here, axis=1))
        weights = weights + learner.step_size * error[:, None] * here
    return np.stack(excess, axis=1)


def _sigmoid(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _relative_entropy(
    p: Float[np.ndarray, "seeds S"], logits: Float[np.ndarray, "seeds S"]
) -> Float[np.ndarray, "seeds S"]:
    """KL divergence of a Bernoulli model with these logits from Bernoulli(p), in nats."""
    cross_entropy = np.logaddexp(0.0, logits) - p * logits
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(p * np.log(p)) - np.nan_to_num((1 - p) * np.log(1 - p))
    return cross_entropy - entropy


def update_matrix(learner: Learner, problem: Baird, data: Transitions) -> Float[np.ndarray, "S S"]:
    """M = K D (I - discount P) of one data set; without bootstrapping M = K D."""
    ratio = np.where(data.solid, 1.0 / SOLID, 0.0) if learner.off_policy else 1.0
    here, there = np.eye(STATES)[data.states], np.eye(STATES)[data.next_states]
    change = here - problem.discount * there if learner.bootstrapping else here
    weighted = (here * np.broadcast_to(ratio, data.states.shape)[:, None]).T @ change
    features = learner.features
    return features @ features.T @ weighted / len(data.states)


def smallest_real_part(matrix: Float[np.ndarray, "S S"]) -> float:
    """The real part that decides: below zero, the expected updates diverge."""
    return float(np.linalg.eigvals(matrix).real.min())


def update_order(
    problem: Baird, seeds: int, steps: int, rng: np.random.Generator
) -> Int[np.ndarray, "steps seeds"]:
    """Which transition each update uses, uniform over the data set, the same for all learners."""
    return rng.integers(0, problem.transitions, (steps, seeds))


def record_points(steps: int, points: int = 60) -> Int[np.ndarray, " R"]:
    """0 and about `points` further numbers of updates, evenly spaced on a logarithmic scale."""
    return np.unique(np.concatenate([[0], np.geomspace(1, steps, points).round()])).astype(int)


def mean_interval(
    values: Float[np.ndarray, "seeds ..."],
    rng: np.random.Generator,
    *,
    geometric: bool = False,
    resamples: int = 2000,
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Mean over seeds and its 95 % percentile-bootstrap interval.

    Args:
        values: seeds first.
        rng: for the resampling.
        geometric: take the geometric mean, for errors that span orders of magnitude.
        resamples: bootstrap samples.

    Returns:
        Mean, low end, high end.
    """
    values = np.log(values) if geometric else np.asarray(values, dtype=float)
    chosen = rng.integers(0, len(values), (resamples, len(values)))
    means = values[chosen].mean(axis=1)
    results = values.mean(axis=0), *np.quantile(means, [0.025, 0.975], axis=0)
    return tuple(np.exp(result) if geometric else result for result in results)
