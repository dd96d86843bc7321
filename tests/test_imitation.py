"""Behaviour cloning: loss, choice of episodes, what it learns, bad input."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers import paths
from helpers.data.catalogue import load_dataset
from helpers.data.episodes import Dataset
from helpers.data.transitions import best_episodes
from helpers.experiments import load_experiments, smoke_version
from helpers.files import BadFile, read_json, write_arrays
from helpers.methods import METHODS
from helpers.models import imitation
from helpers.models.checkpoints import load_model, save_model
from helpers.models.imitation import ClonedPolicy, ImitationConfig, imitation_loss
from helpers.runs import execute
from helpers.tasks import get_task
from helpers.train import TrainConfig, train

TINY = {"observation_size": 3, "action_size": 2, "width": 8, "layers": 1}


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads wait for each other at every layer of networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def constant(model: ClonedPolicy, *outputs: float) -> ClonedPolicy:
    """Let a policy's network give these outputs in every state."""
    for parameter in model.parameters():
        parameter.data.zero_()
    model.actor.heads.biases[-1].data.copy_(torch.tensor(outputs).view(1, 1, -1))
    return model


def episodes(*lengths_and_returns: tuple[int, float]) -> Dataset:
    """Episodes of these lengths, whose first reward is the return."""
    lengths = np.array([length for length, _ in lengths_and_returns])
    rewards = np.concatenate([[total, *[0.0] * (n - 1)] for n, total in lengths_and_returns])
    count, steps = len(lengths), int(lengths.sum())
    states = np.arange(steps, dtype=float)[:, None] * np.ones(3)
    return Dataset(states, np.zeros((steps, 2), np.float32), rewards, lengths,
                   np.zeros(count, bool), np.zeros((count, 3)), np.arange(count))  # fmt: skip


def test_loss_of_vectors_is_as_computed_by_hand():
    model = constant(ClonedPolicy(ImitationConfig(**TINY)), 0.0, np.arctanh(0.5))
    batch = {"observations": torch.randn(2, 3), "actions": torch.tensor([[0.5, 0.5], [0.0, -0.5]])}
    assert imitation_loss(model, batch).item() == pytest.approx((0.25 + 1.0) / 4)


def test_loss_of_numbered_actions_is_as_computed_by_hand():
    model = constant(ClonedPolicy(ImitationConfig(**TINY, discrete=True)), np.log(3.0), 0.0)
    batch = {"observations": torch.randn(2, 3), "actions": torch.tensor([0, 1])}
    expected = -(np.log(3 / 4) + np.log(1 / 4)) / 2
    assert imitation_loss(model, batch).item() == pytest.approx(expected)
    assert model.act(batch["observations"]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, [0, 1, 2, 3]), (0.5, [1, 2]), (0.1, [2]), (0.01, [2])]
)
def test_the_best_episodes_within_a_share_of_the_steps_are_kept(share, kept):
    dataset = episodes((2, 1.0), (4, 5.0), (1, 9.0), (3, -1.0))
    assert best_episodes(dataset, share).seeds.tolist() == kept


def test_a_run_imitates_the_share_that_its_configuration_names():
    dataset = load_dataset("halfcheetah/medium", sample=True)
    method = METHODS["bc"]
    for share, count in ((1.0, 4), (0.25, 1)):
        model = method.make(get_task("halfcheetah"), dataset, best_share=share)
        drawn = method.windows(dataset, model)
        assert len(drawn.rewards) == 1000 * count
        # ... but normalises with the statistics of all of them
        mean = dataset.observations.mean(axis=0)
        np.testing.assert_allclose(model.actor.encode.mean, mean, rtol=1e-4, atol=1e-5)
    assert float(drawn.rewards.sum()) == pytest.approx(dataset.returns.max(), rel=1e-4)


def test_it_learns_a_linear_map(tmp_path):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 3))
    actions = np.tanh(states @ rng.normal(size=(3, 2)) * 0.5).astype(np.float32)
    many = episodes(*[(1, 0.0)] * 400)
    dataset = dataclasses.replace(many, observations=states, actions=actions)
    task = dataclasses.replace(get_task("pointmaze"), observation_size=3)
    torch.manual_seed(0)
    model, method = METHODS["bc"].make(task, dataset, width=32, layers=2), METHODS["bc"]
    config = TrainConfig(steps=400, learning_rate=1e-2, warmup_steps=0, final_learning_rate=0.0)
    sample = method.windows(dataset, model).sample
    train(model, method.loss, sample, config, seed=0, state_path=tmp_path / "s.pt", progress=False)
    with torch.no_grad():
        error = model.act(torch.from_numpy(states)) - torch.from_numpy(actions)
    assert float(error.abs().mean()) < 0.03


@pytest.mark.parametrize("name", ["bc", "bc10"])
def test_a_small_run_leaves_a_result_and_a_checkpoint_that_plays(name, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WORK", tmp_path / "work")
    run = smoke_version(load_experiments()[name][0])
    result = read_json(execute(run, folder=tmp_path, sample=True, progress=False))
    assert len(result["returns"]) == 2 and np.isfinite(result["last"])
    model, metadata = load_model(run.checkpoint_path(tmp_path), imitation.KINDS)
    assert metadata["run"]["experiment"] == name
    assert model.config.best_share == (0.1 if name == "bc10" else 1.0)


@pytest.mark.parametrize("name", ["gamble/random", "key-to-door/random-1000"])
def test_numbered_actions_and_grids_are_played(name, tmp_path):
    dataset = load_dataset(name, sample=True)
    task, method = get_task(name.split("/")[0]), METHODS["bc"]
    model = method.make(task, dataset, width=16, layers=1)
    batch = method.windows(dataset, model).sample(np.random.default_rng(0), 8)
    assert torch.isfinite(method.loss(model, batch))
    path = tmp_path / "model.safetensors"
    save_model(path, model, {})
    actions = method.agent({}, path, np.zeros(3)).act(dataset.observations[:3])
    assert actions.shape == (3,) and set(actions.tolist()) <= set(range(task.action_size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best_share": 0.0}, "best_share is 0.0; choose more than 0 and at most 1"),
        ({"best_share": 10.0}, "best_share is 10.0; choose"),
        ({"bestshare": 0.1}, r"unknown behaviour cloning options \['bestshare'\]; known: "),
        ({"layers": 0}, "layers is 0; set it to 1 or more"),
    ],
)
def test_a_bad_option_is_named(changes, message):
    dataset = load_dataset("halfcheetah/medium", sample=True)
    with pytest.raises(ValueError, match=message):
        METHODS["bc"].make(get_task("halfcheetah"), dataset, **changes)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    model = ClonedPolicy(ImitationConfig(**TINY))
    save_model(path, model, {})
    arrays = {name: x.numpy() for name, x in model.state_dict().items()}
    wider = dataclasses.asdict(ImitationConfig(**{**TINY, "width": 16}))
    write_arrays(path, arrays, {"method": "bc", "model": wider})
    with pytest.raises(BadFile, match="the model expects"):
        load_model(path, imitation.KINDS)
    write_arrays(path, arrays, {"method": "bc", "model": {"widht": 8}})
    with pytest.raises(BadFile, match="known fields: .*best_share.*train it again"):
        load_model(path, imitation.KINDS)
