"""Decision Transformers trained by others, in Hugging Face's format.

`edbeeching/decision-transformer-gym-halfcheetah-medium` is the checkpoint that the post analyses.
Its files hold no normalisation of the states: the model card gives the mean and deviation of the
data it was trained on, which `load_pretrained` takes as arguments.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import paths
from helpers.files import BadFile, read_arrays, read_json, sha256, write_json
from helpers.models.checkpoints import load_arrays
from helpers.models.decision import DecisionConfig, DecisionTransformer

HUB_ID = "edbeeching/decision-transformer-gym-halfcheetah-medium"
EMBEDDINGS = {
    "embed_timestep": "embed_time",
    "embed_return": "embed_return",
    "embed_state": "embed_observation",
    "embed_action": "embed_action",
}
UNUSED = ("predict_state.", "predict_return.")  # heads that were never trained


def from_hugging_face(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], context_length: int = 20
) -> DecisionTransformer:
    """Our model with the weights of a `transformers.DecisionTransformerModel`.

    Two differences of form: GPT-2's `Conv1D` stores matrices transposed, and Hugging Face adds the
    position embedding of position 0 to every token, a constant that we fold into the bias of the
    LayerNorm before it. Inputs follow our convention: states and returns in the task's units.

    Args:
        weights: the model's `state_dict()`.
        config: its configuration as a dictionary.
        context_length: steps the model was trained with (not in the configuration).

    Raises:
        BadFile: weights are missing or do not fit the configuration.
    """
    name = config.get("_name_or_path") or "Hugging Face checkpoint"
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if config.get(key):
            raise BadFile(f"{name}: {key} is set in config.json; our core has no such attention")
    layers = config["n_layer"]
    model = DecisionTransformer(
        DecisionConfig(
            observation_size=config["state_dim"],
            action_size=config["act_dim"],
            context_length=context_length,
            horizon=config["max_ep_len"],
            width=config["hidden_size"],
            layers=layers,
            heads=config["n_head"],
            dropout=config["resid_pdrop"],
            activation={"gelu_new": "gelu"}.get(*2 * (config["activation_function"],)),
        )
    )
    try:
        arrays = dict(_rename(weights, layers))
    except KeyError as error:
        raise BadFile(f"{name}: weight {error} is missing from the checkpoint") from error
    buffers = {k: v for k, v in model.state_dict().items() if k.startswith("observation_")}
    load_arrays(model, {**buffers, **arrays}, name)
    return model.eval()


def _rename(weights: Mapping[str, Tensor], layers: int) -> Iterator[tuple[str, Tensor]]:
    """Pairs of our parameter name and its value."""
    for theirs, ours in EMBEDDINGS.items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" in weights:
                yield f"{ours}.{part}", weights[f"{theirs}.{part}"]
    yield "embed_norm.weight", weights["embed_ln.weight"]
    yield "embed_norm.bias", weights["embed_ln.bias"] + weights["encoder.wpe.weight"][0]
    for i in range(layers):
        theirs, ours = f"encoder.h.{i}", f"transformer.blocks.{i}"
        matrix = weights[f"{theirs}.attn.c_attn.weight"].T
        bias = weights[f"{theirs}.attn.c_attn.bias"]
        width = matrix.shape[1]
        yield f"{ours}.attention.query.weight", matrix[:width]
        yield f"{ours}.attention.query.bias", bias[:width]
        yield f"{ours}.attention.key_value.weight", matrix[width:]
        yield f"{ours}.attention.key_value.bias", bias[width:]
        for conv, linear in (
            ("attn.c_proj", "attention.project"),
            ("mlp.c_fc", "expand"),
            ("mlp.c_proj", "contract"),
        ):
            yield f"{ours}.{linear}.weight", weights[f"{theirs}.{conv}.weight"].T
            yield f"{ours}.{linear}.bias", weights[f"{theirs}.{conv}.bias"]
        for norm, name in (("ln_1", "norm_attention"), ("ln_2", "norm_mlp")):
            for part in ("weight", "bias"):
                yield f"{ours}.{name}.{part}", weights[f"{theirs}.{norm}.{part}"]
    for part in ("weight", "bias"):
        yield f"transformer.norm.{part}", weights[f"encoder.ln_f.{part}"]
        yield f"predict_action.{part}", weights[f"predict_action.0.{part}"]


def load_pretrained(
    source: str | Path = HUB_ID,
    revision: str | None = None,
    *,
    observation_mean: np.ndarray | None = None,
    observation_std: np.ndarray | None = None,
) -> DecisionTransformer:
    """Load a Decision Transformer from the hub or from a local folder of the same format.

    Args:
        source: a hub id, or a folder with `config.json` and `model.safetensors` (or
            `pytorch_model.bin`, read with `weights_only=True`).
        revision: commit of the hub repository; default the one in data/pins.json.
        observation_mean: of the training data, (S,); zeros if not given.
        observation_std: likewise; ones if not given.

    Raises:
        BadFile: nothing found, no network, or weights that do not fit; the message says how to get
            the files.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = download_checkpoint(str(source), revision)
    config = read_json(folder / "config.json")
    model = from_hugging_face(read_weights(folder), {**config, "_name_or_path": str(source)})
    if observation_mean is not None:
        model.observation_mean.copy_(torch.as_tensor(observation_mean))
    if observation_std is not None:
        model.observation_std.copy_(torch.as_tensor(observation_std))
    return model


def download_checkpoint(hub_id: str, revision: str | None) -> Path:
    """The hub's files at a pinned commit.

    Without an explicit revision, the commit in data/pins.json is used; where there is none yet, the
    newest commit is taken and written there, so that every later load gets the same files.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    pins_path = paths.DATA / "pins.json"
    pins = read_json(pins_path) if pins_path.exists() else {}
    pinned = revision or pins.get(hub_id, {}).get("revision")
    try:
        config = Path(hf_hub_download(hub_id, "config.json", revision=pinned))
        try:
            weights = hf_hub_download(hub_id, "model.safetensors", revision=config.parent.name)
        except EntryNotFoundError:
            weights = hf_hub_download(hub_id, "pytorch_model.bin", revision=config.parent.name)
    except (HfHubHTTPError, OSError) as error:
        raise BadFile(
            f"{hub_id}: cannot be had from the Hugging Face hub ({type(error).__name__}). Without "
            "network, download config.json and the weights elsewhere (`hf download "
            f"{hub_id} --local-dir FOLDER`), copy the folder here and pass its path"
        ) from error
    pin = {"revision": config.parent.name, "sha256": sha256(weights)}
    known = pins.get(hub_id, pin)
    if revision is None and known["sha256"] != pin["sha256"]:
        raise BadFile(
            f"{weights}: SHA-256 {pin['sha256'][:16]} is not the pinned {known['sha256'][:16]} of "
            f"{pins_path}; the download was altered: delete the file and try again"
        )
    if revision is None and hub_id not in pins:
        write_json(pins_path, {**pins, hub_id: pin})
    return config.parent


def read_weights(folder: Path) -> dict[str, Tensor]:
    """State dictionary from safetensors or from a pickle restricted to tensors."""
    if (folder / "model.safetensors").is_file():
        arrays, _ = read_arrays(folder / "model.safetensors")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    path = folder / "pytorch_model.bin"
    if not path.is_file():
        raise BadFile(f"{folder}: neither model.safetensors nor pytorch_model.bin is there")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadFile(f"{path}: cannot be read with weights_only=True ({error})") from error
