"""Decoding with the core: keys and values of what is past are kept, and shared where they agree.

A planner continues one context along many beams, each beam along several candidates. Their pasts
agree for most of their length, so the past is a list of *segments*: the context, of which there is
one for all beams; what a beam has added, of which there is one for all its candidates; and the
candidate's own tokens. A query meets each segment once, however many candidates share it, and
nothing that they share is copied.

Equal to the full pass (tested), tokens that nobody may look at included: those are decoded, but
leave no keys behind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from helpers.models.perceptron import ACTIVATIONS
from helpers.models.transformer import Block, Transformer


class Segment:
    """Keys and values of tokens that `owners` beams have each for themselves.

    Memory for `capacity` tokens is set aside at once; `length` of them are there.
    """

    def __init__(self, core: Transformer, envs: int, owners: int, capacity: int) -> None:
        block = core.blocks[0]
        width = block.attention.project.in_features
        heads = block.attention.heads
        like = block.attention.project.weight
        # Per layer and head, so that a product with the queries reads memory in order.
        shape = (len(core.blocks), envs, owners, heads, capacity, width // heads)
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.owners, self.capacity, self.length = owners, capacity, 0

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Set the keys and values (envs, owners, heads, t, d) behind the present length."""
        place = slice(self.length, self.length + k.shape[-2])
        self.keys[layer][..., place, :] = k
        self.values[layer][..., place, :] = v

    def adopt(self, other: Segment, parents: Int[Tensor, "envs owners"]) -> None:
        """Append, for each owner, what `parents` own in another segment."""
        place = slice(self.length, self.length + other.length)
        for env, owners in enumerate(parents):
            for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
                mine[:, env, :, :, place] = theirs[:, env, owners, :, : other.length]
        self.length += other.length


class Decoder:
    """The core's weights, laid out for decoding one token a beam at a time; without dropout.

    Normalisation's scale and shift and the scores' 1 / sqrt(d) are multiplied into the matrices.
    """

    def __init__(self, core: Transformer) -> None:
        self.core = core
        self.layers = [_Layer(block) for block in core.blocks]

    @torch.inference_mode()
    def prefill(
        self, x: Float[Tensor, "E P D"], visible: Bool[Tensor, " P"]
    ) -> tuple[Float[Tensor, "E P D"], Segment]:
        """Final features of a context, and its segment; keys of tokens not `visible` are left out.

        Every token may look at the visible ones that are not behind it.
        """
        envs, length, width = x.shape
        context = Segment(self.core, envs, 1, int(visible.sum()))
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = torch.zeros(length, context.capacity, dtype=x.dtype, device=x.device)
        mask.masked_fill_(~causal[:, visible], float("-inf"))
        for i, layer in enumerate(self.layers):
            q, k, v = layer.project(x.reshape(-1, width)).view(envs, length, -1).chunk(3, dim=-1)
            q, k, v = (part.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (q, k, v))
            k, v = k[:, :, visible], v[:, :, visible]
            context.write(i, k.unsqueeze(1), v.unsqueeze(1))
            mixed = F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)
            rows = mixed.transpose(1, 2).reshape(-1, width)
            x = layer.finish(x.reshape(-1, width), rows).view(envs, length, width)
        context.length = context.capacity
        return self.core.norm(x), context

    @torch.inference_mode()
    def step(
        self, x: Float[Tensor, "E n D"], past: list[Segment], visible: bool = True
    ) -> Float[Tensor, "E n D"]:
        """Final features of one new token of each of n beams.

        Args:
            x: embedded tokens.
            past: segments from the oldest to the newest; the owners of each divide n, and
                consecutive beams share one. The new token is appended to the last segment.
            visible: whether later tokens, and this one, may look at it.
        """
        envs, beams, width = x.shape
        x = x.reshape(-1, width)
        last = past[-1]
        for i, layer in enumerate(self.layers):
            q, k, v = layer.project(x).view(envs, beams, 3, layer.heads, -1).unbind(2)
            if visible:
                last.write(i, k.unsqueeze(-2), v.unsqueeze(-2))
            lengths = [s.length + (visible and s is last) for s in past]
            parts = [(s, n) for s, n in zip(past, lengths, strict=True) if n]
            mixed = _attend(q, parts, i)
            x = layer.finish(x, mixed.reshape(-1, width))
        last.length += visible
        return self.core.norm(x).view(envs, beams, width)


def _attend(
    q: Float[Tensor, "E n H d"], parts: list[tuple[Segment, int]], layer: int
) -> Float[Tensor, "E n H d"]:
    """Attention of each beam's query to its share of every segment."""
    envs, beams, heads, size = q.shape
    scores = []
    for segment, length in parts:
        # (E, owners, H, group, d) x (E, owners, H, d, length)
        grouped = q.view(envs, segment.owners, -1, heads, size).transpose(2, 3)
        products = grouped @ segment.keys[layer][..., :length, :].transpose(-2, -1)
        scores.append(products.transpose(2, 3).reshape(envs, beams, heads, length))
    weights = torch.cat(scores, dim=-1).softmax(dim=-1)
    mixed = 0.0
    for (segment, length), share in zip(
        parts, weights.split([length for _, length in parts], dim=-1), strict=True
    ):
        grouped = share.view(envs, segment.owners, -1, heads, length).transpose(2, 3)
        values = grouped @ segment.values[layer][..., :length, :]
        mixed = mixed + values.transpose(2, 3).reshape(envs, beams, heads, size)
    return mixed


class _Layer:
    """One block's matrices, ready for `addmm`."""

    def __init__(self, block: Block) -> None:
        attention = block.attention
        self.heads = attention.heads
        width = attention.project.in_features
        scale = (width // self.heads) ** -0.5
        weight = torch.cat([attention.query.weight * scale, attention.key_value.weight])
        bias = torch.cat([attention.query.bias * scale, attention.key_value.bias])
        self.qkv = _after_norm(block.norm_attention, weight, bias)
        self.out = (attention.project.weight.t().contiguous(), attention.project.bias)
        self.expand = _after_norm(block.norm_mlp, block.expand.weight, block.expand.bias)
        self.contract = (block.contract.weight.t().contiguous(), block.contract.bias)
        self.eps = block.norm_attention.eps
        self.activation = ACTIVATIONS[block.activation]

    def project(self, x: Float[Tensor, "rows D"]) -> Float[Tensor, "rows QKV"]:
        weight, bias = self.qkv
        return torch.addmm(bias, F.layer_norm(x, x.shape[-1:], eps=self.eps), weight)

    def finish(
        self, x: Float[Tensor, "rows D"], mixed: Float[Tensor, "rows D"]
    ) -> Float[Tensor, "rows D"]:
        weight, bias = self.out
        x = torch.addmm(x, mixed, weight).add_(bias)
        weight, bias = self.expand
        hidden = torch.addmm(bias, F.layer_norm(x, x.shape[-1:], eps=self.eps), weight)
        weight, bias = self.contract
        return x.addmm_(self.activation(hidden), weight).add_(bias)


def _after_norm(
    norm: torch.nn.LayerNorm, weight: Tensor, bias: Tensor
) -> tuple[Float[Tensor, "D out"], Float[Tensor, " out"]]:
    """The linear map behind a LayerNorm, with the norm's scale and shift multiplied in."""
    return (weight * norm.weight).t().contiguous(), bias + weight @ norm.bias
