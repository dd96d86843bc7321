"""The two-layer perceptron of a transformer block, with few passes over its hidden layer.

The hidden layer is four times as wide as a token: at the Decision Transformer's batch 8 MB, more
than a core's cache. On a CPU every needless copy of it costs a few percent of a training step, and
autograd's own path makes three: it spreads the bias, and gives relu's gradient a new tensor.
Measured by `benchmarks/training_step.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ACTIVATIONS = {
    "relu": F.relu_,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_exact": F.gelu,
}


def perceptron(
    x: Float[Tensor, "B L D"], expand: nn.Linear, contract: nn.Linear, activation: str
) -> Float[Tensor, "B L D"]:
    """`contract(activation(expand(x)))`."""
    rows = x.flatten(0, 1)  # so that relu does not work on a view, which autograd would copy
    plain_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if activation == "relu" and plain_cpu:
        out = _Relu.apply(rows, expand.weight, expand.bias, contract.weight, contract.bias)
    else:
        out = contract(ACTIVATIONS[activation](expand(rows)))
    return out.view_as(x)


class _Relu(torch.autograd.Function):
    """relu(x W1' + b1) W2' + b2, everything on the hidden layer done in place."""

    @staticmethod
    def forward(ctx, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        hidden = (x @ w1.t()).add_(b1).relu_()
        ctx.save_for_backward(x, hidden, w1, w2)
        return (hidden @ w2.t()).add_(b2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, hidden, w1, w2 = ctx.saved_tensors
        back = gradient @ w2
        torch.ops.aten.threshold_backward.grad_input(back, hidden, 0.0, grad_input=back)
        return (back @ w1, back.t() @ x, back.sum(0), gradient.t() @ hidden, gradient.sum(0))
