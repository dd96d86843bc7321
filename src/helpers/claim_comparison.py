"""The post's comparison of DT, TT and LEAP, aspect by aspect: each cell a number of ours.

What an aspect is measured by is a choice. Where it can be, it is the same quantity on the same
task for all three; where that was not run, the cell says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from helpers.analysis.attention import AttentionMaps, normalised_entropy
from helpers.analysis.cost import beam_cost, decision_cost, gibbs_cost
from helpers.analysis.robustness import kept_by_seed, share_intervals
from helpers.analysis.statistics import Interval, difference_interval, mean_interval, side
from helpers.claim_attention import by_episode, decision_maps, leap_map, trajectory_maps
from helpers.claim_models import episodes, timed_decisions
from helpers.claim_tables import chapter_link, stacked, table, text
from helpers.claims import cell, cell_runs, difference, episodes_of, stand_in
from helpers.models.decision import DecisionConfig
from helpers.models.grid_trajectory import POSE
from helpers.models.leap import LeapConfig
from helpers.models.trajectory import TrajectoryConfig
from helpers.planning.beam import BeamConfig
from helpers.planning.gibbs import GibbsConfig
from helpers.runs import obtain

MODELS = {"dt": "DT", "tt": "TT", "leap": "LEAP"}
NOT_RUN = "not run"
LEVELS = tuple(
    f"babyai-{level}/expert"
    for level in (
        "gotolocal-s7n5", "gotolocal-s8n7", "gotoredballgrey", "pickuploc", "gotoobjmaze-s4r2",
        "gotoobjmaze-s4", "gotoobjmaze-s7",
    )
)  # fmt: skip
ROOM, MAZE = LEVELS[0], LEVELS[-1]
COMPOSED = {"dt": "both-dt-sum babyai-part/expert", "leap": "both-leap-sum babyai-part/expert"}
STITCHED = {
    "dt": "cross-dt crossroads/halves",
    "tt": "cross-tt-past crossroads/halves",
    "leap": "cross-leap crossroads/halves",
}
SHAKEN = {
    "dt": ("shaken-dt-20 halfcheetah/medium", "dt halfcheetah/medium"),
    "tt": ("shaken-tt-narrow-20 halfcheetah/medium", "tt-narrow halfcheetah/medium"),
}
"""Cells of methods that were run, with and without noise."""


@dataclass(frozen=True)
class Aspect:
    """One row."""

    name: str
    """As in the post, in our words."""
    measured: str
    """What stands in the cells."""
    values: Mapping[str, str]
    """By method; one that is missing was not run."""
    chapters: Mapping[str, str]
    """Where the number comes from, by method."""


def comparison(profile: str) -> list[Aspect]:
    """All aspects.

    Args:
        profile: as of `claims.evaluate`.

    Raises:
        BadFile: as `claims.evaluate`.
    """
    own = {"dt": "04_decision_transformer", "tt": "05_trajectory_transformer", "leap": "06_leap"}
    rows = (
        ("architecture", "trained weights, in thousands (GoToLocalS7N5)", _weights(profile), own),
        ("tokenization", "tokens of a time step (BabyAI)", _tokens_of_a_step(), own),
        ("planning", "calls of the network, one after another, for a plan (GoToLocalS7N5)",
         _calls(), "09_errors_and_cost"),
        ("inference speed", "milliseconds of a decision, one core (DT, TT: HalfCheetah; LEAP: a "
         "plan in GoToLocalS7N5)", _milliseconds(profile), "09_errors_and_cost"),
        ("long horizons", "success in GoToObjMazeS7 (%)", _success([MAZE], profile), "06_leap"),
        ("sparse rewards", "success over seven levels that pay at the end only (%)",
         _success(LEVELS, profile), "06_leap"),
        ("compositional tasks", "success on missions of two parts never trained together, the two "
         "goals summed (%)", _of_cells(COMPOSED, profile), "06_leap"),
        ("trajectory stitching", "success at the crossroads, a way recorded in halves (%)",
         _of_cells(STITCHED, profile), "10_limits"),
        ("attention pattern", "entropy over its maximum, 1 is even attention (DT, TT: HalfCheetah "
         "medium; LEAP: GoToLocalS7N5)", _entropies(profile), "08_attention"),
        ("error propagation", "return kept when noise of 0.2 disturbs every torque (%, HalfCheetah "
         "medium; TT with a beam of 8)", _kept(profile), "09_errors_and_cost"),
        ("best for", "levels, of seven, on which it is first or not clearly below the first",
         _firsts(profile), "06_leap"),
    )  # fmt: skip
    return [
        Aspect(name, measured, values,
               where if isinstance(where, Mapping) else dict.fromkeys(MODELS, where))
        for name, measured, values, where in rows
    ]  # fmt: skip


def comparison_table(aspects: Sequence[Aspect]) -> str:
    """As HTML; a number leads to its chapter."""
    rows = []
    for aspect in aspects:
        cells = [
            chapter_link(aspect.chapters[method], stacked(aspect.values[method]))
            if method in aspect.values
            else NOT_RUN
            for method in MODELS
        ]
        rows.append(
            f"<tr><th>{escape(aspect.name)}</th><td>{escape(aspect.measured)}</td>"
            + "".join(f"<td>{value}</td>" for value in cells)
            + "</tr>"
        )
    return table(("aspect", "measured by", *MODELS.values()), rows)


def _weights(profile: str) -> dict[str, str]:
    found = {}
    for method in MODELS:
        if profile == "smoke":
            result = stand_in(method)
        else:
            result = obtain(cell_runs(level_cell(method, ROOM))[0], profile)[0]
        found[method] = f"{result['parameters'] / 1e3:,.0f}"
    return found


def _tokens_of_a_step() -> dict[str, str]:
    tokens = {"dt": 3, "tt": TrajectoryConfig(POSE, 1).step_size, "leap": 1}
    return {method: str(count) for method, count in tokens.items()}


def _calls() -> dict[str, str]:
    runs = {method: cell_runs(level_cell(method, ROOM))[0] for method in MODELS}
    search = BeamConfig(**runs["tt"].planner)
    costs = {
        "dt": decision_cost(DecisionConfig(0, 0, **runs["dt"].model)),
        "tt": beam_cost(TrajectoryConfig(POSE, 1), search, search.context),
        "leap": gibbs_cost(LeapConfig(0, 0, **runs["leap"].model),
                           GibbsConfig(**runs["leap"].planner)),
    }  # fmt: skip
    return {method: str(cost.passes) for method, cost in costs.items()}


def _milliseconds(profile: str) -> dict[str, str]:
    times = timed_decisions(profile)
    return {method: f"{float(f'{np.median(times[method]):.1e}'):g}" for method in MODELS}


def level_cell(method: str, level: str) -> str:
    """The experiment of a method on a level; in the large mazes LEAP's plans are longer."""
    longer = method == "leap" and level in LEVELS[-2:]
    return f"babyai-{method}{'-maze' if longer else ''} {level}"


def _success(levels: Sequence[str], profile: str) -> dict[str, str]:
    return {
        method: text(difference([level_cell(method, at) for at in levels], (), "score", profile))
        for method in MODELS
    }


def _of_cells(cells: Mapping[str, str], profile: str) -> dict[str, str]:
    return {
        method: text(difference([name], (), "score", profile)) for method, name in cells.items()
    }


def _entropies(profile: str) -> dict[str, str]:
    def of(maps: Sequence[AttentionMaps], blocks: int) -> Interval:
        """Over trained models and episodes."""
        windows = [normalised_entropy(found).mean(dim=(0, 2)) for found in maps]
        return mean_interval(by_episode(windows, blocks))

    count, (level, places) = len(episodes("medium", profile).lengths), leap_map(profile)
    return {
        "dt": text(of(decision_maps("medium", profile), count)),
        "tt": text(of(trajectory_maps(profile), count)),
        "leap": text(of([level], len(places))),
    }


def _kept(profile: str) -> dict[str, str]:
    return {method: text(kept_share(*names, profile)) for method, names in SHAKEN.items()}


def kept_share(loud: str, soft: str, profile: str) -> Interval:
    """Mean return of a cell over that of another from the same first states, in percent."""
    disturbed, calm = (episodes_of(name, "return", profile) for name in (loud, soft))
    _, share = share_intervals(kept_by_seed(disturbed, calm, (loud, 1.0)))
    return share.scaled(100)


def _firsts(profile: str) -> dict[str, str]:
    count = dict.fromkeys(MODELS, 0)
    for level in LEVELS:
        found = {method: cell(level_cell(method, level), profile=profile) for method in MODELS}
        first = max(found, key=lambda method: found[method].mean())
        for method, values in found.items():
            count[method] += side(difference_interval(found[first], values)) < 1
    return {method: str(number) for method, number in count.items()}
