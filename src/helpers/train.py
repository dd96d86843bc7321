"""One training loop for every method: resumable, on CPU or GPU.

Step n of a run uses randomness derived from (seed, n) alone: the batch from a NumPy generator,
dropout from a re-seeded torch generator. A training that is killed at any moment and started again
therefore continues from its last saved state and ends with the same weights, bit for bit.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from helpers.files import BadFile, write_bytes

Batch = dict[str, Tensor]
LogRow = dict[str, int | float]
"""step, mean loss, learning rate."""
ParameterGroup = dict[str, Any]
"""params, and optionally their rate: a factor on the learning rate."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation; the defaults are Decision Transformer's for Gym (kzl `experiment.py`)."""

    steps: int = 100_000
    batch_size: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    """AdamW's, on every parameter, as in the paper's code."""
    warmup_steps: int = 10_000
    """Linear warm-up; the paper's table says 100,000, its code 10,000 (we follow the code)."""
    final_learning_rate: float = 1.0
    """Fraction of the learning rate at the last step, reached by a cosine; 1 keeps it constant."""
    gradient_clip: float = 0.25
    """Bound on the gradient's norm; 0 for none."""
    precision: str = "float32"
    """float32, bfloat16 (autocast), or auto: bfloat16 where the hardware multiplies it faster."""
    log_every: int = 50
    save_every: int = 500


class Diverged(RuntimeError):
    """The loss became NaN or infinite; the last good state is kept on disk."""


def train(
    model: nn.Module,
    loss: Callable[[Any, Batch], Tensor],
    sample: Callable[[np.random.Generator, int], Batch],
    config: TrainConfig,
    *,
    seed: int,
    state_path: Path,
    until: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    groups: Callable[[Any], list[ParameterGroup]] | None = None,
    after_step: Callable[[Any], None] | None = None,
) -> list[LogRow]:
    """Train `model` in place up to step `until` (default: the end), resuming from `state_path`.

    Args:
        model: moved to `device`; its weights are replaced if a saved state exists.
        loss: gives the scalar loss of (model, batch).
        sample: draws a batch of the given size with the given generator.
        config: optimisation.
        seed: of batches and dropout. The caller initialises the model.
        state_path: written every `save_every` steps and at the end.
        until: stop after this step, for evaluations in between.
        device: cpu or cuda.
        progress: show a bar.
        groups: the model's parameters in groups with learning rates of their own; default all in
            one. Others are not trained.
        after_step: called with the model after each step (target networks).

    Returns:
        One row per `log_every` steps: step, mean loss, learning rate.

    Raises:
        Diverged: the loss is not finite.
        BadFile: the saved state is cut short or belongs to another run.
    """
    model.to(device).train()
    optimiser = torch.optim.AdamW(
        groups(model) if groups else model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    identity = {"config": asdict(config), "seed": seed}
    step, history, spent = _load_state(state_path, model, optimiser, identity)
    begun = time.perf_counter() - spent
    until = config.steps if until is None else until
    autocast = torch.autocast(device, torch.bfloat16, enabled=_bfloat16(config.precision, device))
    recent: list[Tensor] = []
    bar = tqdm(total=until, initial=min(step, until), unit="step", disable=not progress)
    with bar, torch.random.fork_rng():
        while step < until:
            batch = sample(np.random.default_rng((seed, step)), config.batch_size)
            torch.manual_seed(seed * 1_000_003 + step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step) * group.get("rate", 1.0)
            with autocast:
                value = loss(model, {name: x.to(device) for name, x in batch.items()})
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            if config.gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            recent.append(value.detach())
            optimiser.step()
            if after_step:
                after_step(model)
            step += 1
            bar.update()
            if step % config.log_every == 0 or step == until:
                row = _log(recent, step, config, state_path)
                history.append(row)
                recent = []
                bar.set_postfix(loss=f"{row['loss']:.4f}")
            if step % config.save_every == 0 or step == until:
                _check_finite(recent, step, state_path)
                spent = time.perf_counter() - begun
                _save_state(state_path, model, optimiser, step, history, identity, spent)
    return history


def seconds_spent(state_path: Path) -> float:
    """Training time that led to a saved state, interruptions left out."""
    return torch.load(state_path, map_location="cpu", weights_only=True).get("seconds", 0.0)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then constant or a cosine down to `final_learning_rate` of it."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    span = max(1, config.steps - config.warmup_steps)
    done = min(1.0, max(0, step - config.warmup_steps) / span)
    cosine = 0.5 * (1.0 + math.cos(math.pi * done))
    floor = config.final_learning_rate
    return config.learning_rate * warm * (floor + (1.0 - floor) * cosine)


def _bfloat16(precision: str, device: str) -> bool:
    if precision == "auto":
        return has_fast_bfloat16(device)
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision {precision!r} is not float32, bfloat16 or auto")
    return precision == "bfloat16"


def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are faster than float32 ones on this device.

    A CPU needs AMX tiles for that. Without them a product of 3,840 x 128 by 128 x 512 took 6.9 ms
    in bfloat16 against 4.2 ms in float32 on one core of a Xeon that has AVX-512 BF16.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_amx_tile_supported())


def _log(recent: list[Tensor], step: int, config: TrainConfig, state_path: Path) -> LogRow:
    _check_finite(recent, step, state_path)
    mean = float(torch.stack(recent).mean())
    return {"step": step, "loss": mean, "learning_rate": learning_rate(config, step - 1)}


def _check_finite(recent: list[Tensor], step: int, state_path: Path) -> None:
    """Before logging or saving; not every step, since on a GPU each look waits for the device."""
    if recent and not torch.stack(recent).isfinite().all():
        raise Diverged(
            f"the loss became NaN or infinite between steps {step - len(recent)} and {step}; the "
            f"last good state is in {state_path}. Lower the learning rate or check the data"
        )


def _save_state(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    history: list[LogRow],
    identity: dict[str, Any],
    seconds: float,
) -> None:
    buffer = io.BytesIO()
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "history": history,
        "identity": identity,
        "seconds": seconds,
    }
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def _load_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, identity: dict[str, Any]
) -> tuple[int, list[LogRow], float]:
    """Restore a saved state, if any; returns the step, the history and the seconds so far."""
    if not path.exists():
        return 0, [], 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["identity"]
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise BadFile(
            f"{path}: not a whole training state ({error}); delete it to start again"
        ) from error
    if saved != identity:
        raise BadFile(
            f"{path}: this state belongs to a run with {saved}, not {identity}; "
            "delete it to start again, or use another folder"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["history"], state.get("seconds", 0.0)
