"""The Elastic Decision Transformer: estimates that do not see the return, histories of any length,
and attention to the last tokens only."""

import numpy as np
import pytest
import torch

from helpers.agents import ElasticAgent
from helpers.data.catalogue import load_dataset
from helpers.data.windows import make_windows
from helpers.models.checkpoints import load_model, save_model
from helpers.models.decision import STATE_TOKENS, make_decision
from helpers.models.elastic import KINDS, elastic_loss, make_elastic
from helpers.models.value_based import expectile_loss
from helpers.tasks import get_task

TASK = get_task("pointmaze")
SIZE = {"width": 16, "layers": 2, "heads": 2, "context_length": 6}


@pytest.fixture(scope="module")
def data():
    return load_dataset("pointmaze/halves", sample=True)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    model = make_elastic(TASK, data, **SIZE).eval()
    with torch.no_grad():  # far from their small initial scale, so that every part matters
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def batch(data, size=5):
    return make_windows(data, 6).sample(np.random.default_rng(1), size)


def tokens(model, batch, **changes):
    given = {name: value for name, value in {**batch, **changes}.items() if name != "valid"}
    return model.tokens(**given)


def test_the_estimate_sees_no_return(model, data):
    drawn = batch(data)
    other = torch.randn_like(drawn["returns_to_go"])
    before = model.estimates(tokens(model, drawn), drawn["valid"])
    after = model.estimates(tokens(model, drawn, returns_to_go=other), drawn["valid"])
    assert torch.equal(before[drawn["valid"]], after[drawn["valid"]])
    moved = tokens(model, drawn, observations=drawn["observations"] + 1)
    assert not torch.allclose(before, model.estimates(moved, drawn["valid"]))
    with torch.no_grad():
        actions = model(**drawn), model(**{**drawn, "returns_to_go": other})
    assert not torch.allclose(*actions), "the actions do see it"


def test_no_estimate_sees_what_comes_later(model, data):
    drawn = batch(data)
    later = drawn["observations"].clone()
    later[:, -1] += 1
    before = model.estimates(tokens(model, drawn), drawn["valid"])
    after = model.estimates(tokens(model, drawn, observations=later), drawn["valid"])
    assert torch.allclose(before[:, :-1], after[:, :-1], atol=1e-5)
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_an_agent_estimates_as_training_does(model, data):
    """One step's estimate from prepared tokens equals that of a full pass over the same window."""
    drawn = {name: value[:1] for name, value in batch(data).items()}
    drawn["valid"][:] = True
    x = tokens(model, drawn)
    with torch.no_grad():
        wanted = model.estimates(x, drawn["valid"])[:, -1]
        found = model.estimate(model.transformer.prepare(x[:, :-1]))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_loss_is_the_sum_of_both_errors(model, data):
    drawn = batch(data)
    valid = drawn["valid"]
    x = tokens(model, drawn)
    actions = (model(**drawn) - drawn["actions"])[valid].square().mean()
    gap = (drawn["returns_to_go"] / TASK.return_scale - model.estimates(x, valid))[valid]
    wanted = actions + expectile_loss(gap, 0.99)
    assert torch.allclose(elastic_loss(model, drawn), wanted)


def test_a_trained_estimate_is_the_best_that_followed(data):
    """Histories that are all alike; half of them paid 1, half 0. The expectile says nearly 1."""
    torch.manual_seed(0)
    model = make_elastic(TASK, data, width=16, layers=1, heads=1, context_length=1, dropout=0.0)
    observations = torch.zeros(64, 1, TASK.observation_size)
    drawn = {
        "returns_to_go": (torch.arange(64) % 2).float()[:, None],
        "observations": observations,
        "actions": torch.zeros(64, 1, TASK.action_size),
        "timesteps": torch.zeros(64, 1, dtype=torch.int64),
        "valid": torch.ones(64, 1, dtype=torch.bool),
    }
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        elastic_loss(model, drawn).backward()
        optimiser.step()
    found = model.estimates(tokens(model, drawn), drawn["valid"])
    assert torch.allclose(found, torch.tensor(0.99), atol=0.03)


def play(agent, steps, n=3, seed=0):
    rng = np.random.default_rng(seed)
    agent.reset(n)
    actions = []
    for _ in range(steps):
        actions.append(agent.act(rng.normal(size=(n, TASK.observation_size))))
        agent.observe(np.zeros(n))
    return np.stack(actions)


def test_episodes_choose_for_themselves(model, monkeypatch):
    by_length = {2: [1.0, 0.0, 0.0], 5: [0.0, 1.0, 0.0], 11: [0.0, 0.0, 0.0], 17: [0.0, 0.0, 1.0]}
    monkeypatch.setattr(
        type(model), "estimate", lambda self, x: torch.tensor(by_length[x.shape[1]])
    )
    agent = ElasticAgent(model, np.ones(3))
    agent.reset(3)
    # A history of k steps holds 3 k - 1 tokens; the scores are those of a model that sees no more.
    prepared = torch.randn(3, 17, 4 * SIZE["width"])
    found = agent.decide(prepared)
    assert agent.chosen[-1].tolist() == [1, 2, 6]
    for row, length in enumerate((1, 2, 6)):
        alone = model.scores(prepared[row : row + 1, 1 - 3 * length :])
        assert torch.allclose(found[row], alone[0], atol=1e-5)


def test_of_equal_estimates_the_shortest_history_wins(model, monkeypatch):
    monkeypatch.setattr(type(model), "estimate", lambda self, x: torch.zeros(len(x)))
    agent = ElasticAgent(model, np.ones(3))
    play(agent, 8)
    assert all((chosen == 1).all() for chosen in agent.chosen)


def test_a_checkpoint_comes_back(model, tmp_path):
    path = tmp_path / "edt.safetensors"
    save_model(path, model, {})
    again, _ = load_model(path, KINDS)
    assert np.array_equal(
        play(ElasticAgent(model, np.ones(3)), 8), play(ElasticAgent(again, np.ones(3)), 8)
    )


@pytest.mark.parametrize("changes", [{"expectile": 1.0}, {"expectile": 0.0}])
def test_an_impossible_expectile_is_named(data, changes):
    with pytest.raises(ValueError, match="choose between 0 and 1, such as 0.99"):
        make_elastic(TASK, data, **changes)


def test_unknown_options_are_named(data):
    with pytest.raises(ValueError, match="unknown Decision Transformer options"):
        make_elastic(TASK, data, horizons=3)


def test_a_window_hides_what_lies_before_it(data):
    """With 4 tokens and one layer, a state sees its return, the last action and the last state."""
    torch.manual_seed(0)
    model = make_decision(
        TASK, data, width=16, layers=1, heads=2, context_length=6, attention_window=4
    ).eval()
    drawn = batch(data)
    drawn["valid"][:] = True
    before = model(**drawn)
    older = drawn["observations"].clone()
    older[:, -3] += 10
    assert torch.allclose(before[:, -1], model(**{**drawn, "observations": older})[:, -1])
    last = drawn["observations"].clone()
    last[:, -2] += 10
    assert not torch.allclose(before[:, -1], model(**{**drawn, "observations": last})[:, -1])
    prepared = model.transformer.prepare(tokens(model, drawn)[:, :-1])
    assert torch.allclose(model.scores(prepared), before[:, -1], atol=1e-5), "and so in play"


def test_states_are_the_second_of_three_tokens():
    assert list(range(9))[STATE_TOKENS] == [1, 4, 7]
