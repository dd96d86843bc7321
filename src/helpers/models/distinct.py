"""Rows of a table that are equal, found without sorting them."""

from __future__ import annotations

import torch
from jaxtyping import Int, Real
from torch import Tensor


def first_of_each(rows: Real[Tensor, "N S"]) -> tuple[Int[Tensor, " U"], Int[Tensor, " N"]]:
    """Where each distinct row stands first, and which of those each row equals.

    Rows are compared by a random sum of their entries, which is many times faster than sorting
    them; should two different ones ever have the same sum, each row counts as distinct.
    """
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**40), 2**40, (rows.shape[1],), generator=generator)
    sums = (rows.long() * factors.to(rows.device)).sum(dim=1)
    distinct, which = sums.unique(return_inverse=True)
    everywhere = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(distinct, len(rows)).scatter_reduce_(0, which, everywhere, "amin")
    if not torch.equal(rows[first][which], rows):
        return everywhere, everywhere
    return first, which
