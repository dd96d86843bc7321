"""Reference solutions pass; the usual wrong answers fail with a message that helps."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm

from helpers import exercises
from helpers.envs.grids import unpack
from helpers.planning.beam import keep_mass


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


def returns_to_go(rewards, lengths):
    ends = np.cumsum(lengths)
    parts = np.split(rewards, ends[:-1])
    return np.concatenate([part[::-1].cumsum()[::-1] for part in parts])


def whole_return(rewards, lengths):
    totals = [part.sum() for part in np.split(rewards, np.cumsum(lengths)[:-1])]
    return np.repeat(totals, lengths)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r, n: r[::-1].cumsum()[::-1], "leaks into the first"),
        (lambda r, n: whole_return(r, n) - returns_to_go(r, n) + r, "return so far"),
        (lambda r, n: returns_to_go(r, n) - r, "step itself"),
        (whole_return, "whole return"),
        (lambda r, n: None, "forget `return`"),
    ],
)
def test_returns_to_go_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_returns_to_go(answer)


def best_episodes(returns, fraction):
    count = max(1, round(fraction * len(returns)))
    return np.argsort(returns)[::-1][:count]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r, f: np.argsort(r)[:2], "worst episodes"),
        (lambda r, f: np.argsort(r)[-2:], "best episode comes first"),
        (lambda r, f: np.sort(r)[::-1][:2], "not their indices"),
        (lambda r, f: np.argsort(r)[::-1][: int(f * len(r))], "less than one episode"),
    ],
)
def test_best_episodes_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_best_episodes(answer)


def target_kind(packed, layout):
    parts = unpack(packed, layout)
    x, y = parts["target"].T
    return parts["grid"][np.arange(len(packed)), x, y, :2]


def looked_up(packed, layout, grid="grid", place="target", kind=slice(2), flip=False, rows=None):
    parts = unpack(packed, layout)
    x, y = parts[place][:, :2].T[:: -1 if flip else 1]
    return parts[grid][np.arange(len(packed)) if rows is None else rows, x, y, kind]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": True}, "x and y are swapped"),
        ({"place": "pose"}, "where the agent stands"),
        ({"kind": slice(1, None)}, "colour and state"),
        ({"kind": slice(1, None, -1)}, "colour comes before"),
        ({"kind": slice(None)}, r"shape is \(3, 3\)"),
        ({"rows": 0}, "first grid"),
        ({"grid": "view"}, "agent's view"),
        ({"rows": np.arange(3)[:, None]}, r"shape is \(3, 3, 2\)"),
    ],
)
def test_target_kind_slips(options, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_target_kind(lambda *given: looked_up(*given, **options))


def success_interval(successes, episodes, z=1.96):
    return binomtest(successes, episodes).proportion_ci(2 * norm.cdf(z) - 1, "wilson")


def plus_minus(successes, episodes, scale):
    rate = successes / episodes
    half = 1.96 * np.sqrt(rate * (1 - rate)) / scale
    return rate - half, rate + half


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda k, n: plus_minus(k, n, np.sqrt(n)), "reaches below 0"),
        (lambda k, n: plus_minus(k, n, 1), "deviation of one episode"),
        (lambda k, n: success_interval(k, n, 1.0), "holds 68 %"),
        (lambda k, n: n * np.array(success_interval(k, n)), "these are counts"),
        (lambda k, n: success_interval(k, n)[::-1], "lower end comes first"),
        (lambda k, n: (1 + 1.96**2 / n) * np.array(success_interval(k, n)), "both divided"),
        (lambda k, n: success_interval(k, n) if k else (0.0, 0.0), "can stay unseen"),
        (lambda k, n: k / n, "shape is"),
    ],
)
def test_success_interval_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_success_interval(answer)


def best_with_prize(goal, prize, rounds=5, total=0.0, paid=True, wins=0.25, strict=False):
    if rounds == 0:
        return prize * (total > goal if strict else total >= goal)
    values = [0.0, 0.0]
    for choice, outcomes in enumerate((((1, 1),), ((wins, 5), (1 - wins, -3)))):
        for chance, reward in outcomes:
            later = best_with_prize(goal, prize, rounds - 1, total + reward, paid, wins, strict)
            values[choice] += chance * (reward * paid + later)
    return max(values)


def planned_beforehand(goal, prize):
    """The best number of bets, fixed before the first round."""
    values = []
    for bets in range(6):
        totals = np.array([5 + 4 * wins - 4 * (bets - wins) for wins in range(bets + 1)])
        values.append(binom.pmf(range(bets + 1), bets, 0.25) @ (totals + prize * (totals >= goal)))
    return max(values)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda goal, prize: 5.0, "without the prize"),
        (planned_beforehand, "fixed the number of bets"),
        (lambda *given: best_with_prize(*given, strict=True), "equal to it is enough"),
        (lambda *given: best_with_prize(*given, rounds=6), "a round too many"),
        (lambda *given: best_with_prize(*given, rounds=4), "a round too few"),
        (lambda *given: best_with_prize(*given, paid=False), "prize alone"),
        (lambda *given: best_with_prize(*given, wins=1.0), "better outcome"),
        (lambda goal, prize: best_with_prize(9, prize), "playing safe wins the prize"),
        (lambda goal, prize: best_with_prize(goal, prize or 20), "without a prize"),
        (lambda goal, prize: None, "forget `return`"),
    ],
)
def test_best_with_prize_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_best_with_prize(answer)


def interleave(*kinds):
    return torch.stack(kinds, dim=2).flatten(1, 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *kinds: torch.cat(kinds, dim=1), "all returns come first"),
        (lambda *kinds: interleave(*kinds[::-1]), "another order"),
        (lambda *kinds: torch.stack(kinds, dim=2), "shape is"),
    ],
)
def test_interleave_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_interleave(answer)


EYE, CAUSAL = torch.eye(4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool).tril()


def allowed(valid):
    return CAUSAL & (valid[None] | EYE)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda valid: CAUSAL & valid[None], "softmax of an empty row"),
        (lambda valid: CAUSAL, "padding is still visible"),
        (lambda valid: CAUSAL & valid[:, None], "rows of padded tokens"),
        (lambda valid: valid[None] | EYE, "see the future"),
        (lambda valid: allowed(valid).T, "wrong way round"),
    ],
)
def test_allowed_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_allowed(answer)


def quantile_edges(data, bins):
    return np.quantile(data, np.linspace(0, 1, bins + 1))


def round_trip(edges, numbers, side="right", shift=1):
    tokens = (np.searchsorted(edges, numbers, side=side) - shift).clip(0, len(edges) - 2)
    return tokens, (edges[tokens] + edges[tokens + 1]) / 2


def quantile_round_trip(data, numbers, bins):
    return round_trip(quantile_edges(data, bins), numbers)


def raw_tokens(data, numbers, bins):
    return np.searchsorted(quantile_edges(data, bins), numbers, side="right")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda d, x, n: (raw_tokens(d, x, n) - 1, x), "in no bin; clip"),
        (lambda d, x, n: ((raw_tokens(d, x, n) - 1).clip(0, n), x), "last edge ends"),
        (lambda d, x, n: (raw_tokens(d, x, n), x), "not clipped"),
        (lambda d, x, n: round_trip(quantile_edges(d, n), x, shift=0), "one too many"),
        (lambda d, x, n: round_trip(quantile_edges(d, n), x, "left"), "bin above"),
        (lambda d, x, n: round_trip(np.linspace(d.min(), d.max(), n + 1), x), "equally wide"),
        (lambda d, x, n: quantile_round_trip(x, x, n), "fit them on `data`"),
        (
            lambda d, x, n: (t := quantile_round_trip(d, x, n)[0], quantile_edges(d, n)[t]),
            "lower edge",
        ),
        (
            lambda d, x, n: (t := quantile_round_trip(d, x, n)[0], quantile_edges(d, n)[t + 1]),
            "upper edge",
        ),
        (lambda d, x, n: (quantile_round_trip(d, x, n)[0], x), "numbers themselves"),
        (lambda d, x, n: quantile_round_trip(d, x, n)[0], "return two things"),
        (lambda d, x, n: None, "return two things"),
    ],
)
def test_quantile_round_trip_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_quantile_round_trip(answer)


def nucleus(probabilities, mass, crossing=True):
    order = probabilities.argsort(descending=True)
    values = probabilities[order]
    before = values.cumsum(0) - values * crossing
    kept = torch.zeros_like(probabilities)
    inside = before < mass if crossing else before <= mass
    kept[order[inside]] = values[inside]
    return kept


def by_threshold(probabilities, mass):
    """Keeps whatever is as likely as the last entry inside."""
    inside = nucleus(probabilities, mass)
    return probabilities.where(probabilities >= inside[inside > 0].min(), 0.0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda p, m: nucleus(p, m, crossing=False), "crosses the mass is missing"),
        (keep_mass, "unlikely end"),
        (lambda p, m: p * (nucleus(1 - p, 3.2) > 0), "least likely entries"),
        (lambda p, m: nucleus(p, m).sort(descending=True).values, "back in their places"),
        (lambda p, m: nucleus(p, m) / nucleus(p, m).sum(), "do not divide"),
        (lambda p, m: nucleus(p, m) > 0, "return their probabilities"),
        (lambda p, m: nucleus(p, m + 0.1), "one entry too many"),
        (by_threshold, "four equal entries"),
        (lambda p, m: nucleus(p, m) * (m > 0.2), "always inside"),
        (lambda p, m: None, "forget `return`"),
    ],
)
def test_nucleus_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_nucleus(answer)


def cached_mask(cached, new, step_size):
    looked_at = torch.arange(cached + new)
    looks = looked_at[cached:, None]
    return (looked_at <= looks) & (looked_at % step_size != step_size - 1)


def causal_rows(cached, new, shift=0):
    looked_at = torch.arange(cached + new)
    return looked_at <= looked_at[cached:, None] + shift


def no_value(start, length, size):
    return torch.arange(start, start + length) % size != size - 1


def only_in(part, cached, new, size):
    shown = no_value(0, cached + new, size)
    shown[part] = True
    return causal_rows(cached, new) & shown


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c, n, m: causal_rows(c, n), "values are visible"),
        (lambda c, n, m: only_in(slice(None, c), c, n, m), "cached ones are hidden as well"),
        (lambda c, n, m: only_in(slice(c, None), c, n, m), "new ones are hidden as well"),
        (
            lambda c, n, m: (
                causal_rows(c, n) & torch.cat([torch.ones(c).bool(), no_value(0, n, m)])
            ),
            "count from the start of the sequence",
        ),
        (lambda c, n, m: causal_rows(c, n, -c) & no_value(0, c + n, m), "shifted by `cached`"),
        (lambda c, n, m: causal_rows(c, n, -1) & no_value(0, c + n, m), "look at itself"),
        (lambda c, n, m: causal_rows(c, n, n) & no_value(0, c + n, m), "see those behind them"),
        (lambda c, n, m: causal_rows(c, n) & no_value(c, n, m)[:, None], "emptied the rows"),
        (lambda c, n, m: cached_mask(c, n, m).T, "shape is"),
        (lambda c, n, m: cached_mask(4, 3, 3), "shape is"),
    ],
)
def test_cached_mask_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_cached_mask(answer)


def plan_energy(scores, plan, end, used=1):
    length = min(int((plan != end).sum()) + used, len(plan))
    return -scores[np.arange(length), plan[:length]].sum()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda s, p, e: -s[np.arange(4), p].sum(), "padding and costs nothing"),
        (lambda s, p, e: plan_energy(s, p, e, used=0), "END is paid for"),
        (lambda s, p, e: -plan_energy(s, p, e), "sign is the wrong way"),
        (lambda s, p, e: plan_energy(s, p, e) / 3, "not their mean"),
        (lambda s, p, e: np.exp(-plan_energy(s, p, e)), "probabilities multiplied"),
        (lambda s, p, e: -s[:3].max(axis=1).sum(), "likeliest word of each place"),
        (lambda s, p, e: -s[np.arange(3), p[:3]].sum(), "this plan has no END"),
        (lambda s, p, e: None, "forget `return`"),
    ],
)
def test_plan_energy_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_plan_energy(answer)


def gibbs_iteration(predict, plan, place, mask, temperature, uniform, masked=True, row=None):
    changed = plan.copy()
    changed[place] = mask if masked else plan[place]
    scores = predict(changed)[place if row is None else row] / temperature
    probabilities = np.exp(scores) / np.exp(scores).sum()
    changed[place] = (probabilities.cumsum() <= uniform).sum()
    return changed


def gibbs_likeliest(predict, plan, place, mask, temperature, uniform):
    changed = gibbs_iteration(predict, plan, place, mask, 1.0, 0.0)
    masked = plan.copy()
    masked[place] = mask
    changed[place] = predict(masked)[place].argmax()
    return changed


def gibbs_in_place(predict, plan, place, mask, temperature, uniform):
    plan[place] = mask
    plan[place] = gibbs_iteration(predict, plan, place, mask, temperature, uniform)[place]
    return plan


def gibbs_masked(predict, plan, place, mask, temperature, uniform):
    changed = plan.copy()
    changed[place] = mask
    return changed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *given: gibbs_iteration(*given, masked=False), "was not masked"),
        (lambda f, p, i, m, t, u: gibbs_iteration(f, p, i, m, 1 / t, u), "you multiplied"),
        (lambda f, p, i, m, t, u: gibbs_iteration(f, p, i, m, 1.0, u), "temperature is missing"),
        (gibbs_likeliest, "likeliest word"),
        (lambda *given: gibbs_iteration(*given, row=0), "another place"),
        (gibbs_in_place, "changed the plan"),
        (gibbs_masked, "MASK is left"),
        (lambda *given: None, "forget `return`"),
        (lambda *given: gibbs_iteration(*given)[given[2]], "shape is"),
    ],
)
def test_gibbs_iteration_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_gibbs_iteration(answer)


def no_left(plans, environments):
    return 1000.0 * (plans == 0).sum(dim=1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda p, e: -no_left(p, e), "sign is the wrong way"),
        (lambda p, e: (p == 0).sum(dim=1), "the model outvotes"),
        (lambda p, e: 1000.0 * (p == 0).any(dim=1), "not each plan"),
        (lambda p, e: no_left(p[:, :1], e), "only the first action"),
        (lambda p, e: no_left(p - 1, e), "left is action 0"),
        (lambda p, e: no_left(p, e).sum(), "shape is"),
        (lambda p, e: None, "forget `return`"),
    ],
)
def test_no_left_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_no_left(answer)


def interquartile_mean(values):
    quarter = len(values) // 4
    return np.sort(values)[quarter:-quarter].mean()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.mean, "mean of all"),
        (np.median, "this is the median"),
        (lambda v: v[2:6].mean(), "sort first"),
        (lambda v: np.sort(v)[1:-1].mean(), "a quarter on either side"),
        (lambda v: np.sort(v)[:6].mean(), "lowest quarter too"),
        (lambda v: np.sort(v)[2:].mean(), "highest quarter too"),
        (lambda v: None, "forget `return`"),
    ],
)
def test_interquartile_mean_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_interquartile_mean(answer)


def improvement(ours, theirs, tie=0.5):
    difference = ours[:, None] - theirs[None, :]
    return ((difference > 0) + tie * (difference == 0)).mean()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, b: improvement(a, b, 0.0), "a tie counts a half"),
        (lambda a, b: improvement(a, b, 1.0), "not a whole"),
        (lambda a, b: improvement(b, a), "wrong way round"),
        (lambda a, b: float(a.mean() > b.mean()), "not the means"),
        (lambda a, b: 1 - improvement(a, b, 0.0), "lower or equal"),
        (lambda a, b: improvement(a, b) * len(b), "number of pairs"),
    ],
)
def test_improvement_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_probability_of_improvement(answer)


def flattery(checkpoints, error, rng):
    return rng.normal(0.0, error, (10_000, checkpoints)).max(axis=1).mean()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n, e, rng: flattery(n, 1.0, rng), "the error scales"),
        (lambda n, e, rng: flattery(n, e**0.5, rng), "standard deviation, not a variance"),
        (lambda n, e, rng: rng.normal(0, e, (10_000, n)).mean(), "not the best one"),
        (lambda n, e, rng: rng.normal(0, e, (10_000, n)).std(), "spread of one"),
        (lambda n, e, rng: flattery(max(n, 10), e, rng) if n > 1 else e, "nothing to choose"),
    ],
)
def test_flattery_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_flattery(answer)


def lift(weights, allowed, group):
    return weights[group & allowed].sum() / (group & allowed).sum() * allowed.sum()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, a, g: w[g].sum(), "this is the share"),
        (lambda w, a, g: w[g].mean() * len(w), "as in the group"),
        (lambda w, a, g: lift(w, a, g) / a.sum() * len(a), "among all keys"),
        (lambda w, a, g: w[g].sum() / g.sum() * a.sum(), "do not count in the group"),
        (lambda w, a, g: 1 / lift(w, a, g), "upside down"),
        (lambda w, a, g: w[g & a].mean(), "mean weight"),
    ],
)
def test_lift_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_lift(answer)


def normalised_entropy(weights, allowed):
    some = weights[weights > 0]
    return -(some * np.log(some)).sum() / np.log(allowed.sum())


def careless_entropy(weights, allowed):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(weights * np.log(weights)).sum() / np.log(allowed.sum())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, a: normalised_entropy(w, a) * np.log(5), "in nats; divide"),
        (lambda w, a: normalised_entropy(w, a) * np.log2(5), "in bits; divide"),
        (lambda w, a: normalised_entropy(w, np.ones(6, bool)), "not of all"),
        (lambda w, a: normalised_entropy(w, w > 0), "count all allowed keys"),
        (lambda w, a: normalised_entropy(w, a) / np.log(2), "denominator in nats"),
        (lambda w, a: -normalised_entropy(w, a), "sign"),
        (lambda w, a: normalised_entropy(w, a) * np.log(5) / 5, "not by n"),
        (careless_entropy, "0 ln 0 is 0"),
        (lambda w, a: None, "forget `return`"),
    ],
)
def test_normalised_entropy_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_normalised_entropy(answer)


def knock_out(weights, hidden):
    kept = np.where(hidden, 0.0, weights)
    total = kept.sum(axis=1, keepdims=True)
    return np.where(total > 0, kept / np.maximum(total, 1e-12), weights)


def knock_out_in_place(weights, hidden):
    weights[:, hidden] = 0.0
    return weights


def knock_out_evenly(weights, hidden):
    freed = weights[:, hidden].sum(axis=1, keepdims=True)
    spread = np.where(hidden, 0.0, weights + freed / (~hidden).sum())
    return np.where(freed < 1, spread, weights)


def knock_out_nan(weights, hidden):
    kept = np.where(hidden, 0.0, weights)
    with np.errstate(invalid="ignore"):
        return kept / kept.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, h: np.where(h, 0.0, w), "sum to 1 again"),
        (knock_out_nan, "0 / 0 is nan"),
        (lambda w, h: np.nan_to_num(knock_out_nan(w, h)), "keeps all its weights$"),
        (lambda w, h: np.where(h[:, None], 0.0, w), "columns, not rows"),
        (lambda w, h: np.where(h, w, 0.0), "take those away"),
        (knock_out_in_place, "changed the weights"),
        (knock_out_evenly, "in proportion, not evenly"),
    ],
)
def test_knock_out_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_knock_out(answer)


def per_step(times, sums):
    return np.diff(sums, prepend=0) / np.diff(times, prepend=0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t, s: np.diff(s, prepend=0), "divide by their number"),
        (lambda t, s: s / t, "mean since the beginning"),
        (lambda t, s: np.diff(s) / np.diff(t), "one interval more"),
        (lambda t, s: np.diff(s, prepend=0) / np.diff(t, prepend=1), "stands for several steps"),
        (lambda t, s: np.gradient(s, t), "slope around each reading"),
        (lambda t, s: per_step(t, np.log(s)), "differences of logarithms"),
        (lambda t, s: None, "forget `return`"),
    ],
)
def test_per_step_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_per_step(answer)


def attention_share(length, width):
    return length / (6 * width + length)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n, d: n / (12 * d + n), "as many operations as the scores"),
        (lambda n, d: n / (2 * d + n), "perceptron is missing"),
        (lambda n, d: n / (4 * d + n), "matrices too"),
        (lambda n, d: n / (6 * d), "divide by the sum"),
        (lambda n, d: 6 * d / (6 * d + n), "share of the weights"),
        (lambda n, d: n / (3 * d + n), "two operations"),
    ],
)
def test_attention_share_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_attention_share(answer)


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def window_mask(length, window):
    return causal(length) & ~causal(length).tril(-window)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n, w: causal(n), "window is missing"),
        (lambda n, w: window_mask(n, w) | window_mask(n, w).T, "see the future"),
        (lambda n, w: window_mask(n, w + 1), "counts the token itself"),
        (lambda n, w: window_mask(n, w).tril(-1), "a token sees itself$"),
        (lambda n, w: window_mask(n, w + 1).tril(-1), "one token less"),
        (lambda n, w: window_mask(n, w).T, "wrong way round"),
        (lambda n, w: causal(n) & ~window_mask(n, w), "leaves out"),
        (lambda n, w: window_mask(n, w) * (n > w), "may be longer"),
    ],
)
def test_window_slips(answer, message):
    with pytest.raises(AssertionError, match=message):
        exercises.check_window_mask(answer)


def test_right_answers_pass(capsys):
    exercises.check_returns_to_go(returns_to_go)
    exercises.check_best_episodes(best_episodes)
    exercises.check_target_kind(target_kind)
    exercises.check_success_interval(success_interval)
    exercises.check_best_with_prize(best_with_prize)
    exercises.check_interleave(interleave)
    exercises.check_allowed(allowed)
    exercises.check_quantile_round_trip(quantile_round_trip)
    exercises.check_nucleus(nucleus)
    exercises.check_cached_mask(cached_mask)
    exercises.check_plan_energy(plan_energy)
    exercises.check_gibbs_iteration(gibbs_iteration)
    exercises.check_no_left(no_left)
    exercises.check_interquartile_mean(interquartile_mean)
    exercises.check_probability_of_improvement(improvement)
    exercises.check_flattery(flattery)
    exercises.check_lift(lift)
    exercises.check_normalised_entropy(normalised_entropy)
    exercises.check_knock_out(knock_out)
    exercises.check_per_step(per_step)
    exercises.check_attention_share(attention_share)
    exercises.check_window_mask(window_mask)
    assert capsys.readouterr().out.count("correct") == 22
