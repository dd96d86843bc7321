"""Exercises of the errata, a score turned round, a target that stays: right and wrong answers.

And what holds of all exercises: each check is called by a chapter and refuses an empty answer.
"""

import re

import numpy as np
import pytest
from scipy.special import entr

from helpers import exercises, paths
from helpers.agents import DecisionAgent


def mean_decay(first, last):
    return 1 - first / last


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, b: a / b, "what is left"),
        (lambda a, b: 1 - (a + 1) / (b + 1), "zeros above the diagonal"),
        (lambda a, b: 1 - (a / b) ** 2, "rows sum to 1"),
        (lambda a, b: b / a - 1, "by the mean of the first"),
        (lambda a, b: 1 / a - 1 / b, "difference of the means"),
        (lambda a, b: 100 * mean_decay(a, b), "in percent"),
        (lambda a, b: 0.952, "no usual slip"),
        (lambda a, b: None, "forget `return`"),
    ],
)
def test_mean_decay_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_mean_decay(answer)


def flattened_entropy(weights):
    return entr(weights / len(weights)).sum()


def with_nan(weights):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(weights * np.log(weights)).sum() / len(weights) + np.log(len(weights))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w: entr(w).sum(axis=1).mean(), "mean entropy of a row"),
        (lambda w: entr(w).sum(), "divide by n to make it"),
        (lambda w: len(w) * flattened_entropy(w), "share of 1 / n only"),
        (lambda w: flattened_entropy(w) / np.log(2), "in bits"),
        (lambda w: -flattened_entropy(w), "sign"),
        (lambda w: entr(w / w.size).sum(), r"not to n\^2"),
        (lambda w: entr(w).sum(axis=1), "not one a row"),
        (with_nan, "0 ln 0 is 0"),
        (lambda w: None, "forget `return`"),
    ],
)
def test_flattened_entropy_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_flattened_entropy(answer)


def growth_rates(times, sums):
    return np.diff(np.log(sums)) / np.diff(times)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t, s: np.diff(np.log(s)), "divide by their number"),
        (lambda t, s: np.diff(s) / np.diff(t), "the error a step"),
        (lambda t, s: growth_rates(t, s) / np.log(10), "base 10"),
        (lambda t, s: np.diff(np.log(s)) / np.diff(np.log(t)), "two logarithmic axes"),
        (lambda t, s: s[1:] / s[:-1], "these are factors"),
        (lambda t, s: np.diff(s) / s[:-1] / np.diff(t), "the factor minus 1"),
        (lambda t, s: np.log(s) / t, "one interval less"),
        (lambda t, s: None, "forget `return`"),
    ],
)
def test_growth_rate_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_growth_rates(answer)


def return_of(score, low, high):
    return low + score / 100 * (high - low)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda s, low, high: return_of(100 * s, low, high), "in percent"),
        (lambda s, low, high: return_of(s, low, high) - low, "add it"),
        (lambda s, low, high: low + s / 100 * high, "from random to expert"),
        (lambda s, low, high: s / 100 * high, "not a return of 0"),
        (lambda s, low, high: 100 * (s - low) / (high - low), "solve it for the return"),
        (lambda s, low, high: return_of(s, high, low), "swapped"),
        (lambda s, low, high: None, "forget `return`"),
    ],
)
def test_return_of_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_return_of(answer)


class NeverSatisfied(DecisionAgent):
    def observe(self, rewards):
        self.step += 1
        self.returns_to_go[:, self.step] = self.returns_to_go[:, self.step - 1]


class Standing(DecisionAgent):
    def observe(self, rewards):
        self.returns_to_go[:, self.step + 1] = self.returns_to_go[:, self.step]


class Forgetful(DecisionAgent):
    def observe(self, rewards):
        self.step += 1


class Greedy(DecisionAgent):
    def observe(self, rewards):
        super().observe(-rewards)


class Uniform(NeverSatisfied):
    def reset(self, n):
        super().reset(n)
        self.returns_to_go[:, 0] = self.returns_to_go[0, 0]


class LastOnly(DecisionAgent):
    def observe(self, rewards):
        super().observe(rewards)
        self.returns_to_go[:, self.step] = self.returns_to_go[:, 0] - rewards.astype("float32")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (DecisionAgent, "lowered by the rewards, as before"),
        (Standing, "`self.step` is 0"),
        (Forgetful, "still 0"),
        (Greedy, "grows by the rewards"),
        (Uniform, "target of the first"),
        (LastOnly, "only the last reward"),
        (NeverSatisfied.observe, "the class itself"),
    ],
)
def test_never_satisfied_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_never_satisfied(answer)


def test_right_answers_pass(capsys):
    exercises.check_mean_decay(mean_decay)
    exercises.check_flattened_entropy(flattened_entropy)
    exercises.check_growth_rates(growth_rates)
    exercises.check_return_of(return_of)
    exercises.check_never_satisfied(NeverSatisfied)
    assert capsys.readouterr().out.count("correct") == 5


# --- all exercises -----------------------------------------------------------------------------

CHECKS = sorted(name for name in exercises.__all__ if name.startswith("check_"))


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_refuses_the_empty_stub(check, capsys):
    with pytest.raises(AssertionError):
        getattr(exercises, check)(lambda *given: None)
    assert "correct" not in capsys.readouterr().out


def test_every_check_belongs_to_one_chapter_and_is_tested():
    chapters = [path.read_text() for path in sorted((paths.ROOT / "notebooks").glob("[0-9]*.md"))]
    called = [set(re.findall(r"exercises\.(check_\w+)\(", text)) for text in chapters]
    assert sorted(name for names in called for name in names) == CHECKS
    tests = "".join(path.read_text() for path in (paths.ROOT / "tests").glob("test_exercises*.py"))
    for check in CHECKS:  # by its right answer, and within `raises` by wrong ones
        assert len(re.findall(rf"exercises\.{check}\(", tests)) >= 2, check
