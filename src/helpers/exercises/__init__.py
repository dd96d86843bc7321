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
    check_return_of,
    check_returns_to_go,
    check_success_interval,
    check_target_kind,
    check_td_step,
    check_update_matrix,
)
from helpers.exercises.errata import (
    check_flattened_entropy,
    check_growth_rates,
    check_mean_decay,
)
from helpers.exercises.errors import check_attention_share, check_per_step, check_window_mask
from helpers.exercises.limits import check_bet_chance, check_earned, check_kept_share
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
    check_never_satisfied,
    check_no_left,
    check_nucleus,
    check_plan_energy,
    check_quantile_round_trip,
)
from helpers.exercises.repairs import check_choose_history, check_raised_returns, check_reach
from helpers.exercises.verdicts import check_moved, check_supported_by_chance, check_verdict

__all__ = [
    "check_allowed",
    "check_choose_history",
    "check_raised_returns",
    "check_reach",
    "check_attention_share",
    "check_best_episodes",
    "check_best_with_prize",
    "check_bet_chance",
    "check_cached_mask",
    "check_conditional_policy",
    "check_earned",
    "check_flattened_entropy",
    "check_flattery",
    "check_gibbs_iteration",
    "check_growth_rates",
    "check_interleave",
    "check_interquartile_mean",
    "check_kept_share",
    "check_knock_out",
    "check_lift",
    "check_mean_decay",
    "check_moved",
    "check_never_satisfied",
    "check_no_left",
    "check_normalised_entropy",
    "check_nucleus",
    "check_per_step",
    "check_plan_energy",
    "check_probability_of_improvement",
    "check_quantile_round_trip",
    "check_return_of",
    "check_returns_to_go",
    "check_success_interval",
    "check_supported_by_chance",
    "check_target_kind",
    "check_td_step",
    "check_update_matrix",
    "check_verdict",
    "check_window_mask",
    "compare",
]
