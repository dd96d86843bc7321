"""The one transformer of the book: pre-norm blocks as in GPT-2, causal or bidirectional by mask.

Decision Transformer, Trajectory Transformer and LEAP differ in what they embed, what they mask and
what they read out, not in their blocks. Departures from GPT-2 (Radford et al. 2019), none of which
changes a result:

- no embeddings here: models bring their own tokens;
- query and key-value projections are two matrices, so that the last block can compute only the
  rows that a model reads out (`readout`): a Decision Transformer reads one token in three, which
  spares two thirds of the last block's multilayer perceptron;
- attention is PyTorch's fused kernel; written out where dropout or the weights themselves are
  wanted; and a bilinear form where there is one head (see `Attention`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from helpers.models.dropout import add_dropped, dropout
from helpers.models.perceptron import ACTIVATIONS, perceptron

INIT_STD = 0.02
Look = Callable[[Float[Tensor, "B H Q L"]], Float[Tensor, "B H Q L"]]
"""Sees attention weights, and gives those to use."""


class Probe:
    """What an analysis does inside a transformer (`analysis.interventions`); this one nothing."""

    def begin(self, allowed: Bool[Tensor, "#B 1 L L"]) -> None:
        """A pass begins; `allowed` says who may look at whom."""

    def weights(self, layer: int, weights: Float[Tensor, "B H L L"]) -> Float[Tensor, "B H L L"]:
        """The attention weights to use in a layer."""
        return weights

    def stream(self, layer: int, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The features to give to a layer."""
        return x


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
    """relu, gelu (the tanh approximation, as in GPT-2) or gelu_exact (as in minGPT)."""

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


def _additive(allowed: Bool[Tensor, "#B 1 L L"], dtype: torch.dtype) -> Float[Tensor, "#B 1 L L"]:
    """0 where allowed, minus infinity elsewhere: made once, added to every layer's scores."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, float("-inf"))


def _linear(x: Float[Tensor, "B L D"], layer: nn.Linear) -> Float[Tensor, "B L E"]:
    """`layer(x)`, with the bias added in place; F.linear spreads it over a new tensor first."""
    return (x.flatten(0, 1) @ layer.weight.t()).add_(layer.bias).view(*x.shape[:2], -1)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    A single head of full width, the Decision Transformer's for MuJoCo, is a bilinear form: the
    products of the weight matrices can be formed first, and neither keys nor values are computed.
    """

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
        mask: Float[Tensor, "#B 1 Q L"],
        look: Look | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Let the tokens `rows` attend to the tokens `x`; `look` may change the weights."""
        if self.heads == 1:
            return self._bilinear(x, rows, mask, look)
        q = self._split(_linear(rows, self.query))  # (B, H, Q, D / H)
        k, v = (self._split(part) for part in _linear(x, self.key_value).chunk(2, dim=-1))
        # PyTorch's fused kernel has no dropout on a CPU; it would fall back to the same steps.
        if look is not None or (self.training and self.dropout > 0.0):
            scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            weights = (scores + mask).softmax(dim=-1)
            weights = weights if look is None else look(weights)
            mixed = dropout(weights, self.dropout, self.training).to(v.dtype) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask.to(q.dtype))
        return _linear(mixed.transpose(1, 2).flatten(2), self.project)

    def _bilinear(
        self,
        x: Float[Tensor, "B L D"],
        rows: Float[Tensor, "B Q D"],
        mask: Float[Tensor, "#B 1 Q L"],
        look: Look | None,
    ) -> Float[Tensor, "B Q D"]:
        """One head: scores (x Wq + bq) (x Wk)' = (x Wq Wk' + bq Wk') x', values after mixing.

        The keys' bias adds the same to all scores of a row, so softmax does not see it.
        """
        w_key, w_value = self.key_value.weight.chunk(2)
        b_value = self.key_value.bias.chunk(2)[1]
        q = (rows.flatten(0, 1) @ (self.query.weight.t() @ w_key)).add_(self.query.bias @ w_key)
        bias = mask.squeeze(1).expand(x.shape[0], -1, -1)
        scores = torch.baddbmm(bias, q.view_as(rows), x.transpose(1, 2)) / x.shape[-1] ** 0.5
        weights = scores.softmax(dim=-1)
        if look is not None:
            weights = look(weights.unsqueeze(1)).squeeze(1)
        kept = dropout(weights, self.dropout, self.training)
        mixed = (kept @ x).flatten(0, 1) @ (self.project.weight @ w_value).t()
        # Dropped or changed weights may not add up to one, and the values' bias counts as often.
        mixed.addr_(kept.sum(dim=-1).flatten(), self.project.weight @ b_value)
        return mixed.add_(self.project.bias).view_as(rows)

    def parts(
        self, x: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """Query, key and value of each token: all that attention without dropout needs of it."""
        if self.heads > 1:
            k, v = _linear(x, self.key_value).chunk(2, dim=-1)
            return _linear(x, self.query), k, v
        w_key, w_value = self.key_value.weight.chunk(2)
        b_value = self.key_value.bias.chunk(2)[1]
        q = x @ (self.query.weight.t() @ w_key) + self.query.bias @ w_key
        v = x @ (self.project.weight @ w_value).t() + self.project.weight @ b_value
        return q, x, v + self.project.bias  # weights add up to one, so the bias comes through

    def mix(
        self,
        q: Float[Tensor, "B Q D"],
        k: Float[Tensor, "B L D"],
        v: Float[Tensor, "B L D"],
        mask: Float[Tensor, "#B 1 Q L"],
    ) -> Float[Tensor, "B Q D"]:
        """Attention of `parts`: the same as `forward` on the tokens they were made of."""
        if self.heads == 1:
            bias = mask.squeeze(1).expand(q.shape[0], -1, -1)
            scores = torch.baddbmm(bias, q, k.transpose(1, 2)) / q.shape[-1] ** 0.5
            return scores.softmax(dim=-1) @ v
        split = self._split
        mixed = F.scaled_dot_product_attention(split(q), split(k), split(v), mask)
        return _linear(mixed.transpose(1, 2).flatten(2), self.project)

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
        self.activation = config.activation
        self.dropout = config.dropout

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        mask: Float[Tensor, "#B 1 Q L"],
        readout: slice | Int[Tensor, "B Q"] | None = None,
        look: Look | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Update the tokens `readout`: a slice, places of each row, or all of them when None."""
        normed = self.norm_attention(x)
        rows = normed
        if readout is not None:
            x, rows = _rows(x, readout), _rows(normed, readout)
        return self.after_attention(x, self.attention(normed, rows, mask, look))

    def after_attention(
        self, x: Float[Tensor, "B L D"], mixed: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B L D"]:
        """Add what attention gave, then the perceptron's change."""
        x = add_dropped(x, mixed, self.dropout, self.training)
        change = perceptron(self.norm_mlp(x), self.expand, self.contract, self.activation)
        return add_dropped(x, change, self.dropout, self.training)


class Transformer(nn.Module):
    """A stack of blocks and a final normalisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.probe: Probe | None = None
        self.apply(_initialise)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        allowed: Bool[Tensor, "#B 1 L L"],
        readout: slice | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Final features of the tokens `readout` (all when None), given who may look at whom."""
        if self.probe is not None:
            return self._probed(x, allowed, readout)
        mask = _additive(allowed, x.dtype)
        *body, last = self.blocks
        for block in body:
            x = block(x, mask)
        x = last(x, mask if readout is None else mask[:, :, readout], readout)
        return self.norm(x)

    def prepare(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L P"]:
        """What the first block needs of each token, P = 4 D numbers.

        It depends on nothing but the token, so an agent whose window slides over its past keeps
        it and prepares only new tokens. In evaluation mode
        `advance(prepare(x), allowed, readout)` equals `forward(x, allowed, readout)`.
        """
        first = self.blocks[0]
        return torch.cat([x, *first.attention.parts(first.norm_attention(x))], dim=-1)

    def advance(
        self,
        prepared: Float[Tensor, "B L P"],
        allowed: Bool[Tensor, "#B 1 L L"],
        readout: slice | Int[Tensor, "B Q"],
    ) -> Float[Tensor, "B Q D"]:
        """Final features of the tokens `readout` from what `prepare` gave; without dropout."""
        x, q, k, v = prepared.chunk(4, dim=-1)
        if self.probe is not None:
            return self._probed(x, allowed, readout)
        mask = _additive(allowed, x.dtype)
        last_mask = _rows(mask.squeeze(1).expand(len(x), -1, -1), readout).unsqueeze(1)
        first, *rest = self.blocks
        if not rest:
            x, q, mask = _rows(x, readout), _rows(q, readout), last_mask
        x = first.after_attention(x, first.attention.mix(q, k, v, mask))
        for block in rest[:-1]:
            x = block(x, mask)
        if rest:
            x = rest[-1](x, last_mask, readout)
        return self.norm(x)

    def _probed(
        self,
        x: Float[Tensor, "B L D"],
        allowed: Bool[Tensor, "#B 1 L L"],
        readout: slice | Int[Tensor, "B Q"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """`forward` with the probe in every block, which computes all tokens there."""
        self.probe.begin(allowed)
        mask = _additive(allowed, x.dtype)
        for layer, block in enumerate(self.blocks):
            x = self.probe.stream(layer, x)
            x = block(x, mask, look=partial(self.probe.weights, layer))
        return self.norm(x if readout is None else _rows(x, readout))


def _rows(x: Float[Tensor, "B L D"], readout: slice | Int[Tensor, "B Q"]) -> Float[Tensor, "B Q D"]:
    """The tokens asked for."""
    if isinstance(readout, slice):
        return x[:, readout]
    return x.gather(1, readout[..., None].expand(-1, -1, x.shape[-1]))


def _initialise(module: nn.Module) -> None:
    """GPT-2's initialisation: normal weights of deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)
