"""Proposed repairs of sequence models, measured: their results, and what they do inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes

from helpers import paths
from helpers.agents import Agent, ElasticAgent
from helpers.analysis.disturbances import WatchedAgent
from helpers.analysis.statistics import Interval, difference_interval, mean_interval
from helpers.data.catalogue import get_spec, load_dataset
from helpers.data.collect import EpisodeMaker
from helpers.data.episodes import Dataset, join
from helpers.envs.crossroads import cell_of, is_open
from helpers.envs.grids import grid_layout, unpack
from helpers.envs.mazes import SIDE
from helpers.evaluate import rollout
from helpers.experiments import Run, load_experiments
from helpers.models.checkpoints import save_model
from helpers.models.value_based import QLearner
from helpers.plotting import GRID, INK, METHOD_STYLES, QUIET, rows_downwards
from helpers.runs import final_agent, fresh_model, returns_by_cell
from helpers.tasks import Task, get_task

MAZES = {"crossroads/halves": "crossroads", "pointmaze/halves": "PointMaze"}


@dataclass(frozen=True)
class Variant:
    """A method as it is, or with a repair: a row of the table of both mazes."""

    label: str
    style: str
    """Key of `plotting.METHOD_STYLES`."""
    experiments: tuple[str, ...]
    """One a maze."""
    repairs: str = ""
    """Label of the variant that it is a repair of."""


VARIANTS = (
    Variant("BC", "bc", ("cross-bc", "stitch-bc")),
    Variant("filtered BC", "bc10", ("cross-filtered", "stitch-filtered")),
    Variant("IQL", "iql", ("cross-iql", "stitch-iql")),
    Variant("CQL", "cql", ("cross-cql", "stitch-cql")),
    Variant("DT", "dt", ("cross-dt", "stitch-dt")),
    Variant("DT, one step", "dt", ("cross-dt1", "stitch-dt1"), "DT"),
    Variant("EDT", "dt", ("cross-edt", "stitch-edt"), "DT"),
    Variant("QDT", "dt", ("cross-qdt", "stitch-qdt"), "DT"),
    Variant("TT", "tt", ("cross-tt-past", "stitch-tt-past")),
    Variant("TT, no past", "tt", ("cross-tt-short", "stitch-tt"), "TT"),
    Variant("TT+Q", "tt", ("cross-ttq-past", "stitch-ttq-past"), "TT"),
    Variant("TT+Q, no past", "tt", ("cross-ttq", "stitch-ttq"), "TT"),
    Variant("TT+Q, no past, likely actions", "tt", ("cross-ttq-likely",), "TT"),
    Variant("TT+Q, no past, any action", "tt", ("cross-ttq-any",), "TT"),
    Variant("LEAP", "leap", ("cross-leap", "stitch-leap")),
    Variant("LEAP, a plan a step", "leap", ("cross-leap-replan", "stitch-leap-replan"), "LEAP"),
)


def success(experiment: str, profile: str) -> Float[np.ndarray, "_seeds _episodes"]:
    """Percent: 100 where an episode of the experiment's (only) dataset succeeded (`Task.score`).

    Args:
        experiment: one whose task pays for nothing but success.
        profile: as of `runs.obtain`.
    """
    runs = load_experiments()[experiment]
    (returns,) = returns_by_cell(runs, profile).values()
    return get_task(runs[0].task).score(returns)


def load_variants(profile: str) -> dict[tuple[str, str], Float[np.ndarray, "_seeds _episodes"]]:
    """Success of each variant in each maze in which it was tried, by label and dataset."""
    return {
        (variant.label, dataset): success(experiment, profile)
        for variant in VARIANTS
        for dataset, experiment in zip(MAZES, variant.experiments, strict=False)
    }


def gains(
    found: Mapping[tuple[str, str], Float[np.ndarray, "_seeds _episodes"]],
) -> dict[tuple[str, str], Interval]:
    """What each repair adds, in points of success, by label and dataset.

    Where both play the same trained models, the difference is that of the same episodes.
    """
    added, of = {}, {variant.label: variant for variant in VARIANTS}
    for variant in (variant for variant in VARIANTS if variant.repairs):
        plain = of[variant.repairs]
        # A variant that was tried in one maze has one experiment.
        for dataset, *pair in zip(MAZES, variant.experiments, plain.experiments, strict=False):
            ours, theirs = found[variant.label, dataset], found[plain.label, dataset]
            same = len(set(map(_trainer, pair))) == 1
            added[variant.label, dataset] = (
                mean_interval(ours - theirs) if same else difference_interval(ours, theirs)
            )
    return added


def _trainer(experiment: str) -> str:
    """The experiment whose models this one plays."""
    return load_experiments()[experiment][0].trained_by or experiment


def intervals(
    found: Mapping[tuple[str, str], Float[np.ndarray, "_seeds _episodes"]], dataset: str
) -> dict[str, Interval]:
    """Mean success of each variant in one maze."""
    return {label: mean_interval(values) for (label, of), values in found.items() if of == dataset}


def untrained_agent(run: Run) -> Agent:
    """An agent with freshly made weights in the shape of a run's model, for timing."""
    task = get_task(run.task)
    model = fresh_model(run, load_dataset(run.dataset, sample=True))
    path = paths.WORK / "untrained" / f"{run.name}.safetensors"
    save_model(path, model, {})
    return final_agent(run, path)(np.array([task.target_return]))


class _StartAt(gymnasium.Wrapper):
    """A maze whose episodes begin at the end of a given arm."""

    def __init__(self, env: gymnasium.Env, end: str) -> None:
        super().__init__(env)
        self.end = end

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin there."""
        return self.env.reset(seed=seed, options={**(options or {}), "start": self.end})


def starting_at(task: Task, end: str) -> Task:
    """One of the two mazes, entered by another arm than the test's (`envs.mazes.ENDS`)."""
    return replace(task, wrappers=(*task.wrappers, partial(_StartAt, end=end)))


def draw_variants(
    ax: Axes,
    found: Mapping[tuple[str, str], Float[np.ndarray, "_seeds _episodes"]],
    dataset: str,
    labels: Sequence[str],
) -> None:
    """One row a variant: mean success with its interval, below it a small mark for each model."""
    styles = {variant.label: METHOD_STYLES[variant.style] for variant in VARIANTS}
    for row, label in enumerate(labels):
        values, look = found[label, dataset], styles[label]
        interval = mean_interval(values)
        ax.plot([interval.low, interval.high], [row - 0.1] * 2, color=look.colour, lw=2.4,
                linestyle="-")  # fmt: skip
        ax.plot(interval.score, row - 0.1, look.marker, ms=7, color=look.colour)
        ax.plot(values.mean(axis=1), [row + 0.24] * len(values), look.marker, ms=4,
                color=look.colour)  # fmt: skip
    rows_downwards(ax, labels, -0.6)
    ax.set(xlim=(-4, 104), xlabel=f"success (%), {MAZES[dataset]}")


# --- the crossing of the point maze -------------------------------------------------------------

PUSHES = {"east": (1.0, 0.0), "north": (0.0, 1.0)}
"""Actions of the point maze, as far as they go."""


@dataclass(frozen=True)
class Crossing:
    """What a value-based learner makes of the centre, for a ball that comes from the west."""

    values: Mapping[str, float]
    """Mean value of a full push, by its direction."""
    push: Float[np.ndarray, " 2"]
    """What its policy does there, on average: x and y."""


def crossing_states(trips: int, reach: float = 0.4) -> Float[np.ndarray, "N 6"]:
    """Observations within `reach` metres of the centre, on recorded trips from west to north."""
    maker = EpisodeMaker(get_spec("pointmaze/west-north"))
    seen = join([maker(k) for k in range(trips)]).observations
    return seen[np.hypot(seen[:, 0], seen[:, 1]) < reach]


@torch.inference_mode()
def at_the_crossing(learner: QLearner, states: Float[np.ndarray, "N 6"]) -> Crossing:
    """Values of pushing on and of turning, and what the learner's policy does instead."""
    rows = torch.from_numpy(states).float()
    values = {
        name: float(learner.critics(rows, torch.tensor([push] * len(rows))).amin(dim=0).mean())
        for name, push in PUSHES.items()
    }
    return Crossing(values, learner.act(rows).mean(dim=0).numpy())


# --- the crossroads, cell by cell ---------------------------------------------------------------

Cells = dict[tuple[int, int], float]
"""By x and y, the outer wall counted."""


def by_cell(
    positions: Int[np.ndarray, "N 2"] | UInt8[np.ndarray, "N 2"], values: Float[np.ndarray, " N"]
) -> Cells:
    """Mean of the values that were met in each cell."""
    places, which = np.unique(positions, axis=0, return_inverse=True)
    sums = np.bincount(which.ravel(), weights=values)
    means = sums / np.bincount(which.ravel())
    return {(int(x), int(y)): float(v) for (x, y), v in zip(places, means, strict=True)}


def positions(task: Task, observations: UInt8[np.ndarray, "N S"]) -> UInt8[np.ndarray, "N 2"]:
    """Where the agent stands in packed observations of a grid level."""
    layout = grid_layout(task.grid_size, task.grid_size)
    return unpack(observations, layout)["pose"][:, :2]


def unpaid(dataset: Dataset) -> Dataset:
    """Its episodes without a reward."""
    return dataset.select(np.flatnonzero(dataset.returns == 0).tolist())


def chosen_histories(model: object, task: Task, seeds: list[int]) -> Cells:
    """How many steps an Elastic Decision Transformer looked back, on average, in each cell."""
    agent = ElasticAgent(model, np.full(len(seeds), task.target_return))
    watched = WatchedAgent(agent)
    rollout(watched, task, seeds)
    seen = np.concatenate([observations for _, observations, _ in watched.log])
    return by_cell(positions(task, seen), np.concatenate(agent.chosen).astype(float))


def draw_cells(ax: Axes, cells: Cells, digits: int = 2, high: float = 1.0) -> None:
    """The crossroads with a number in each cell that was met; darker up to `high`."""
    for x in range(1, SIDE + 1):
        for y in range(1, SIDE + 1):
            if not is_open(x, y):
                continue
            value = cells.get((x, y))
            share = 0.0 if value is None else np.clip(value / high, 0.0, 1.0)
            ax.fill([x - 0.5, x + 0.5, x + 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5],
                    facecolor="#0072b2", alpha=0.08 + 0.6 * share, edgecolor=GRID)  # fmt: skip
            if value is not None:
                ax.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=8,
                        color=INK)  # fmt: skip
    for end, name, shift in (("west", "start", (0, -0.75)), ("east", "paid", (0, -0.75)),
                             ("north", "not paid", (1.4, 0))):  # fmt: skip
        x, y = np.add(cell_of(end), shift)
        ax.text(x, y, name, ha="center", va="center", color=QUIET, fontsize=8.5)
    ax.set(xlim=(0.2, SIDE + 0.8), ylim=(SIDE + 0.8, 0.2), aspect="equal")
    ax.axis("off")
