"""Beam search over whole transitions (Janner et al. 2021, algorithm 1; `trajectory/search`).

Candidates are ranked by what they are predicted to earn, not by their likelihood: the sum of the
discounted rewards so far and the value of what follows. Each step of a plan samples an action token
by token, reads the expected reward and value, keeps the best beams, and only for those predicts the
next observation.

One departure: equal candidates count once. The paper's code lets copies of one good step fill the
beam, which matters where there are few actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from helpers.models.decoding import Decoder, Segment
from helpers.models.distinct import first_of_each
from helpers.models.trajectory import TrajectoryTransformer

ValueFunction = Callable[[Float[Tensor, "rows S"], Float[Tensor, "rows A"]], Float[Tensor, " rows"]]


@dataclass(frozen=True)
class BeamConfig:
    """The planner's knobs; the defaults are the paper's code for HalfCheetah medium."""

    beam_width: int = 32
    """Plans that survive a step."""
    expansions: int = 2
    """Candidates per plan and step."""
    horizon: int = 5
    """Steps of a plan."""
    context: int = 5
    """Steps of the past that are seen, beside the present observation."""
    plan_every: int = 1
    """Steps of a plan that are executed before the next search."""
    discount: float = 0.99
    action_top_k: int | None = None
    """Only the k likeliest tokens of an action are drawn from; None for all."""
    action_cdf: float | None = 0.6
    """Likeliest tokens are kept as long as the mass of the others exceeds this; see `keep_mass`."""
    observation_top_k: int | None = 1
    observation_cdf: float | None = None
    temperature: float = 1.0
    """Of the draws; 0 takes the likeliest token."""
    expected: bool = True
    """Rewards and values enter the score by their expectation rather than their likeliest bin."""
    use_value: bool = True
    """Whether the value behind the plan's last step counts."""
    ends: bool = False
    """Nothing is earned behind a predicted end of the episode. The paper's code has no such rule:
    it leaves ends to the termination penalty, which a task that ends with success cannot have."""

    def __post_init__(self) -> None:
        for name in ("beam_width", "expansions", "horizon", "plan_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if self.context < 0 or self.temperature < 0:
            raise ValueError(
                f"context {self.context} and temperature {self.temperature} must not be negative"
            )
        for name in ("discount", "action_cdf", "observation_cdf"):
            if (share := getattr(self, name)) is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; choose a number from 0 to 1")
        for name in ("action_top_k", "observation_top_k"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name} is {count}; at least 1 is needed")
        single = self.temperature == 0 or self.action_top_k == 1
        if single and self.beam_width * self.expansions > 1:
            raise ValueError(
                f"a beam of {self.beam_width} with {self.expansions} expansions is wider than its "
                "candidates: temperature 0 or action_top_k 1 leave one; set both to 1"
            )
        if self.plan_every > self.horizon:
            raise ValueError(
                f"plan_every {self.plan_every} exceeds the horizon {self.horizon}: the plan would "
                "end before the next one is made"
            )


@dataclass(frozen=True)
class Plans:
    """The best plan of each of E environments, and the candidates of every step."""

    actions: Float[np.ndarray, "E T A"]
    observations: Float[np.ndarray, "E T S"]
    """Predicted ones that the actions meet; the first is the present one, as its bins decode."""
    rewards: Float[np.ndarray, "E T"]
    scores: Float[np.ndarray, " E"]
    history: list[dict[str, np.ndarray]] = field(default_factory=list)
    """If recorded, per step: `scores` (E, candidates), minus infinity for copies, and `kept`
    (E, beams), the indices of those that survive. The parent of candidate c is survivor
    c // expansions of the step before."""


class BeamPlanner:
    """Beam search with one model, for any number of environments at once."""

    def __init__(
        self,
        model: TrajectoryTransformer,
        config: BeamConfig,
        *,
        value: ValueFunction | None = None,
    ) -> None:
        """Prepare the weights.

        Args:
            model: a trained one.
            config: the search.
            value: estimates what follows a state and an action (in the task's own units); stands
                in for the model's value tokens (TT+Q, section 4.3 of the paper).

        Raises:
            ValueError: context and horizon do not fit into the model's position table.
        """
        steps = config.context + config.horizon
        if steps > model.config.context_length:
            raise ValueError(
                f"context {config.context} and horizon {config.horizon} need {steps} steps, but "
                f"the model was trained on {model.config.context_length}"
            )
        self.model, self.config, self.value = model.eval(), config, value
        self.decoder = Decoder(model.transformer)
        self.centres = torch.from_numpy(model.discretiser.centres).float()
        self.segments: dict[int, tuple[Segment, ...]] = {}

    def memory(self, envs: int) -> tuple[Segment, ...]:
        """Empty segments for two generations of beams and for candidates.

        They are kept for the next search: fresh memory costs as much as the search's arithmetic.
        """
        if envs not in self.segments:
            core, config, shape = self.model.transformer, self.config, self.model.config
            room = config.horizon * (shape.step_size - 1)
            beams, candidates = config.beam_width, config.beam_width * config.expansions
            self.segments = {
                envs: (
                    Segment(core, envs, beams, room),
                    Segment(core, envs, beams, room),
                    Segment(core, envs, candidates, shape.action_size + 1),
                )
            }
        for segment in self.segments[envs]:
            segment.length = 0
        return self.segments[envs]

    @torch.inference_mode()
    def plan(
        self,
        context: Int[Tensor, "E P"],
        generator: torch.Generator,
        record: bool = False,
        prefix: Float[Tensor, "E 1 D"] | None = None,
    ) -> Plans:
        """Search from the past.

        Args:
            context: tokens of the last steps and the present observation; P = t M + S.
            generator: of the draws.
            record: keep the candidates of every step.
            prefix: what stands in front of the tokens (`TrajectoryTransformer.features`).

        Raises:
            ValueError: a context that does not end with an observation.
        """
        model, config = self.model, self.config
        size, first = model.config.step_size, context.shape[1]
        if first % size != model.config.observation_size:
            raise ValueError(
                f"the context has {first} tokens; whole steps of {size} and an observation of "
                f"{model.config.observation_size} are needed"
            )
        search = _Search(self, context, generator, prefix)
        history = []
        for step in range(config.horizon):
            candidates = search.expand()
            scores = search.distinct(candidates)
            kept = scores.topk(config.beam_width, dim=1).indices
            if record:
                history.append({"scores": scores.numpy(), "kept": kept.numpy()})
            search.keep(candidates, kept)
            if step < config.horizon - 1:
                search.imagine()
        return search.best(history)


def draw(
    logits: Float[Tensor, "*batch N"],
    generator: torch.Generator,
    *,
    top_k: int | None,
    cdf: float | None,
    temperature: float,
) -> Int[Tensor, "*batch"]:
    """One token of each distribution, after both filters."""
    if temperature == 0 or top_k == 1:
        return logits.argmax(dim=-1)
    probabilities = (logits / temperature).softmax(dim=-1)
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = probabilities.topk(top_k, dim=-1).values[..., -1:]
        probabilities = probabilities.where(probabilities >= smallest, 0.0)
    if cdf is not None:
        probabilities = keep_mass(probabilities, cdf)
    # The largest of p / Exp(1) is a draw from p (Gumbel 1954).
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / noise).argmax(dim=-1)


def keep_mass(probabilities: Float[Tensor, "*batch N"], cdf: float) -> Float[Tensor, "*batch N"]:
    """Zero the least likely tokens as long as those at most as likely hold less than `cdf`.

    Not nucleus sampling: of .40 .30 .15 .10 .05 and 0.6, only .40 and .30 stay.
    """
    ascending = probabilities.sort(dim=-1).values
    total = ascending.sum(dim=-1, keepdim=True)
    # The likeliest one stays whatever rounding says.
    below = (ascending.cumsum(dim=-1) < (cdf - 1e-6) * total)[..., :-1].sum(dim=-1, keepdim=True)
    return probabilities.where(probabilities >= ascending.gather(-1, below), 0.0)


@dataclass
class _Candidates:
    """What `expand` proposes: beams times expansions, children of one beam beside each other."""

    scores: Float[Tensor, "E C"]
    earned: Float[Tensor, "E C"]
    """Discounted rewards, this step included."""
    tokens: Int[Tensor, "E C steps"]
    """Action, reward and value tokens of this step."""
    rewards: Float[Tensor, "E C"]
    features: Float[Tensor, "E C D"]
    """Behind the reward token: what the value is read from."""


class _Search:
    """The state of one search."""

    def __init__(
        self,
        planner: BeamPlanner,
        context: Int[Tensor, "E P"],
        generator: torch.Generator,
        prefix: Float[Tensor, "E 1 D"] | None,
    ) -> None:
        self.planner, self.generator = planner, generator
        model, config = planner.model, planner.config
        self.shape = model.config
        envs, self.position = context.shape
        x, visible = model.embed(context), model.allowed(self.position)[0, 0, -1]
        if prefix is not None:
            x, visible = torch.cat([prefix, x], dim=1), F.pad(visible, (1, 0), value=True)
        features, self.context = planner.decoder.prefill(x, visible)
        self.features = features[:, -1:].expand(-1, config.beam_width, -1)
        beams = config.beam_width
        self.grown, self.spare, self.fresh = planner.memory(envs)
        self.earned = torch.zeros(envs, beams)
        self.going = torch.ones(envs, beams, dtype=torch.bool)
        """False behind a predicted end."""
        self.identity = torch.zeros(envs, beams, dtype=torch.int64)
        """Beams with equal histories have equal numbers."""
        size = self.shape.observation_size
        self.observation = context[:, None, -size:].expand(-1, beams, -1)
        self.plans: dict[str, Tensor] = {}
        self.step = 0

    def expand(self) -> _Candidates:
        """Draw actions for every beam, and read off what they earn."""
        shape, config = self.shape, self.planner.config
        features = self.features.repeat_interleave(config.expansions, dim=1)
        self.fresh.length = 0
        past = [self.context, self.grown, self.fresh]
        tokens = []
        for j in range(shape.action_size):
            logits = self._bins(features, shape.observation_size + j)
            tokens.append(
                draw(logits, self.generator, top_k=config.action_top_k, cdf=config.action_cdf,
                     temperature=config.temperature)
            )  # fmt: skip
            features = self._decode(tokens[-1], past)
        reward_token, rewards = self._read(features, shape.step_size - 2)
        features = self._decode(reward_token, past)
        value_token, values = self._read(features, shape.step_size - 1)
        earned = self.earned.repeat_interleave(config.expansions, dim=1)
        going = self.going.repeat_interleave(config.expansions, dim=1)  # all, without `ends`
        rewards, values = rewards * going, values * going
        now = earned + config.discount**self.step * rewards
        tokens = torch.stack([*tokens, reward_token, value_token], dim=-1)
        if self.planner.value is not None:
            scores = earned + config.discount**self.step * self._q_values(tokens) * going
        elif config.use_value:
            scores = now + config.discount ** (self.step + 1) * values
        else:
            scores = now
        return _Candidates(scores, now, tokens, rewards, features)

    def distinct(self, candidates: _Candidates) -> Float[Tensor, "E C"]:
        """Scores, with minus infinity for all but the first of equal candidates."""
        actions = candidates.tokens[..., : self.shape.action_size]
        if self.planner.config.ends:
            going = self.going.repeat_interleave(self.planner.config.expansions, dim=1)
            actions = actions.masked_fill(~going[..., None], 0)  # all the same behind an end
        envs, count = candidates.scores.shape
        parents = self.identity.repeat_interleave(self.planner.config.expansions, dim=1)
        env = torch.arange(envs)[:, None].expand(-1, count)
        rows = torch.cat([torch.stack([env, parents], dim=-1), actions], dim=-1).flatten(0, 1)
        first, number = first_of_each(rows)
        copy = first[number] != torch.arange(len(rows))
        self.numbers = number.view(envs, count)
        return candidates.scores.masked_fill(copy.view(envs, count), float("-inf"))

    def keep(self, candidates: _Candidates, kept: Int[Tensor, "E B"]) -> None:
        """Go on with the candidates of these indices."""
        parents = kept // self.planner.config.expansions
        self.spare.length = 0
        self.spare.adopt(self.grown, parents)
        self.spare.adopt(self.fresh, kept)
        self.grown, self.spare = self.spare, self.grown
        self.earned = candidates.earned.gather(1, kept)
        self.scores = candidates.scores.gather(1, kept)
        self.features = _rows(candidates.features, kept)
        self.going = self.going.gather(1, parents)
        self.identity = self.numbers.gather(1, kept)
        new = {
            "actions": _rows(candidates.tokens[..., : self.shape.action_size], kept),
            "rewards": candidates.rewards.gather(1, kept),
            "observations": _rows(self.observation, parents),
        }
        for name, tensor in new.items():
            old = [_rows(self.plans[name], parents)] if self.step else []
            self.plans[name] = torch.cat([*old, tensor.unsqueeze(2)], dim=2)
        self.value_token = candidates.tokens[..., -1].gather(1, kept)
        self.step += 1

    def imagine(self) -> None:
        """Predict the next observation of every beam."""
        shape, config = self.shape, self.planner.config
        past = [self.context, self.grown]
        features = self._decode(self.value_token, past, visible=False)
        if config.ends:
            likeliest = self.planner.model.logits(features, 0).argmax(dim=-1)
            self.going = self.going & (likeliest != shape.bins)
        tokens = []
        for i in range(shape.observation_size):
            logits = self._bins(features, i)
            tokens.append(
                draw(logits, self.generator, top_k=config.observation_top_k,
                     cdf=config.observation_cdf, temperature=config.temperature)
            )  # fmt: skip
            features = self._decode(tokens[-1], past)
        self.features, self.observation = features, torch.stack(tokens, dim=-1)
        if config.observation_top_k != 1 and config.temperature > 0:
            # Drawn observations part beams that have acted alike.
            self.identity = torch.arange(len(self.earned[0])).expand_as(self.identity)

    def best(self, history: list[dict[str, np.ndarray]]) -> Plans:
        """The plan with the highest score of each environment."""
        first = self.scores.argmax(dim=1, keepdim=True)
        chosen = {name: _rows(tensor, first)[:, 0] for name, tensor in self.plans.items()}
        size = self.shape.observation_size
        columns = {
            "observations": torch.arange(size),
            "actions": torch.arange(size, size + self.shape.action_size),
        }
        numbers = {
            name: self.planner.centres[column, chosen[name]].numpy()
            for name, column in columns.items()
        }
        return Plans(
            **numbers,
            rewards=chosen["rewards"].numpy(),
            scores=self.scores.gather(1, first)[:, 0].numpy(),
            history=history,
        )

    def _decode(
        self, tokens: Int[Tensor, "E n"], past: list[Segment], visible: bool = True
    ) -> Float[Tensor, "E n D"]:
        """Features of the next token of every beam."""
        x = self.planner.model.embed(tokens.reshape(-1, 1), self.position)
        self.position += 1
        return self.planner.decoder.step(x.view(*tokens.shape, -1), past, visible)

    def _bins(self, features: Float[Tensor, "E n D"], dimension: int) -> Float[Tensor, "E n N"]:
        """Logits of the next token, without the end; of numbered actions, those that exist."""
        shape = self.shape
        acts = 0 <= dimension - shape.observation_size < shape.action_size
        count = shape.actions if shape.actions and acts else shape.bins
        return self.planner.model.logits(features, dimension)[..., :count]

    def _read(
        self, features: Float[Tensor, "E n D"], dimension: int
    ) -> tuple[Int[Tensor, "E n"], Float[Tensor, "E n"]]:
        """Likeliest token of a reward or value, and the number that enters the score."""
        logits = self._bins(features, dimension)
        token = logits.argmax(dim=-1)
        centres = self.planner.centres[dimension]
        if self.planner.config.expected:
            return token, logits.softmax(dim=-1) @ centres
        return token, centres[token]

    def _q_values(self, tokens: Int[Tensor, "E C steps"]) -> Float[Tensor, "E C"]:
        """The given function of each candidate's state and action."""
        size, actions = self.shape.observation_size, self.shape.action_size
        centres = self.planner.centres
        states = centres[torch.arange(size), self.observation]
        states = states.repeat_interleave(self.planner.config.expansions, dim=1)
        chosen = centres[torch.arange(size, size + actions), tokens[..., :actions]]
        values = self.planner.value(states.flatten(0, 1), chosen.flatten(0, 1))
        return values.view(tokens.shape[:2])


def _rows(x: Tensor, index: Int[Tensor, "E B"]) -> Tensor:
    """`x[e, index[e, b]]` for every e and b."""
    return x[torch.arange(len(index))[:, None], index]
