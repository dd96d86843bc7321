"""The training loop: resuming, killing, diverging."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.files import BadFile
from helpers.train import Diverged, TrainConfig, learning_rate, seconds_spent, train

CONFIG = TrainConfig(steps=40, batch_size=4, learning_rate=1e-2, warmup_steps=5, save_every=10,
                     log_every=10)  # fmt: skip

# Trains a small Decision Transformer on real episodes, slowly enough to be killed on the way.
PROGRAM = """
import sys, time, torch
from pathlib import Path
from helpers.data.catalogue import load_dataset
from helpers.data.windows import make_windows
from helpers.models.decision import decision_loss, make_decision
from helpers.tasks import get_task
from helpers.train import TrainConfig, train
torch.manual_seed(1)
dataset = load_dataset("halfcheetah/medium", sample=True)
model = make_decision(get_task("halfcheetah"), dataset, width=16, layers=2, context_length=4)
windows = make_windows(dataset, 4)
def sample(rng, n):
    time.sleep(float(sys.argv[3]))
    return windows.sample(rng, n)
config = TrainConfig(steps=200, batch_size=4, learning_rate=1e-2, warmup_steps=5, save_every=7)
train(model, decision_loss, sample, config, seed=0, state_path=Path(sys.argv[1]), progress=False)
torch.save(model.state_dict(), sys.argv[2])
"""


def linear(seed: int = 0) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 1)


def sample(rng: np.random.Generator, n: int) -> dict[str, torch.Tensor]:
    return {"x": torch.from_numpy(rng.normal(size=(n, 3))).float()}


def loss(model, batch):
    return (model(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()


def fit(path: Path, **options) -> torch.nn.Linear:
    model = linear()
    train(model, loss, sample, CONFIG, seed=0, state_path=path, progress=False, **options)
    return model


def test_the_loss_falls(tmp_path):
    history = train(
        linear(), loss, sample, CONFIG, seed=0, state_path=tmp_path / "s.pt", progress=False
    )
    assert [row["step"] for row in history] == [10, 20, 30, 40]
    assert history[-1]["loss"] < history[0]["loss"]


def test_training_in_pieces_gives_the_same_weights(tmp_path):
    whole = fit(tmp_path / "whole.pt")
    for until in (13, 20, 40):
        pieces = fit(tmp_path / "pieces.pt", until=until)
    assert torch.equal(whole.weight, pieces.weight)


def test_time_is_counted_over_all_pieces(tmp_path):
    path, spent = tmp_path / "s.pt", [0.0]
    for until in (13, 20, 40):
        fit(path, until=until)
        spent.append(seconds_spent(path))
        time.sleep(0.2)  # between the pieces: not training
    assert 0 < spent[1] < spent[2] < spent[3] < spent[1] + 0.4


def test_another_seed_gives_other_weights(tmp_path):
    other = linear()
    train(other, loss, sample, CONFIG, seed=1, state_path=tmp_path / "o.pt", progress=False)
    assert not torch.equal(fit(tmp_path / "w.pt").weight, other.weight)


def test_global_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = linear(seed=5)
    torch.manual_seed(5)
    train(model, loss, sample, CONFIG, seed=0, state_path=tmp_path / "s.pt", progress=False)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("moment", [0.15, 0.5])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, moment):
    """SIGKILL at an arbitrary step, then again from the saved state: equal, bit for bit."""

    def command(name: str, pause: float) -> list[str]:
        paths = [str(tmp_path / f"{name}{kind}.pt") for kind in ("-state", "")]
        return [sys.executable, "-c", PROGRAM, *paths, str(pause)]

    subprocess.run(command("whole", 0.0), check=True)
    process = subprocess.Popen(command("killed", 0.01))
    state = tmp_path / "killed-state.pt"
    deadline = time.time() + 60
    while not state.exists() and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(moment)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the program must not have finished before the kill"
    assert not (tmp_path / "killed.pt").exists()
    subprocess.run(command("killed", 0.0), check=True)
    whole, killed = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_divergence_stops_and_keeps_the_last_good_state(tmp_path):
    path = tmp_path / "state.pt"

    def explode(model, batch):
        explode.calls += 1
        return loss(model, batch) * (float("nan") if explode.calls > 25 else 1.0)

    explode.calls = 0
    with pytest.raises(Diverged, match="between steps 20 and 30"):
        train(linear(), explode, sample, CONFIG, seed=0, state_path=path, progress=False)
    state = torch.load(path)
    assert state["step"] == 20
    assert torch.isfinite(state["model"]["weight"]).all()


def test_a_damaged_or_foreign_state_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(path)
    with pytest.raises(BadFile, match="belongs to a run with"):
        train(linear(), loss, sample, CONFIG, seed=1, state_path=path, progress=False)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadFile, match="not a whole training state"):
        fit(path)


def test_learning_rate_schedule():
    config = TrainConfig(steps=100, learning_rate=1.0, warmup_steps=10, final_learning_rate=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert TrainConfig().final_learning_rate == 1.0
    assert learning_rate(TrainConfig(), 50_000) == 1e-4


def test_unknown_precision_is_refused(tmp_path):
    config = TrainConfig(steps=1, precision="float8")
    with pytest.raises(ValueError, match="float8"):
        train(linear(), loss, sample, config, seed=0, state_path=tmp_path / "s.pt")
