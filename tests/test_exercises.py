"""Reference solutions pass; the usual wrong answers fail with a message that helps."""

import numpy as np
import pytest

from helpers import exercises


def td_step(weights, features, next_features, reward, discount, step_size, ratio):
    error = reward + discount * weights @ next_features - weights @ features
    return weights + step_size * ratio * error * features


def td_full_gradient(weights, features, next_features, reward, discount, step_size, ratio):
    error = reward + discount * weights @ next_features - weights @ features
    return weights + step_size * ratio * error * (features - discount * next_features)


def td_no_ratio(weights, features, next_features, reward, discount, step_size, ratio):
    return td_step(weights, features, next_features, reward, discount, step_size, 1.0)


def td_no_discount(weights, features, next_features, reward, discount, step_size, ratio):
    return td_step(weights, features, next_features, reward, 1.0, step_size, ratio)


def td_sign(weights, features, next_features, reward, discount, step_size, ratio):
    return td_step(weights, features, next_features, reward, discount, -step_size, ratio)


def td_in_place(weights, *rest):
    weights += td_step(weights, *rest) - weights
    return weights


def td_silent(*_):
    pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (td_full_gradient, "gradient of the target"),
        (td_no_ratio, "importance ratio is missing"),
        (td_no_discount, "not discounted"),
        (td_sign, "sign is the wrong way"),
        (td_in_place, "changed the weights"),
        (td_silent, "forget `return`"),
        (lambda *_: np.zeros(2), r"shape is \(2,\), it should be \(3,\)"),
        (lambda *_: "up", "return numbers"),
        (lambda *_: np.full(3, 9.0), "no usual slip"),
    ],
)
def test_td_step_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_td_step(answer)


def test_td_step(capsys):
    exercises.check_td_step(td_step)
    assert capsys.readouterr().out == "TD step: correct\n"


def update_matrix(features, state_weights, transitions, discount):
    change = np.eye(len(features)) - discount * transitions
    return features @ features.T @ np.diag(state_weights) @ change


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda f, d, p, g: np.diag(d) @ (np.eye(3) - g * p), "kernel of the features"),
        (lambda f, d, p, g: f @ f.T @ (np.eye(3) - g * p), "weights of the states are missing"),
        (lambda f, d, p, g: update_matrix(f, d, p, 1.0), "discount is missing"),
        (lambda f, d, p, g: np.diag(d) @ (np.eye(3) - g * p) @ f @ f.T, "order of the factors"),
        (lambda f, d, p, g: f.T @ f, r"shape is \(2, 2\)"),
    ],
)
def test_update_matrix_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_update_matrix(answer)


def test_update_matrix():
    exercises.check_update_matrix(update_matrix)


def conditional_policy(actions, returns, target, num_actions):
    chosen = actions[returns == target]
    if len(chosen) == 0:
        return np.full(num_actions, 1 / num_actions)
    return np.bincount(chosen, minlength=num_actions) / len(chosen)


def counted(chosen, total, num_actions):
    return np.bincount(chosen, minlength=num_actions) / total


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, r, g, n: counted(a[r == g], 1, n), "divide by their sum"),
        (lambda a, r, g, n: counted(a[r == g], len(a), n), "number of all episodes"),
        (lambda a, r, g, n: counted(a, len(a), n), "keep only those"),
        (lambda a, r, g, n: counted(a[r >= g], np.sum(r >= g), n), "at least"),
        (lambda a, r, g, n: counted(a[r == g], np.sum(r == g), n), "0 / 0"),
        (lambda a, r, g, n: counted(a[r == g], max(1, np.sum(r == g)), n), "0 / 0"),
    ],
)
def test_conditional_policy_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_conditional_policy(answer)


def test_conditional_policy():
    exercises.check_conditional_policy(conditional_policy)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r: r.cumsum(), "sums the past"),
        (lambda r: r[::-1].cumsum()[::-1] - r, "step itself"),
        (lambda r: r[::-1].cumsum(), "reverse them again"),
        (lambda r: np.full_like(r, r.sum()), "whole episode"),
    ],
)
def test_returns_to_go_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_returns_to_go(answer)


def test_returns_to_go():
    exercises.check_returns_to_go(lambda rewards: rewards[::-1].cumsum()[::-1])
