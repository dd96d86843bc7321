"""Planning by iterative energy minimisation: a whole plan at once, improved place by place.

A plan's energy is its negative pseudo-log-likelihood under a masked model (Chen et al. 2023):
E(a) = - sum_i log p(a_i | the other actions, state). From MASKs everywhere, or from a proposal, one
place after another is masked, predicted and filled again. The released code fills in the likeliest
action (coordinate-wise argmax); the paper describes draws from the predictions at a temperature
(Gibbs sampling). Both are here.

Predictions of several models, or of one model for several goals, are multiplied: their energies
add up (composition). Further energies, of which the model knows nothing, are added in the same way
(constraints).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from helpers.models.leap import Leap, PlaceReader

Constraint = Callable[[Int[Tensor, "rows H"], Int[Tensor, " rows"]], Float[Tensor, " rows"]]
"""Energy of plans (END and what stands behind it included) in the environments of those numbers."""


@dataclass(frozen=True)
class GibbsConfig:
    """The planner's knobs; the defaults are LEAP's released code for one-room levels."""

    iterations: int = 10
    """The first one fills all places at once."""
    sampler: str = "argmax"
    """argmax (the released code) or gibbs (draws)."""
    temperature: float = 1.0
    """Of the first draws."""
    final_temperature: float = 0.1
    """Of the last ones; geometric in between."""
    chains: int = 1
    """Plans that are refined side by side; the one of lowest energy is used."""
    block: int = 1
    """Places that are predicted together."""
    plan_every: int = 0
    """Actions that are executed before the next search; 0 for the whole plan."""

    def __post_init__(self) -> None:
        for name in ("iterations", "chains", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if self.sampler not in ("argmax", "gibbs"):
            raise ValueError(f"sampler is {self.sampler!r}; choose argmax or gibbs")
        for name in ("temperature", "final_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be positive (sampler = 'argmax' "
                    "takes the likeliest action)"
                )
        if self.plan_every < 0:
            raise ValueError(f"plan_every is {self.plan_every}; 0 stands for the whole plan")


@dataclass(frozen=True)
class GibbsPlans:
    """The plans of E environments and how they came about."""

    actions: Int[np.ndarray, "E H"]
    """END (the number of actions) and what stands behind it is not to be executed."""
    energy: Float[np.ndarray, " E"]
    lengths: Int[np.ndarray, " E"]
    """Actions before the END; at least 1."""
    history: Int[np.ndarray, "I E C H"] | None = None
    """If recorded, all chains' plans after every iteration,"""
    energies: Float[np.ndarray, "I E C"] | None = None
    """their energies,"""
    inputs: Int[np.ndarray, "I E C H"] | None = None
    """and what the models were given: the plans before, MASK in the places to be filled."""


class GibbsPlanner:
    """Refines plans for any number of environments and chains at once."""

    def __init__(
        self,
        models: Leap | Sequence[Leap],
        config: GibbsConfig,
        *,
        constraint: Constraint | None = None,
    ) -> None:
        """Prepare the models.

        Args:
            models: one, or several whose energies are added.
            config: the search.
            constraint: further energy of a plan.

        Raises:
            ValueError: models of different plan lengths, action sets or codes, or a block that is
                longer than the plan.
        """
        self.models = [models] if isinstance(models, Leap) else list(models)
        shapes = {(m.config.actions, m.config.plan_length) for m in self.models}
        if len(shapes) != 1:
            raise ValueError(
                f"models have (actions, plan length) {sorted(shapes)}; their energies can only be "
                "added if these are the same"
            )
        codes = [None if m.codes is None else m.codes.tolist() for m in self.models]
        if any(table != codes[0] for table in codes):
            raise ValueError(
                "models number different vectors (action_codes); their energies can only be added "
                "if the codes are the same: train both on one dataset"
            )
        ((self.actions, self.length),) = shapes
        if config.block > self.length:
            raise ValueError(f"block {config.block} exceeds the plan length {self.length}")
        if config.plan_every > self.length:
            raise ValueError(
                f"plan_every {config.plan_every} exceeds the plan length {self.length}"
            )
        for model in self.models:
            model.eval()
        self.config, self.constraint = config, constraint
        self.mask = self.models[0].config.mask

    @torch.inference_mode()
    def plan(
        self,
        observations: Real[Tensor, "E S"] | Sequence[Real[Tensor, "E S"]],
        generator: torch.Generator,
        proposal: Int[Tensor, "E H"] | None = None,
        record: bool = False,
    ) -> GibbsPlans:
        """Search.

        Args:
            observations: the present ones; one tensor for all models, or one for each.
            generator: of places and draws.
            proposal: plans to begin with; MASK everywhere if not given. With one, the first
                iteration too changes only a block.
            record: keep plans and energies of every iteration, at H passes more for each.

        Raises:
            ValueError: a proposal of another length or with unknown actions.
        """
        config = self.config
        if isinstance(observations, Tensor):
            observations = [observations] * len(self.models)
        envs = len(observations[0])
        rows = envs * config.chains
        readers = [
            PlaceReader(model, seen) for model, seen in zip(self.models, observations, strict=True)
        ]
        owner = torch.arange(envs).repeat_interleave(config.chains)
        plans = self._begin(proposal, envs).repeat_interleave(config.chains, dim=0)
        history, energies, inputs = [], [], []
        for i in range(config.iterations):
            if i == 0 and proposal is None:
                places = torch.arange(self.length).expand(rows, -1)
            else:
                draws = torch.rand(rows, self.length, generator=generator)
                # Behind the END, nothing matters.
                draws.masked_fill_(~self.models[0].active(plans), 2.0)
                places = draws.topk(config.block, dim=1, largest=False).indices
            if record:
                inputs.append(plans.scatter(1, places, self.mask).view(envs, config.chains, -1))
            plans = self._improve(readers, plans, places, owner, self._temperature(i), generator)
            if record:
                history.append(plans.view(envs, config.chains, -1))
                energies.append(self._energy(readers, plans, owner).view(envs, -1))
        energy = energies[-1] if record else self._energy(readers, plans, owner).view(envs, -1)
        best = energy.argmin(dim=1)
        chosen = plans.view(envs, config.chains, -1)[torch.arange(envs), best]
        return GibbsPlans(
            actions=chosen.numpy(),
            energy=energy.gather(1, best[:, None])[:, 0].numpy(),
            lengths=(self.models[0].active(chosen) & (chosen < self.actions)).sum(1).numpy(),
            history=torch.stack(history).numpy() if record else None,
            energies=torch.stack(energies).numpy() if record else None,
            inputs=torch.stack(inputs).numpy() if record else None,
        )

    @torch.inference_mode()
    def energy(
        self, observations: Real[Tensor, "E S"], plans: Int[Tensor, "E H"]
    ) -> Float[Tensor, " E"]:
        """Energy of one plan for each environment."""
        readers = [PlaceReader(model, observations) for model in self.models]
        return self._energy(readers, plans, torch.arange(len(plans)))

    def _begin(self, proposal: Int[Tensor, "E H"] | None, envs: int) -> Int[Tensor, "E H"]:
        if proposal is None:
            return torch.full((envs, self.length), self.mask)
        if proposal.shape != (envs, self.length):
            raise ValueError(
                f"the proposal has shape {tuple(proposal.shape)}; {(envs, self.length)} is needed: "
                "the model's position table is as long as its plans"
            )
        if not (0 <= int(proposal.min()) and int(proposal.max()) <= self.mask):
            raise ValueError(
                f"the proposal holds tokens from {proposal.min()} to {proposal.max()}; actions are "
                f"0 to {self.actions - 1}, END is {self.actions} and MASK {self.mask}"
            )
        return proposal.clone()

    def _temperature(self, iteration: int) -> float:
        config = self.config
        if config.sampler == "argmax":
            return 0.0
        done = iteration / max(1, config.iterations - 1)
        return config.temperature * (config.final_temperature / config.temperature) ** done

    def _improve(
        self,
        readers: list[PlaceReader],
        plans: Int[Tensor, "rows H"],
        places: Int[Tensor, "rows block"],
        owner: Int[Tensor, " rows"],
        temperature: float,
        generator: torch.Generator,
    ) -> Int[Tensor, "rows H"]:
        """Fill `places` anew, given what stands elsewhere."""
        masked = plans.scatter(1, places, self.mask)
        logits = self._logits(readers, masked, places, owner)
        # An empty plan would never be left again.
        logits[..., self.actions].masked_fill_(places == 0, float("-inf"))
        if self.constraint is not None:
            logits = logits - self._constraints(plans, places, owner)
        if temperature == 0:
            tokens = logits.argmax(dim=-1)
        else:
            weights = (logits / temperature).softmax(dim=-1)
            noise = torch.empty_like(weights).exponential_(generator=generator)
            tokens = (weights / noise).argmax(dim=-1)
        plans = plans.scatter(1, places, tokens)
        return plans.masked_fill(~self.models[0].active(plans), self.actions)

    @staticmethod
    def _logits(
        readers: list[PlaceReader],
        plans: Int[Tensor, "rows H"],
        places: Int[Tensor, "rows Q"],
        owner: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows Q tokens"]:
        """Log-probabilities, summed over models."""
        return sum(reader(plans, places, owner).log_softmax(dim=-1) for reader in readers)

    def _constraints(
        self, plans: Int[Tensor, "rows H"], places: Int[Tensor, "rows block"],
        owner: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows block tokens"]:  # fmt: skip
        """Further energy of each token at each place, the rest of the plan as it stands.

        A place that holds MASK counts as an END: nothing is known of what follows.
        """
        known = plans.masked_fill(plans == self.mask, self.actions)
        choices = self.actions + 1
        tried = known[:, None, None].expand(-1, places.shape[1], choices, -1).clone()
        tokens = torch.arange(choices).expand(*places.shape, -1)
        tried.scatter_(3, places[..., None, None].expand(-1, -1, choices, 1), tokens[..., None])
        owners = owner[:, None, None].expand(tried.shape[:3]).flatten()
        return self.constraint(tried.flatten(0, 2), owners).view(tried.shape[:3])

    def _energy(
        self,
        readers: list[PlaceReader],
        plans: Int[Tensor, "rows H"],
        owner: Int[Tensor, " rows"],
    ) -> Float[Tensor, " rows"]:
        """Negative pseudo-log-likelihood: every place masked in turn, in one batch."""
        rows = len(plans)
        places = torch.arange(self.length).repeat(rows)[:, None]
        masked = plans.repeat_interleave(self.length, dim=0).scatter(1, places, self.mask)
        logits = self._logits(readers, masked, places, owner.repeat_interleave(self.length))
        chosen = logits[:, 0].gather(1, plans.clamp(max=self.actions).view(-1, 1))
        energy = -(chosen.view(rows, -1) * self.models[0].active(plans)).sum(dim=1)
        return energy if self.constraint is None else energy + self.constraint(plans, owner)
