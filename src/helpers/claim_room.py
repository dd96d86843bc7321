"""What the comparison of DT, TT and LEAP adds to the earlier chapters: the same task for all three.

One room, in which a decision is timed and a hand slips; and missions of two parts of which only one
at a time was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.analysis.cost import Cost, beam_cost, decision_cost, gibbs_cost
from helpers.analysis.robustness import Kept, kept_by_seed, lead_intervals, share_intervals
from helpers.analysis.statistics import Interval, side, success_interval
from helpers.claim_models import ROOM, room_paces
from helpers.claim_tables import measured, stacked, table
from helpers.claims import cell, cell_runs, episodes_of
from helpers.models.decision import DecisionConfig
from helpers.models.grid_trajectory import POSE
from helpers.models.leap import LeapConfig
from helpers.models.trajectory import TrajectoryConfig
from helpers.planning.beam import BeamConfig
from helpers.planning.gibbs import GibbsConfig
from helpers.plotting import METHOD_STYLES

PARTS = "babyai-part/expert"


@dataclass(frozen=True)
class Way:
    """A method in the room, and how much of a plan it carries out."""

    method: str
    plans: str
    """In words."""
    calm: str
    """Experiment without slips,"""
    shaken: str
    """and the same with them."""

    @property
    def label(self) -> str:
        """Method and plans."""
        return f"{METHOD_STYLES[self.method].label}{', ' if self.plans else ''}{self.plans}"


WAYS = {
    "dt": Way("dt", "", "babyai-dt", "shaken-babyai-dt"),
    "tt": Way("tt", "whole plans", "babyai-tt", "shaken-babyai-tt"),
    "tt-replan": Way("tt", "first actions", "babyai-tt-replan", "shaken-babyai-tt-replan"),
    "leap": Way("leap", "whole plans", "babyai-leap", "shaken-babyai-leap"),
    "leap-replan": Way("leap", "first actions", "babyai-leap-replan", "shaken-babyai-leap-replan"),
}
TOLD = {"dt": ("both-dt-sentence", "both-dt-sum"), "tt": ("both-tt-sentence",),
        "leap": ("both-leap-sentence", "both-leap-sum")}  # fmt: skip
"""Experiments on missions of two parts: told as one sentence, and as a sum of two."""


def slipped(way: str, profile: str) -> Kept:
    """Successes in the room with slips, and without them from the same first states.

    Args:
        way: of `WAYS`.
        profile: as of `claims.evaluate`.

    Raises:
        BadFile: a result is missing or stale.
    """
    shaken, calm = (
        episodes_of(f"{name} {ROOM}", "score", profile)
        for name in (WAYS[way].shaken, WAYS[way].calm)
    )
    run = cell_runs(f"{WAYS[way].shaken} {ROOM}")[0]
    return kept_by_seed(shaken, calm, ("slips", run.evaluation["noise"]))


def share_kept(way: str, profile: str) -> Interval:
    """Share of the success that is left with slips, in percent."""
    kept = slipped(way, profile)
    if not kept.own.any():  # tiny models of the profile smoke may reach nothing
        return Interval(0.0, 0.0, 0.0)
    return share_intervals(kept)[1].scaled(100)


def leads_in_words(way: str, other: str, profile: str) -> str:
    """Whether one keeps more than the other, by the interval of the difference of the shares."""
    ours, theirs = slipped(way, profile), slipped(other, profile)
    compared = ours.own.any() and theirs.own.any()
    told = side(lead_intervals(ours, theirs)[1]) if compared else 0
    return ("neither clearly more nor clearly less", "clearly more", "clearly less")[told]


def plan_cost(method: str) -> Cost:
    """Of a plan in the room."""
    run = cell_runs(f"babyai-{method} {ROOM}")[0]
    if method == "dt":
        return decision_cost(DecisionConfig(0, 0, **run.model))
    if method == "tt":
        search = BeamConfig(**run.planner)
        return beam_cost(TrajectoryConfig(POSE, 1), search, search.context)
    return gibbs_cost(LeapConfig(0, 0, **run.model), GibbsConfig(**run.planner))


def room_table(profile: str) -> str:
    """What a plan costs in the room, and what slips take away, as HTML."""
    rows, paces = [], room_paces(profile)
    for name, way in WAYS.items():
        pace, kept = paces[way.method], slipped(name, profile)
        again = name.endswith("-replan")
        carried = 1.0 if again else float(pace.actions.mean())
        successes = [kept.own, next(iter(kept.changed.values()))]
        cells = (
            way.label,
            str(plan_cost(way.method).passes),
            measured(pace.of_a_plan),
            f"{carried:.2g}",
            measured(pace.of_a_plan if again else pace.of_an_action),
            *(measured(success_interval(values)) for values in successes),
            measured(share_kept(name, profile)),
        )
        rows.append("<tr>" + "".join(f"<td>{stacked(c)}</td>" for c in cells) + "</tr>")
    head = ("", "calls", "ms, plan", "actions", "ms, action", "success (%)", "with slips (%)",
            "kept (%)")  # fmt: skip
    return table(head, rows)


def parts_table(profile: str) -> str:
    """Success on trained missions of one part and on untrained ones of two, as HTML."""
    rows = []
    for method, ways in TOLD.items():
        names = [f"parts-{method}", *ways]
        found = [measured(success_interval(cell(f"{name} {PARTS}", profile=profile)))
                 for name in names]  # fmt: skip
        cells = [METHOD_STYLES[method].label, *found, *["no way to sum"] * (3 - len(found))]
        rows.append("<tr>" + "".join(f"<td>{stacked(c)}</td>" for c in cells) + "</tr>")
    return table(("", "one part (trained)", "both, one sentence", "both, goals summed"), rows)
