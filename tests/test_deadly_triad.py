"""Baird's counterexample does what the chapter says, and the arithmetic is right."""

import numpy as np
import pytest

from helpers import deadly_triad as triad

PROBLEM = triad.Baird(transitions=600)
SEEDS, STEPS = 3, 6000


@pytest.fixture(scope="module")
def data():
    return [triad.sample_transitions(PROBLEM, np.random.default_rng(seed)) for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def order():
    return triad.update_order(PROBLEM, SEEDS, STEPS, np.random.default_rng(7))


def final_errors(learner, data, order, problem=PROBLEM):
    curves = triad.learn(learner, problem, data, order, triad.record_points(STEPS))
    return curves.errors(triad.true_value(problem, learner.off_policy))


def test_all_three_legs_diverge(data, order):
    errors = final_errors(triad.Learner(), data, order)
    assert np.all(errors[:, -1] > 1e4 * errors[:, 0])
    assert all(
        triad.smallest_real_part(triad.update_matrix(triad.Learner(), PROBLEM, one)) < -0.1
        for one in data
    )


@pytest.mark.parametrize("leg", ["function_approximation", "off_policy", "bootstrapping"])
def test_removing_one_leg_makes_every_eigenvalue_positive(leg, data):
    learner = triad.Learner(**{leg: False})
    for one in data:
        assert triad.smallest_real_part(triad.update_matrix(learner, PROBLEM, one)) > 0


@pytest.mark.parametrize("leg", ["function_approximation", "off_policy", "bootstrapping"])
def test_removing_one_leg_bounds_the_error(leg, data, order):
    errors = final_errors(triad.Learner(**{leg: False}), data, order)
    assert np.all(errors <= 13)


def test_supervised_learners_converge_on_the_same_data(data, order):
    errors = final_errors(triad.Learner(off_policy=False, bootstrapping=False), data, order)
    assert np.all(errors[:, -1] < 1e-6)
    excess = triad.clone(data, order, triad.record_points(STEPS))
    assert np.all(excess >= -1e-9)
    assert np.all(excess[:, -1] < 0.05)


def test_update_matrix_predicts_the_mean_update(data):
    learner, one = triad.Learner(), data[0]
    weights = learner.initial_weights
    values = learner.features @ weights
    change = np.zeros(7)
    for state, solid, after in zip(one.states, one.solid, one.next_states, strict=True):
        error = PROBLEM.discount * values[after] - values[state]
        step = learner.step_size * 7 * solid * error * learner.features[state]
        change += learner.features @ step / len(one.states)
    matrix = triad.update_matrix(learner, PROBLEM, one)
    np.testing.assert_allclose(change, -learner.step_size * matrix @ values, atol=1e-10)


def test_both_representations_start_from_the_same_predictions():
    linear, table = triad.Learner(), triad.Learner(function_approximation=False)
    np.testing.assert_allclose(
        linear.features @ linear.initial_weights, table.features @ table.initial_weights
    )
    assert linear.step_size * 5 == pytest.approx(table.step_size)


def test_trajectory_is_consistent():
    problem = triad.Baird(transitions=50, solid_reward=1.0)
    one = triad.sample_transitions(problem, np.random.default_rng(0))
    np.testing.assert_array_equal(one.states[1:], one.next_states[:-1])
    np.testing.assert_array_equal(one.next_states == 6, one.solid)
    np.testing.assert_allclose(
        one.returns[:-1], one.rewards[:-1] + problem.discount * one.returns[1:]
    )


def test_same_seed_same_data_and_curves(order):
    runs = []
    for _ in range(2):
        one = [triad.sample_transitions(PROBLEM, np.random.default_rng(s)) for s in range(SEEDS)]
        runs.append(final_errors(triad.Learner(), one, order))
    np.testing.assert_array_equal(*runs)


def test_interval_holds_the_mean():
    values = np.random.default_rng(0).lognormal(size=(30, 4))
    for geometric in (False, True):
        mean, low, high = triad.mean_interval(values, np.random.default_rng(1), geometric=geometric)
        assert np.all((low <= mean) & (mean <= high))
