"""Trajectory Transformers in the format of transformers 4.57, whose class has left the library.

tests/golden/trajectory-transformer holds a small random model written by transformers 4.57.6, with
its answers to some tokens.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import paths
from helpers.analysis.attention import trajectory_attention
from helpers.data.tokens import Discretiser, uniform_discretiser
from helpers.files import BadFile, read_arrays, write_arrays
from helpers.models.pretrained_trajectory import load_pretrained_trajectory
from helpers.planning.beam import BeamConfig, BeamPlanner

GOLDEN = Path(__file__).parent / "golden" / "trajectory-transformer"
REAL = paths.ROOT.parent / "shared" / "data-real" / "trajectory-transformer"
EDGES = uniform_discretiser(-np.ones(7), np.ones(7), 5)


def test_outputs_and_attention_are_those_of_the_removed_class():
    model = load_pretrained_trajectory(EDGES, GOLDEN)
    golden, made = read_arrays(GOLDEN / "golden.safetensors")
    assert made["made_by"].startswith("transformers 4.57.6")
    tokens = torch.from_numpy(golden["tokens"])
    assert (tokens == 5).any(), "end tokens among them"
    with torch.inference_mode():
        found = model(tokens)
        weights = trajectory_attention(model, tokens).weights
    assert torch.allclose(found, torch.from_numpy(golden["logits"]), atol=1e-5)
    for layer in range(2):
        expected = torch.from_numpy(golden[f"attention{layer}"])
        assert torch.allclose(weights[layer], expected, atol=1e-5)


def test_it_plans_from_its_own_beginning_to_the_last_position():
    model = load_pretrained_trajectory(EDGES, GOLDEN)
    planner = BeamPlanner(model, BeamConfig(beam_width=4, context=2, horizon=2))
    context = torch.randint(5, (2, 17), generator=torch.Generator().manual_seed(0))
    plans = planner.plan(context, torch.Generator().manual_seed(0))
    assert plans.actions.shape == (2, 2, 2) and np.isfinite(plans.scores).all()


def test_the_width_comes_from_the_weights(tmp_path):
    """The published configuration says 32 where the matrices have 128."""
    folder = shutil.copytree(GOLDEN, tmp_path / "x")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_embd": 8}))
    assert load_pretrained_trajectory(EDGES, folder).config.width == 16


def test_bad_checkpoints_and_discretisers_are_told(tmp_path):
    other = uniform_discretiser(-np.ones(25), np.ones(25), 100)
    with pytest.raises(
        ValueError, match="has 7 dimensions of 5 tokens, but the discretiser has 25"
    ):
        load_pretrained_trajectory(other, GOLDEN)
    folder = shutil.copytree(GOLDEN, tmp_path / "x")
    arrays, _ = read_arrays(folder / "model.safetensors")
    lacking = {name: array for name, array in arrays.items() if name != "blocks.1.l2.bias"}
    write_arrays(folder / "model.safetensors", lacking)
    with pytest.raises(BadFile, match=r"weight 'blocks.1.l2.bias' is missing"):
        load_pretrained_trajectory(EDGES, folder)
    write_arrays(folder / "model.safetensors", {**arrays, "ln_f.bias": np.zeros(3, np.float32)})
    with pytest.raises(BadFile, match=r"'transformer.norm.bias' has shape \(3,\)"):
        load_pretrained_trajectory(EDGES, folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="third-party data is not here")
def test_a_real_discretiser_fits_the_papers_shape():
    """Howuhh's, of the real D4RL HalfCheetah medium set: 25 dimensions of 100 tokens."""
    from helpers.models.trajectory import TrajectoryConfig

    file = np.load(REAL / "halfcheetah-medium-v2-discretizer.npz")
    (name,) = (name for name in file.files if name.split(".")[-1] == "bin_edges")
    edges = Discretiser(np.asarray(file[name], np.float64), "uniform")
    config = TrajectoryConfig()
    assert edges.edges.shape == (config.step_size, config.bins + 1)
