"""Trajectory Transformers trained by others, in the format of transformers before version 5.

`CarlCochet/trajectory-transformer-halfcheetah-medium-v2` is the checkpoint that the post analyses.
Its class, `TrajectoryTransformerModel`, has left the library; its weights are read into our model.
The files hold no discretiser: tokens mean what the data they were made from say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.data.tokens import Discretiser
from helpers.files import BadFile, read_json
from helpers.models.checkpoints import load_arrays
from helpers.models.pretrained import download_checkpoint, read_weights
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer

HUB_ID = "CarlCochet/trajectory-transformer-halfcheetah-medium-v2"
PARTS = {
    "ln1": "norm_attention",
    "attn.query": "attention.query",
    "attn.proj": "attention.project",
    "ln2": "norm_mlp",
    "l1": "expand",
    "l2": "contract",
}
"""Their name in a block and ours; keys and values are one matrix here and two there."""


def load_pretrained_trajectory(
    discretiser: Discretiser, source: str | Path = HUB_ID, revision: str | None = None
) -> TrajectoryTransformer:
    """Load a Trajectory Transformer from the hub or from a local folder of the same format.

    Args:
        discretiser: of the data it was trained on, with as many bins as it has tokens.
        source: a hub id, or a folder with `config.json` and `model.safetensors` (or
            `pytorch_model.bin`, read with `weights_only=True`).
        revision: commit of the hub repository; default the one in data/pins.json.

    Raises:
        BadFile: nothing found, no network, or weights that do not fit; the message says how to get
            the files.
        ValueError: a discretiser of other dimensions.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = download_checkpoint(str(source), revision)
    return from_hugging_face(
        read_weights(folder), read_json(folder / "config.json"), discretiser, str(source)
    )


def from_hugging_face(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], discretiser: Discretiser, name: str
) -> TrajectoryTransformer:
    """Our model with the weights of a `transformers.TrajectoryTransformerModel`.

    Raises:
        BadFile: weights are missing or do not fit the configuration.
        ValueError: a discretiser of other dimensions.
    """
    size, bins = config["transition_dim"], config["vocab_size"]
    if discretiser.edges.shape != (size, bins + 1):
        raise ValueError(
            f"{name} has {size} dimensions of {bins} tokens, but the discretiser has "
            f"{len(discretiser.edges)} of {discretiser.bins}; fit one on the model's own task"
        )
    try:
        arrays = dict(_rename(weights, config))
    except KeyError as error:
        raise BadFile(f"{name}: weight {error} is missing from the checkpoint") from error
    model = TrajectoryTransformer(
        TrajectoryConfig(
            observation_size=config["observation_dim"],
            action_size=config["action_dim"],
            context_length=-(-config["block_size"] // size),
            bins=bins,
            discretiser=discretiser.kind,
            # The published configuration gives the width of one head; the weights know better.
            width=arrays["embed_token.weight"].shape[1],
            layers=config["n_layer"],
            heads=config["n_head"],
            dropout=config["resid_pdrop"],
            activation="gelu_exact",
        )
    )
    load_arrays(model, {**arrays, "edges": torch.from_numpy(discretiser.edges)}, name)
    return model.eval()


def _rename(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Pairs of our parameter name and its value."""
    yield "embed_token.weight", weights["tok_emb.weight"]
    positions = weights["pos_emb"][0]
    # Theirs end before the last value, of which nothing is ever predicted.
    lacking = -len(positions) % config["transition_dim"]
    yield "embed_position", torch.cat([positions, positions.new_zeros(lacking, len(positions[0]))])
    for i in range(config["n_layer"]):
        theirs, ours = f"blocks.{i}", f"transformer.blocks.{i}"
        for part in ("weight", "bias"):
            for their_name, our_name in PARTS.items():
                yield f"{ours}.{our_name}.{part}", weights[f"{theirs}.{their_name}.{part}"]
            both = [weights[f"{theirs}.attn.{name}.{part}"] for name in ("key", "value")]
            yield f"{ours}.attention.key_value.{part}", torch.cat(both)
    for part in ("weight", "bias"):
        yield f"transformer.norm.{part}", weights[f"ln_f.{part}"]
    # Their heads are numbered by the token that is read, ours by the one that is predicted.
    yield "head", weights["head.weight"].transpose(1, 2).roll(1, dims=0)
