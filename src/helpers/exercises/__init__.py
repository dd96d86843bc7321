"""The checks that exercises call.

Each check takes the reader's function, runs it on a tiny case, and either returns quietly after
printing one line or raises an AssertionError that names the usual slip behind the wrong answer.
A check lists its slips as the wrong results they lead to, so the message is a diagnosis.
"""

from helpers.exercises.attention import check_knock_out, check_lift, check_normalised_entropy
from helpers.exercises.compare import compare
from helpers.exercises.data import (
    check_best_episodes,
    check_best_with_prize,
    check_conditional_policy,
    check_returns_to_go,
    check_success_interval,
    check_target_kind,
    check_td_step,
    check_update_matrix,
)
from helpers.exercises.errors import check_attention_share, check_per_step, check_window_mask
from helpers.exercises.measures import (
    check_flattery,
    check_interquartile_mean,
    check_probability_of_improvement,
)
from helpers.exercises.models import (
    check_allowed,
    check_cached_mask,
    check_gibbs_iteration,
    check_interleave,
    check_no_left,
    check_nucleus,
    check_plan_energy,
    check_quantile_round_trip,
)

__all__ = [
    "check_allowed",
    "check_attention_share",
    "check_best_episodes",
    "check_best_with_prize",
    "check_cached_mask",
    "check_conditional_policy",
    "check_flattery",
    "check_gibbs_iteration",
    "check_interleave",
    "check_interquartile_mean",
    "check_knock_out",
    "check_lift",
    "check_no_left",
    "check_normalised_entropy",
    "check_nucleus",
    "check_per_step",
    "check_plan_energy",
    "check_probability_of_improvement",
    "check_quantile_round_trip",
    "check_returns_to_go",
    "check_success_interval",
    "check_target_kind",
    "check_td_step",
    "check_update_matrix",
    "check_window_mask",
    "compare",
]
