"""CQL and IQL: losses, what they learn, resuming, bad input."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import paths
from helpers.agents import memoryless_agent
from helpers.data.catalogue import load_dataset
from helpers.data.episodes import Dataset
from helpers.data.transitions import make_transitions
from helpers.envs.tables import GAMBLE, SAFE
from helpers.evaluate import rollout
from helpers.experiments import load_experiments, smoke_version
from helpers.files import BadFile, read_json
from helpers.methods import METHODS
from helpers.models import feedforward, imitation, value_based
from helpers.models.checkpoints import load_model, save_model
from helpers.models.value_based import (
    ConservativeQLearning,
    CQLConfig,
    ImplicitQLearning,
    IQLConfig,
    conservative_actions,
    cql_loss,
    draw_actions,
    expectile_loss,
    iql_loss,
)
from helpers.runs import execute
from helpers.tasks import get_task
from helpers.train import Diverged, TrainConfig, train

TINY = {"observation_size": 3, "action_size": 2, "width": 8, "layers": 1}
CONFIG = TrainConfig(steps=40, batch_size=16, learning_rate=1e-3, weight_decay=0.0, warmup_steps=0,
                     gradient_clip=0.0, save_every=10, log_every=10)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads wait for each other at every layer of networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch(discrete: bool = False, n: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    actions = torch.rand(n, 2, generator=generator) * 2 - 1
    return {
        "observations": torch.randn(n, 3, generator=generator),
        "next_observations": torch.randn(n, 3, generator=generator),
        "actions": torch.arange(n) % 2 if discrete else actions,
        "rewards": torch.randn(n, generator=generator),
        "terminated": torch.arange(n) % 3 == 0,
    }


def constant(network: feedforward.Network, *outputs: float) -> None:
    """Let a network give these outputs whatever goes in; one row for each of its heads."""
    for parameter in network.heads.parameters():
        parameter.data.zero_()
    last = network.heads.biases[-1].data
    last.copy_(torch.tensor(outputs).view(last.shape))


def fit(method: str, task, dataset: Dataset, path, changes=None, until=None, seed=0, **options):
    recipe = METHODS[method]
    config = dataclasses.replace(CONFIG, **options)
    torch.manual_seed(seed)
    model = recipe.make(task, dataset, **{"width": 32, "layers": 1, **(changes or {})})
    train(
        model, recipe.loss, recipe.windows(dataset, model).sample, config, seed=seed, until=until,
        state_path=path, progress=False, groups=recipe.groups, after_step=recipe.after_step,
    )  # fmt: skip
    return model


# --- parts -------------------------------------------------------------------------------------


def test_expectile_loss_is_as_computed_by_hand():
    loss = expectile_loss(torch.tensor([1.0, -1.0, 2.0]), 0.7)
    assert float(loss) == pytest.approx((0.7 * 1 + 0.3 * 1 + 0.7 * 4) / 3)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_balances_weighted_distances(expectile):
    """Where the loss is least, tau * (mean above) = (1 - tau) * (mean below): for a coin, tau."""
    coin = torch.tensor([0.0, 1.0])
    grid = torch.linspace(0, 1, 1001)
    losses = torch.stack([expectile_loss(coin - v, expectile) for v in grid])
    assert float(grid[losses.argmin()]) == pytest.approx(expectile, abs=1e-3)


def test_perceptrons_are_the_same_as_layers_one_by_one():
    torch.manual_seed(0)
    stack, x = feedforward.Perceptrons(2, [3, 8, 8, 1]), torch.randn(5, 3)
    for k, out in enumerate(stack(x)):
        y = x
        for i, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            y = F.linear(y, weight[k].T, bias[k, 0])
            y = F.relu(y) if i < 2 else y
        torch.testing.assert_close(out, y)


def test_frozen_weights_get_no_gradient_but_inputs_do():
    stack, x = feedforward.Perceptrons(2, [3, 8, 1]), torch.randn(5, 3, requires_grad=True)
    stack(x, frozen=True).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in stack.parameters())


def test_target_networks_follow_at_their_rate_and_are_not_trained():
    model = ImplicitQLearning(IQLConfig(**TINY, target_rate=0.25))
    constant(model.critics.network, 4.0, 8.0)
    constant(model.target.network, 0.0, 4.0)
    model.update_target()
    assert model.target.network.heads.biases[-1].flatten().tolist() == [1.0, 5.0]
    iql_loss(model, batch()).backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())


# --- IQL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [False, True])
def test_iql_loss_is_as_computed_by_hand(end):
    model = ImplicitQLearning(IQLConfig(**TINY))
    constant(model.critics.network, 2.0, 3.0)
    constant(model.target.network, 1.0, 4.0)
    constant(model.value, 0.5)
    constant(model.actor, 0.0, 0.0)
    step = {name: x[:1] for name, x in batch().items()}
    step.update(rewards=torch.ones(1), terminated=torch.tensor([end]))
    wanted = 1.0 if end else 1.0 + 0.99 * 0.5
    advantage = min(1.0, 4.0) - 0.5
    critics = ((2 - wanted) ** 2 + (3 - wanted) ** 2) / 2
    squares = float(step["actions"].square().sum())
    policy = math.exp(3.0 * advantage) * (0.5 * squares + math.log(2 * math.pi))
    expected = 0.7 * advantage**2 + critics + policy
    assert iql_loss(model, step).item() == pytest.approx(expected, rel=1e-5)


def test_iql_loss_of_numbered_actions_is_as_computed_by_hand():
    model = ImplicitQLearning(IQLConfig(**TINY, discrete=True))
    constant(model.critics.network, 2.0, 0.0, 3.0, 0.0)
    constant(model.target.network, 0.0, 0.0, 0.25, 9.0)
    constant(model.value, 0.5)
    constant(model.actor, math.log(3.0), 0.0)
    step = {name: x[:1] for name, x in batch(discrete=True).items()}  # action 0
    step.update(rewards=torch.ones(1), terminated=torch.tensor([False]))
    wanted, advantage = 1.0 + 0.99 * 0.5, min(0.0, 0.25) - 0.5
    critics = ((2 - wanted) ** 2 + (3 - wanted) ** 2) / 2
    policy = -math.exp(3.0 * advantage) * math.log(3 / 4)
    expected = 0.3 * advantage**2 + critics + policy
    assert iql_loss(model, step).item() == pytest.approx(expected, rel=1e-5)


def test_a_large_advantage_is_bounded():
    model = ImplicitQLearning(IQLConfig(**TINY, discrete=True))
    constant(model.target.network, 50.0, 50.0, 50.0, 50.0)
    constant(model.value, 0.0)
    constant(model.actor, 0.0, 0.0)
    iql_loss(model, batch(discrete=True, n=2)).backward()
    # d/dlogits of -100 log softmax, averaged over one step of each action
    assert model.actor.heads.biases[-1].grad.abs().max() <= 100.0


# --- CQL ---------------------------------------------------------------------------------------


def test_densities_of_drawn_actions_are_those_of_torch():
    torch.manual_seed(0)
    mean, log_std = torch.randn(4, 2), torch.randn(4, 2) * 0.3
    actions, log_prob = draw_actions(mean, log_std, 6)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean[:, None], log_std[:, None].exp()),
        torch.distributions.TanhTransform(),
    )
    expected = squashed.log_prob(actions.clamp(-1 + 1e-6, 1 - 1e-6)).sum(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-3, atol=1e-3)


def test_the_regulariser_is_the_direct_formula():
    torch.manual_seed(0)
    model = ConservativeQLearning(CQLConfig(**TINY))
    states, actions, densities = torch.randn(5, 3), torch.rand(5, 7, 2), torch.randn(5, 7)
    spread, _ = conservative_actions(model, states, actions, densities)
    for b in range(5):
        terms = torch.stack(
            [
                model.critics(states[b : b + 1], actions[b : b + 1, i])[:, 0] - densities[b, i]
                for i in range(7)
            ]
        )
        torch.testing.assert_close(spread[:, b], terms.exp().sum(dim=0).log())


def test_the_gradient_at_one_drawn_action_is_that_of_the_regulariser_on_average():
    torch.manual_seed(0)
    model, repeats = ConservativeQLearning(CQLConfig(**TINY)), 40_000
    with torch.no_grad():
        for weight in model.critics.network.heads.weights:
            weight *= 3.0
    state, actions, densities = torch.randn(1, 3), torch.rand(1, 4, 2) * 2 - 1, torch.randn(1, 4)
    logits = model.critics(state.expand(4, -1), actions[0]) - densities
    exact = torch.autograd.grad(
        logits.logsumexp(dim=-1).sum(), list(model.critics.network.heads.weights)
    )
    _, drawn = conservative_actions(
        model, state.expand(repeats, -1), actions.expand(repeats, -1, -1),
        densities.expand(repeats, -1),
    )  # fmt: skip
    rows = torch.cat([state.expand(2, repeats, -1), drawn], dim=-1)
    values = model.critics.network.heads(rows).mean(dim=1).sum()
    estimate = torch.autograd.grad(values, list(model.critics.network.heads.weights))
    for a, b in zip(exact, estimate, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.03 * float(a.abs().max()))


def test_cql_loss_is_the_sum_of_its_published_terms():
    """Each critic by itself, with the same draws in the same order."""
    torch.manual_seed(0)
    model, step = ConservativeQLearning(CQLConfig(**TINY, samples=4)), batch()
    torch.manual_seed(7)
    loss = cql_loss(model, step)
    torch.manual_seed(7)
    here, after = model.policy(step["observations"]), model.policy(step["next_observations"])
    next_drawn, next_log = draw_actions(*after, 5)
    drawn, log = draw_actions(*here, 4)
    uniform = torch.empty_like(drawn).uniform_(-1, 1)
    torch.empty(2, 5, 12).exponential_()  # the draws that stand for the gradient
    q = model.target(step["next_observations"], next_drawn[:, 0])
    goes_on = 1.0 - step["terminated"].float()
    wanted = step["rewards"] + 0.99 * goes_on * torch.minimum(q[0], q[1])
    expected = torch.zeros(())
    for k in range(2):

        def value(actions, k=k):
            return model.critics(step["observations"], actions)[k]

        sampled = [value(uniform[:, i]) - math.log(0.5**2) for i in range(4)]
        sampled += [value(drawn[:, i]) - log[:, i] for i in range(4)]
        sampled += [value(next_drawn[:, 1 + i]) - next_log[:, 1 + i] for i in range(4)]
        data = value(step["actions"])
        gap = torch.stack(sampled).exp().sum(dim=0).log() - data
        expected = expected + (data - wanted).square().mean() + 10.0 * gap.mean()
    own, own_log = draw_actions(*here, 1)
    best = model.critics(step["observations"], own[:, 0]).amin(dim=0)
    expected = expected + (own_log[:, 0] - best).mean()  # the entropy's weight is exp(0)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_cql_loss_of_numbered_actions_is_as_computed_by_hand():
    model = ConservativeQLearning(CQLConfig(**TINY, discrete=True, conservatism=2.0))
    constant(model.critics.network, 1.0, 2.0, 0.0, 0.0)
    constant(model.target.network, 5.0, 1.0, 4.0, 9.0)
    step = {name: x[:1] for name, x in batch(discrete=True).items()}  # action 0
    step.update(rewards=torch.ones(1), terminated=torch.tensor([False]))
    wanted = 1.0 + 0.99 * 4.0  # the better action has 4 by the more sceptical critic
    first = (1 - wanted) ** 2 + 2.0 * (math.log(math.e + math.e**2) - 1)
    second = (0 - wanted) ** 2 + 2.0 * math.log(2.0)
    assert cql_loss(model, step).item() == pytest.approx(first + second, rel=1e-5)


def test_the_actor_learns_at_its_own_rate(tmp_path):
    """One step of Adam moves every weight by the learning rate, whatever its gradient."""
    dataset = load_dataset("halfcheetah/medium", sample=True)
    task, moved = get_task("halfcheetah"), {}
    start = fit("cql", task, dataset, tmp_path / "s.pt", until=0)
    before = {name: x.clone() for name, x in start.named_parameters()}
    after = fit("cql", task, dataset, tmp_path / "s.pt", until=1)
    for name, x in after.named_parameters():
        moved[name] = float((x - before[name]).abs().max())
    assert moved["critics.network.heads.biases.1"] == pytest.approx(1e-3, rel=0.01)
    assert moved["actor.heads.biases.1"] == pytest.approx(1e-4, rel=0.01)
    assert moved["log_entropy_weight"] == pytest.approx(1e-4, rel=0.01)


# --- learning ----------------------------------------------------------------------------------


def gambles(share: float) -> Dataset:
    """Episodes of Gamble in which `share` of the actions are bets."""
    rng, env = np.random.default_rng(0), get_task("gamble").make()
    states, actions, rewards = [], [], []
    for seed in range(120):
        state, _ = env.reset(seed=seed)
        for _ in range(5):
            action = GAMBLE if rng.random() < share else SAFE
            states.append(state)
            actions.append(action)
            state, reward, *_ = env.step(action)
            rewards.append(reward)
    ends = np.ones(120, bool)
    finals = np.repeat(np.eye(6, dtype=int)[5:], 120, axis=0)
    return Dataset(np.array(states), np.array(actions), np.array(rewards), np.full(120, 5), ends,
                   finals, np.arange(120))  # fmt: skip


@pytest.fixture(scope="module")
def bold() -> Dataset:
    return gambles(0.7)


@pytest.mark.parametrize(("method", "best"), [("bc", False), ("iql", True), ("cql", True)])
def test_values_see_that_the_safe_action_is_better(method, best, bold, tmp_path):
    """Imitation does what most of the data do; the data bet, which loses 1 on average."""
    changes = {"expectile": 0.9} if method == "iql" else {}
    model = fit(method, get_task("gamble"), bold, tmp_path / "s.pt", changes, steps=400,
                batch_size=64, learning_rate=1e-2)  # fmt: skip
    action = model.act(torch.eye(6)[:5])
    assert (action == (SAFE if best else GAMBLE)).all()


@pytest.mark.parametrize(("method", "best"), [("bc", False), ("iql", True), ("cql", True)])
def test_values_join_two_halves_of_a_way(method, best, tmp_path):
    """Gridmaze: two trips from the west to the north, one from the south to the east."""
    task = get_task("gridmaze")
    halves = load_dataset("gridmaze/halves", sample=True).select([0, 1, 2])
    path = tmp_path / "s.pt"
    model = fit(method, task, halves, path, {}, steps=600, batch_size=64, learning_rate=3e-3)
    checkpoint = tmp_path / "model.safetensors"
    save_model(checkpoint, model, {})
    returns = rollout(memoryless_agent(checkpoint, np.zeros(2)), task, [0, 1]).returns
    assert (returns == 15.0).all() == best, returns


@pytest.mark.parametrize(("method", "best"), [("bc", False), ("iql", True), ("cql", True)])
def test_values_find_the_best_vector(method, best, tmp_path):
    """One step, actions uniform in [-1, 1], paid by their distance from 0.5."""
    task = dataclasses.replace(get_task("pointmaze"), observation_size=2, action_size=1)
    rng, n = np.random.default_rng(0), 2000
    actions = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    rewards = -10.0 * np.abs(actions[:, 0].astype(float) - 0.5)
    states = rng.normal(size=(n, 2))
    dataset = Dataset(states, actions, rewards, np.ones(n, int), np.ones(n, bool), states,
                      np.arange(n))  # fmt: skip
    changes = {"cql": {"conservatism": 0.5, "actor_rate": 1.0}, "iql": {"target_rate": 0.05}}
    options = {"steps": 500, "learning_rate": 1e-2, "final_learning_rate": 0.0, "batch_size": 64}
    shape = {"layers": 2, **changes.get(method, {})}
    model = fit(method, task, dataset, tmp_path / "s.pt", shape, **options)
    mean = float(model.act(torch.randn(50, 2)).mean())
    assert mean == pytest.approx(0.5 if best else 0.0, abs=0.2)


# --- the common machinery ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["iql", "cql"])
def test_training_in_pieces_gives_the_same_weights(method, tmp_path):
    task, dataset = get_task("halfcheetah"), load_dataset("halfcheetah/medium", sample=True)
    whole = fit(method, task, dataset, tmp_path / "whole.pt").state_dict()
    for until in (13, 20, 40):
        pieces = fit(method, task, dataset, tmp_path / "pieces.pt", until=until).state_dict()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    other = fit(method, task, dataset, tmp_path / "other.pt", seed=1).state_dict()
    assert not torch.equal(whole["actor.heads.weights.0"], other["actor.heads.weights.0"])


def test_an_interrupted_run_ends_with_the_same_result(tmp_path, monkeypatch):
    from helpers import evaluate as evaluating

    run = smoke_version(load_experiments()["iql"][0])
    play, calls = evaluating.evaluate, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return play(*arguments, **options)

    results = {}
    for name in ("whole", "pieces"):
        monkeypatch.setattr(paths, "WORK", tmp_path / name / "work")
        options = {"folder": tmp_path / name, "sample": True, "progress": False}
        if name == "pieces":
            monkeypatch.setattr(evaluating, "evaluate", interrupted)
            with pytest.raises(KeyboardInterrupt):
                execute(run, **options)
            monkeypatch.setattr(evaluating, "evaluate", play)
        results[name] = read_json(execute(run, **options))
    for key in ("returns", "history", "checks", "checkpoint_sha256", "identity", "parameters"):
        assert results["whole"][key] == results["pieces"][key], key


@pytest.mark.parametrize("method", ["iql", "cql"])
def test_divergence_is_named(method, tmp_path):
    dataset = load_dataset("halfcheetah/medium", sample=True)
    broken = dataclasses.replace(dataset, rewards=dataset.rewards * np.nan)
    with pytest.raises(Diverged, match="NaN or infinite"):
        fit(method, get_task("halfcheetah"), broken, tmp_path / "s.pt")


@pytest.mark.parametrize("method", ["iql", "cql"])
@pytest.mark.parametrize("name", ["halfcheetah/medium", "gamble/random", "key-to-door/random-1000"])
def test_a_checkpoint_plays_as_the_model_did(method, name, tmp_path):
    dataset = load_dataset(name, sample=True)
    task = get_task("halfcheetah" if name.startswith("half") else name.split("/")[0])
    model = fit(method, task, dataset, tmp_path / "s.pt", until=2)
    checkpoint = tmp_path / "model.safetensors"
    save_model(checkpoint, model, {"step": 2})
    agent = METHODS[method].agent({}, checkpoint, np.zeros(3))
    agent.reset(3)
    observations = dataset.observations[:3]
    actions = agent.act(observations)
    with torch.no_grad():
        expected = model.eval().act(torch.from_numpy(observations)).numpy()
    np.testing.assert_array_equal(actions, expected)
    assert actions.shape == ((3,) if task.discrete else (3, task.action_size))
    agent.observe(np.zeros(3))


def test_next_states_and_ends():
    dataset = load_dataset("gridmaze/halves", sample=True)
    drawn = make_transitions(dataset).sample(np.random.default_rng(0), 4000)
    table = {}
    for e, (start, length) in enumerate(zip(dataset.starts, dataset.lengths, strict=True)):
        rows = dataset.observations[start : start + length]
        after = np.concatenate([rows[1:], dataset.final_observations[e : e + 1]])
        for t in range(length):
            end = bool(dataset.terminated[e]) and t == length - 1
            key = (rows[t].argmax(), int(dataset.actions[start + t]))
            table.setdefault(key, set()).add((int(after[t].argmax()), end))
    seen = {}
    for s, a, s2, end in zip(drawn["observations"], drawn["actions"], drawn["next_observations"],
                             drawn["terminated"], strict=True):  # fmt: skip
        seen.setdefault((int(s.argmax()), int(a)), set()).add((int(s2.argmax()), bool(end)))
    assert seen == {(int(s), a): outcomes for (s, a), outcomes in table.items()}
    assert any(end for outcomes in seen.values() for _, end in outcomes)


def test_an_entry_that_the_data_never_showed_is_not_blown_up():
    dataset = load_dataset("gridmaze/halves", sample=True)
    model = value_based.make_iql(get_task("gridmaze"), dataset, width=8, layers=1)
    unseen = int(np.flatnonzero(dataset.observations.max(axis=0) == 0)[0])
    assert model.actor.encode(torch.eye(49)[unseen : unseen + 1]).abs().max() < 100


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("iql", {"expectil": 0.7}, r"unknown IQL options \['expectil'\]; known: .*expectile"),
        ("cql", {"alpha": 1.0}, r"unknown CQL options \['alpha'\]; known: .*conservatism"),
        ("iql", {"expectile": 1.0}, "expectile is 1.0; choose between 0 and 1"),
        ("iql", {"discount": 1.0}, "discount is 1.0; choose 0 or more"),
        ("cql", {"target_rate": 0.0}, "target_rate is 0.0; choose more than 0"),
        ("cql", {"samples": 0}, "samples is 0; set it to 1"),
        ("iql", {"width": 0}, "width is 0; set it to 1"),
    ],
)
def test_a_bad_option_is_named(method, changes, message):
    dataset = load_dataset("halfcheetah/medium", sample=True)
    with pytest.raises(ValueError, match=message):
        METHODS[method].make(get_task("halfcheetah"), dataset, **changes)


@pytest.mark.parametrize("method", ["bc", "iql", "cql"])
def test_actions_that_no_policy_could_give_are_refused(method):
    dataset = load_dataset("halfcheetah/medium", sample=True)
    wide = dataclasses.replace(dataset, actions=dataset.actions * 2)
    with pytest.raises(ValueError, match="between -1 and 1; rescale the environment's actions"):
        METHODS[method].make(get_task("halfcheetah"), wide)


def test_a_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    dataset = load_dataset("gamble/random", sample=True)
    model = imitation.make_imitation(get_task("gamble"), dataset)
    save_model(path, model, {})
    with pytest.raises(BadFile, match=r"holds method 'bc'; expected one of \['cql', 'iql'\]"):
        load_model(path, value_based.KINDS)
    with pytest.raises(ValueError, match="does not plan; remove"):
        METHODS["iql"].agent({"beam_width": 2}, path, np.zeros(1))
