"""The one transformer of the book: pre-norm blocks as in GPT-2, causal or bidirectional by mask.

Decision Transformer, Trajectory Transformer and LEAP differ in what they embed, what they mask and
what they read out, not in their blocks. Departures from GPT-2 (Radford et al. 2019), none of which
changes a result:

- no embeddings here: models bring their own tokens;
- query and key-value projections are two matrices, so that the last block can compute only the
  rows that a model reads out (`readout`): a Decision Transformer reads one token in three, which
  spares two thirds of the last block's multilayer perceptron;
- attention is PyTorch's fused kernel, or written out when the weights themselves are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from helpers.models.dropout import Dropout, dropout

ACTIVATIONS = {
    "relu": lambda x: F.relu(x, inplace=True),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
}
INIT_STD = 0.02


@dataclass(frozen=True)
class TransformerConfig:
    """Size of the core."""

    width: int = 128
    """D, features of a token."""
    layers: int = 3
    heads: int = 1
    dropout: float = 0.1
    """Applied to attention weights and to both residual branches."""
    activation: str = "relu"
    """relu, or gelu (the tanh approximation, as in GPT-2)."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {sorted(ACTIVATIONS)}")


def causal_mask(length: int, device: torch.device | None = None) -> Bool[Tensor, "1 1 L L"]:
    """True where a query (row) may look at a key (column): itself and what came before."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


def padding_aware(
    allowed: Bool[Tensor, "1 1 L L"], valid: Bool[Tensor, "B L"]
) -> Bool[Tensor, "B 1 L L"]:
    """Forbid padded keys. A padded query still sees itself: an empty row has no softmax."""
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    return allowed & (valid[:, None, None, :] | itself)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.project = nn.Linear(config.width, config.width)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        rows: Float[Tensor, "B Q D"],
        allowed: Bool[Tensor, "#B 1 Q L"],
        return_weights: bool,
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B H Q L"] | None]:
        """Let the tokens `rows` attend to the tokens `x`."""
        q = self._split(self.query(rows))  # (B, H, Q, D / H)
        k, v = (self._split(part) for part in self.key_value(x).chunk(2, dim=-1))
        weights = None
        # PyTorch's fused kernel has no dropout on a CPU; it would fall back to the same steps.
        if return_weights or (self.training and self.dropout > 0.0):
            scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)
            weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
            mixed = dropout(weights, self.dropout, self.training).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, allowed)
        return self.project(mixed.transpose(1, 2).flatten(2)), weights

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each on a normalised copy and added back."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.contract = nn.Linear(4 * config.width, config.width)
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        allowed: Bool[Tensor, "#B 1 Q L"],
        readout: slice | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B H Q L"] | None]:
        """Update the tokens `x[:, readout]` (all of them when None)."""
        normed = self.norm_attention(x)
        rows = normed
        if readout is not None:
            x, rows = x[:, readout], normed[:, readout]
        mixed, weights = self.attention(normed, rows, allowed, return_weights)
        x = x + self.dropout(mixed)
        hidden = self.activation(self.expand(self.norm_mlp(x)))
        return x + self.dropout(self.contract(hidden)), weights


class Transformer(nn.Module):
    """A stack of blocks and a final normalisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(_initialise)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        allowed: Bool[Tensor, "#B 1 L L"],
        readout: slice | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Final features of the tokens `readout` (all when None), given who may look at whom."""
        *body, last = self.blocks
        for block in body:
            x, _ = block(x, allowed)
        x, _ = last(x, allowed if readout is None else allowed[:, :, readout], readout)
        return self.norm(x)

    def attention_weights(
        self, x: Float[Tensor, "B L D"], allowed: Bool[Tensor, "#B 1 L L"]
    ) -> Float[Tensor, "layers B H L L"]:
        """Exact attention weights of every layer and head; rows sum to 1."""
        maps = []
        for block in self.blocks:
            x, weights = block(x, allowed, return_weights=True)
            maps.append(weights)
        return torch.stack(maps)


def _initialise(module: nn.Module) -> None:
    """GPT-2's initialisation: normal weights of deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)
