"""The post's comparison of DT, TT and LEAP, aspect by aspect: each cell a number of ours.

What an aspect is measured by is a choice. It is the same quantity for all three, and the same task
wherever all three have models that are kept; where not, the cells name their tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from helpers.analysis.attention import AttentionMaps, normalised_entropy
from helpers.analysis.statistics import (
    Interval,
    difference_interval,
    mean_interval,
    side,
    success_interval,
)
from helpers.claim_attention import by_episode, decision_maps, leap_map, trajectory_maps
from helpers.claim_models import ROOM, episodes, room_paces
from helpers.claim_room import PARTS, TOLD, plan_cost, share_kept
from helpers.claim_tables import chapter_link, measured, stacked, table
from helpers.claims import cell, cell_runs, difference, stand_in
from helpers.models.grid_trajectory import POSE
from helpers.models.trajectory import TrajectoryConfig
from helpers.runs import obtain

MODELS = {"dt": "DT", "tt": "TT", "leap": "LEAP"}
LEVELS = tuple(
    f"babyai-{level}/expert"
    for level in (
        "gotolocal-s7n5", "gotolocal-s8n7", "gotoredballgrey", "pickuploc", "gotoobjmaze-s4r2",
        "gotoobjmaze-s4", "gotoobjmaze-s7",
    )
)  # fmt: skip
MAZE = LEVELS[-1]
REPLANNED = {"dt": "dt", "tt": "tt-replan", "leap": "leap-replan"}
"""Ways of `claim_room` that look after every action, as a Decision Transformer always does."""
STITCHED = {
    "dt": "cross-dt crossroads/halves",
    "tt": "cross-tt-past crossroads/halves",
    "leap": "cross-leap crossroads/halves",
}
"""The crossroads are the one task of this kind that all three can play."""


@dataclass(frozen=True)
class Aspect:
    """One row."""

    name: str
    """As in the post, in our words."""
    measured: str
    """What stands in the cells."""
    values: Mapping[str, str]
    """By method,"""
    tasks: Mapping[str, str]
    """the task that they were measured on,"""
    targets: Mapping[str, str]
    """and where they come from: chapter#name of a figure or table."""


def comparison(profile: str) -> list[Aspect]:
    """All aspects, each measured in one way or in two.

    Args:
        profile: as of `claims.evaluate`.

    Raises:
        BadFile: as `claims.evaluate`.
    """
    drawn = {"dt": "04_decision_transformer#fig-dt-architecture",
             "tt": "05_trajectory_transformer#fig-tt-architecture",
             "leap": "06_leap#fig-leap-architecture"}  # fmt: skip
    levels, here = "06_leap#tab-leap-levels", "12_claims#tab-claims-room"
    room, paces = "GoToLocalS7N5", room_paces(profile)
    rows = (
        ("architecture", "trained weights, in thousands", _weights(profile), room, drawn),
        ("tokenization", "tokens of a time step", _tokens_of_a_step(), room, drawn),
        ("planning", "calls of the network, one after another, for a plan",
         {method: str(plan_cost(method).passes) for method in MODELS}, room, here),
        ("inference speed", "milliseconds of a plan (of DT: an action), one core",
         {method: measured(paces[method].of_a_plan) for method in MODELS}, room, here),
        ("inference speed", "milliseconds of an action that is carried out, one core",
         {method: measured(paces[method].of_an_action) for method in MODELS}, room, here),
        ("long horizons", "success (%)",
         {method: _success(level_cell(method, MAZE), profile) for method in MODELS},
         "GoToObjMazeS7", levels),
        ("sparse rewards", "success (%)", _over_levels(profile),
         "seven levels that pay at the end only", levels),
        ("compositional tasks", "success on missions of two parts never trained together, told as "
         "one sentence (%)", {m: _success(f"{TOLD[m][0]} {PARTS}", profile) for m in MODELS},
         "a room with missions of a colour and a kind", "12_claims#tab-claims-parts"),
        ("trajectory stitching", "success where the way is recorded in halves (%)",
         {method: _success(name, profile) for method, name in STITCHED.items()},
         "crossroads", "10_limits#fig-limits-maze"),
        ("attention pattern", "entropy over its maximum, 1 is even attention",
         _entropies(profile),
         {"dt": "HalfCheetah medium", "tt": "HalfCheetah medium", "leap": room},
         "08_attention#fig-attn-entropy"),
        ("error propagation", "success kept where one action in ten is a random one: of the "
         "episodes that succeed, those that still do; plans carried out (%)",
         {m: measured(share_kept(m, profile)) for m in MODELS}, room, here),
        ("error propagation", "the same, planning anew at every step (%)",
         {m: measured(share_kept(way, profile)) for m, way in REPLANNED.items()}, room, here),
        ("best for", "levels on which it is first or not clearly below the first",
         _firsts(profile), "the seven levels", levels),
    )  # fmt: skip
    return [Aspect(*row[:3], *map(_by_method, row[3:])) for row in rows]


def _by_method(what: str | Mapping[str, str]) -> Mapping[str, str]:
    return dict.fromkeys(MODELS, what) if isinstance(what, str) else what


def comparison_table(aspects: Sequence[Aspect]) -> str:
    """As HTML; a number leads to the figure or table that it comes from.

    A task stands beside the measure if it is that of all cells, else in each cell.
    """
    rows, names = [], [aspect.name for aspect in aspects]
    for i, aspect in enumerate(aspects):
        notes = {method: f"<br><i>{escape(aspect.tasks[method])}</i>" for method in MODELS}
        cells = [escape(aspect.measured)] + [
            chapter_link(aspect.targets[method], stacked(aspect.values[method]))
            for method in MODELS
        ]
        if len(set(notes.values())) == 1:
            cells[0] += notes["dt"]
        else:
            cells[1:] = [a + b for a, b in zip(cells[1:], notes.values(), strict=True)]
        head = ""
        if aspect.name not in names[:i]:  # an aspect measured in two ways has one head
            head = f'<th rowspan="{names.count(aspect.name)}">{escape(aspect.name)}</th>'
        rows.append(f"<tr>{head}" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
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


def level_cell(method: str, level: str) -> str:
    """The experiment of a method on a level; in the large mazes LEAP's plans are longer."""
    longer = method == "leap" and level in LEVELS[-2:]
    return f"babyai-{method}{'-maze' if longer else ''} {level}"


def _success(name: str, profile: str) -> str:
    """Of one cell, in percent."""
    return measured(success_interval(cell(name, profile=profile)))


def _over_levels(profile: str) -> dict[str, str]:
    """Success over all levels, each of which weighs the same."""
    return {
        method: measured(
            difference([level_cell(method, at) for at in LEVELS], (), "score", profile)
        )
        for method in MODELS
    }


def _entropies(profile: str) -> dict[str, str]:
    def of(maps: Sequence[AttentionMaps], blocks: int) -> Interval:
        """Over trained models and episodes."""
        windows = [normalised_entropy(found).mean(dim=(0, 2)) for found in maps]
        return mean_interval(by_episode(windows, blocks))

    count, (level, places) = len(episodes("medium", profile).lengths), leap_map(profile)
    return {
        "dt": measured(of(decision_maps("medium", profile), count)),
        "tt": measured(of(trajectory_maps(profile), count)),
        "leap": measured(of([level], len(places))),
    }


def _firsts(profile: str) -> dict[str, str]:
    count = dict.fromkeys(MODELS, 0)
    for level in LEVELS:
        found = {method: cell(level_cell(method, level), profile=profile) for method in MODELS}
        first = max(found, key=lambda method: found[method].mean())
        for method, values in found.items():
            count[method] += side(difference_interval(found[first], values)) < 1
    return {method: str(number) for method, number in count.items()}
