"""What the comparison of DT, TT and LEAP adds to the earlier chapters: the same task for all three.

One room, in which a decision is timed and a hand slips; and missions of two parts of which only one
at a time was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

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
SLIPS = ("slips", 0.1)
"""What is disturbed, and how often an action is a random one."""
Successes = Float[np.ndarray, "seeds episodes"]


def slipped(way: str, profile: str) -> tuple[Successes, Successes]:
    """Success in the room without slips, and with them from the same first states: 0 or 100.

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
    kept = kept_by_seed(shaken, calm, SLIPS)
    return kept.own, kept.changed[SLIPS]


def still_succeeds(way: str, profile: str) -> Kept:
    """Episodes that succeed without slips, and those of them that succeed with them, too."""
    calm, shaken = slipped(way, profile)
    return Kept(calm, {SLIPS: np.minimum(calm, shaken)})


def share_kept(way: str, profile: str) -> Interval:
    """Of the episodes that succeed without slips, those that do with them (%)."""
    return _share(still_succeeds(way, profile))


def share_mended(way: str, profile: str) -> Interval:
    """Of the episodes that fail without slips, those that succeed with them (%)."""
    calm, shaken = slipped(way, profile)
    return _share(Kept(100.0 - calm, {SLIPS: np.minimum(100.0 - calm, shaken)}))


def _share(kept: Kept) -> Interval:
    if not kept.own.any():  # tiny models of the profile smoke may reach nothing, or everything
        return Interval(0.0, 0.0, 0.0)
    return share_intervals(kept)[1].scaled(100)


def leads_in_words(way: str, other: str, profile: str) -> str:
    """Whether one keeps more than the other, by the interval of the difference of the shares."""
    ours, theirs = (still_succeeds(name, profile) for name in (way, other))
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
        pace, again = paces[way.method], name.endswith("-replan")
        cells = (
            way.label,
            str(plan_cost(way.method).passes),
            measured(pace.of_a_plan),
            f"{1.0 if again else pace.actions.mean():.2g}",
            measured(pace.of_a_plan if again else pace.of_an_action),
            *(measured(success_interval(values)) for values in slipped(name, profile)),
            measured(share_kept(name, profile)),
            measured(share_mended(name, profile)),
        )
        rows.append("<tr>" + "".join(f"<td>{stacked(c)}</td>" for c in cells) + "</tr>")
    head = ("", "calls", "ms, plan", "actions", "ms, action", "success (%)", "with slips (%)",
            "kept (%)", "mended (%)")  # fmt: skip
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
