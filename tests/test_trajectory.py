"""The Trajectory Transformer: tokens, mask, loss, decoding, planner and agent."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from helpers.agents import Agent, TrajectoryAgent
from helpers.data.catalogue import load_dataset
from helpers.data.episodes import Dataset
from helpers.files import BadFile, write_arrays
from helpers.models.checkpoints import save_model
from helpers.models.decoding import Decoder, Segment
from helpers.models.trajectory import (
    TrajectoryConfig,
    TrajectoryTransformer,
    columns,
    discounted_values,
    load_trajectory,
    make_trajectory,
    make_trajectory_windows,
    trajectory_loss,
)
from helpers.planning.beam import BeamConfig, BeamPlanner, draw, keep_mass
from helpers.tasks import get_task

TASK = get_task("halfcheetah")
SMALL = TrajectoryConfig(
    observation_size=3, action_size=2, context_length=4, bins=7, width=32, layers=2, heads=2
)


def model_of(config: TrajectoryConfig = SMALL, seed: int = 0, loud: float = 4.0):
    """A random model whose weights are large enough to matter."""
    torch.manual_seed(seed)
    model = TrajectoryTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(loud)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    edges = torch.linspace(-1, 1, config.bins + 1, dtype=torch.float64)
    model.edges.copy_(edges.expand(config.step_size, -1))
    return model


def tokens_of(config: TrajectoryConfig, rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(config.bins, (rows, length), generator=torch.Generator().manual_seed(seed))


def episodes(lengths=(5, 3), terminated=(False, True)) -> Dataset:
    n, rng = sum(lengths), np.random.default_rng(0)
    return Dataset(
        observations=rng.normal(size=(n, 3)),
        actions=rng.uniform(-1, 1, (n, 2)),
        rewards=np.arange(1.0, n + 1),
        lengths=np.array(lengths),
        terminated=np.array(terminated),
        final_observations=rng.normal(size=(len(lengths), 3)),
        seeds=np.arange(len(lengths)),
    )


# --- values and tokens -------------------------------------------------------------------------


def test_values_by_hand():
    config = dataclasses.replace(SMALL, discount=0.5)
    values = discounted_values(episodes(), config)
    # Rewards 1 2 3 4 5 | 6 7 -100: the last one is the penalty of a true end.
    assert values.tolist() == [2 + 1.5 + 1 + 0.625, 3 + 2 + 1.25, 6.5, 5, 0, 7 - 50, -100, 0]
    numbers = columns(episodes(), config)
    assert numbers.shape == (8, 7)
    assert numbers[:, 5].tolist() == [1, 2, 3, 4, 5, 6, 7, -100]


def test_windows_end_with_the_episode():
    data = episodes()
    model = make_trajectory(dataclasses.replace(TASK, observation_size=3, action_size=2), data,
                            context_length=4, bins=7)  # fmt: skip
    windows = make_trajectory_windows(data, model)
    whole = model.discretiser.encode(columns(data, model.config))
    batch = windows.sample(np.random.default_rng(0), 300)
    tokens, valid = (batch[name].view(300, 4, 7).numpy() for name in ("tokens", "valid"))
    seen = set()
    for row in range(300):
        (start,) = (i for i in range(8) if np.array_equal(whole[i], tokens[row, 0]))
        left = (5 if start < 5 else 8) - start
        inside = min(4, left)
        assert np.array_equal(tokens[row, :inside], whole[start : start + inside])
        assert (tokens[row, inside:] == 7).all(), "the end token behind the episode"
        # Behind a true end, the end is predicted; behind the time limit, nothing is.
        assert valid[row].all() if start >= 5 else valid[row, :inside].all()
        assert start >= 5 or not valid[row, inside:].any()
        seen.add(start)
    assert seen == set(range(8))


# --- model -------------------------------------------------------------------------------------


def test_it_has_the_papers_size():
    """1,468,544 in Janner's code, which has 249 positions where we have 250."""
    model = TrajectoryTransformer(TrajectoryConfig())
    assert sum(p.numel() for p in model.parameters()) == 1_468_544 + 128


def test_nobody_looks_at_values_or_ahead():
    model, tokens = model_of(), tokens_of(SMALL, 1, 20)
    with torch.inference_mode():
        before = model(tokens)
        for position in range(20):
            changed = tokens.clone()
            changed[0, position] = (changed[0, position] + 1) % SMALL.bins
            differs = (model(changed) - before).abs().amax(dim=-1)[0] > 1e-6
            expected = torch.zeros(20, dtype=torch.bool)
            expected[position:] = position % 7 != 6
            expected[position] = True  # every token knows itself, a value through its residual
            assert torch.equal(differs, expected), position


def test_each_dimension_has_its_own_head():
    model, tokens = model_of(), tokens_of(SMALL, 2, 20)
    with torch.inference_mode():
        logits, features = model(tokens), model.features(tokens)
        for position in range(20):
            alone = model.logits(features[:, position], (position + 1) % 7)
            assert torch.allclose(alone, logits[:, position], atol=1e-5)


def test_the_loss_is_the_weighted_mean_over_what_counts():
    model = model_of()
    batch = {"tokens": tokens_of(SMALL, 3, 28), "valid": torch.ones(3, 28, dtype=torch.bool)}
    batch["valid"][1, 14:] = False
    with torch.inference_mode():
        found = trajectory_loss(model, batch)
        logs = model(batch["tokens"][:, :-1]).log_softmax(-1)
    total, count = 0.0, 0
    for row, position in itertools.product(range(3), range(1, 28)):
        if batch["valid"][row, position]:
            weight = 5.0 if position % 7 in (3, 4) else 1.0
            total -= weight * logs[row, position - 1, batch["tokens"][row, position]].item()
            count += 1
    assert found.item() == pytest.approx(total / count, rel=1e-5)


def test_it_learns_a_pattern():
    torch.manual_seed(0)
    model = TrajectoryTransformer(dataclasses.replace(SMALL, dropout=0.0))
    pattern = (torch.arange(28) * 3 % 7).expand(8, -1)
    batch = {"tokens": pattern, "valid": torch.ones(8, 28, dtype=torch.bool)}
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        loss = trajectory_loss(model, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_checkpoints_round_trip_and_bad_ones_are_told(tmp_path):
    model, path = model_of(), tmp_path / "tt.safetensors"
    save_model(path, model, {"step": 3})
    again, metadata = load_trajectory(path)
    tokens = tokens_of(SMALL, 1, 9)
    assert torch.equal(again(tokens), model(tokens)) and metadata["step"] == 3
    write_arrays(path, {"x": np.ones(2)}, {"method": "dt"})
    with pytest.raises(BadFile, match="holds method .dt.; expected one of"):
        load_trajectory(path)
    with pytest.raises(ValueError, match="discrete actions"):
        make_trajectory(get_task("gamble"), episodes())
    with pytest.raises(ValueError, match=r"unknown Trajectory Transformer options \['depth'\]"):
        make_trajectory(TASK, episodes(), depth=3)
    with pytest.raises(ValueError, match="at most 255"):
        make_trajectory(TASK, episodes(), bins=300)


# --- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 2])
def test_decoding_equals_the_full_pass_with_values_in_the_cache(heads):
    """Three environments, two beams each, two candidates a beam, over more than two steps."""
    config = dataclasses.replace(SMALL, heads=heads)
    model = model_of(config)
    decoder = Decoder(model.transformer)
    envs, beams, group, prefix, middle, length = 3, 2, 2, 10, 20, 26
    tokens = tokens_of(config, envs * beams * group, length)
    by = tokens.view(envs, beams, group, length)
    by[..., :prefix] = by[:, :1, :1, :prefix]
    by[..., :middle] = by[:, :, :1, :middle]
    with torch.inference_mode():
        full = model.features(tokens).view(envs, beams * group, length, -1)
        visible = model.allowed(prefix)[0, 0, -1]
        features, context = decoder.prefill(model.embed(by[:, 0, 0, :prefix]), visible)
        assert torch.allclose(features, full[:, 0, :prefix], atol=1e-5)
        grown = Segment(model.transformer, envs, beams, 20)
        for p in range(prefix, middle):
            x = model.embed(by[:, :, 0, p].reshape(-1, 1), p).view(envs, beams, -1)
            got = decoder.step(x, [context, grown], visible=p % 7 != 6)
            assert torch.allclose(got, full[:, ::group, p], atol=1e-5), p
        fresh = Segment(model.transformer, envs, beams * group, 10)
        for p in range(middle, length):
            x = model.embed(by[..., p].reshape(-1, 1), p).view(envs, beams * group, -1)
            got = decoder.step(x, [context, grown, fresh], visible=p % 7 != 6)
            assert torch.allclose(got, full[:, :, p], atol=1e-5), p
    assert context.length == prefix - 1 and grown.length == middle - prefix - 1
    kept = torch.tensor([[3, 1], [0, 0], [2, 3]])
    merged = Segment(model.transformer, envs, beams, 20)
    merged.adopt(grown, kept // group)
    merged.adopt(fresh, kept)
    # Whoever was kept goes on as if alone.
    with torch.inference_mode():
        rows = torch.arange(envs)[:, None]
        extended = torch.cat(
            [tokens.view(envs, -1, length)[rows, kept], tokens_of(config, envs * beams, 1)
             .view(envs, beams, 1)], dim=-1)  # fmt: skip
        full = model.features(extended.flatten(0, 1)).view(envs, beams, length + 1, -1)
        x = model.embed(extended[..., -1].reshape(-1, 1), length).view(envs, beams, -1)
        got = decoder.step(x, [context, merged])
    assert torch.allclose(got, full[:, :, -1], atol=1e-5)


# --- planner -----------------------------------------------------------------------------------


def test_keep_mass_is_what_the_paper_s_code_does():
    p = torch.tensor([[0.15, 0.40, 0.05, 0.30, 0.10], [0.2, 0.2, 0.2, 0.2, 0.2]])
    assert (keep_mass(p, 0.6) > 0).tolist() == [[False, True, False, True, False], [True] * 5]
    assert (keep_mass(p, 0.0) > 0).all()
    assert (keep_mass(torch.tensor([[0.1, 0.9]]), 1.0) > 0).tolist() == [[False, True]]


def test_draws_follow_the_filtered_distribution():
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([0.15, 0.40, 0.05, 0.30, 0.10])
    logits = p.log().expand(20_000, -1)
    options = {"top_k": None, "cdf": None, "temperature": 1.0}

    def shares(**changes):
        drawn = draw(logits, generator, **{**options, **changes})
        return torch.bincount(drawn, minlength=5) / 20_000

    assert torch.allclose(shares(), p, atol=0.015)
    assert torch.allclose(shares(cdf=0.6), torch.tensor([0, 4 / 7, 0, 3 / 7, 0]), atol=0.015)
    kept = torch.tensor([0.15, 0.40, 0.0, 0.30, 0.0]) / 0.85
    assert torch.allclose(shares(top_k=3), kept, atol=0.015)
    sharp = p**2 / (p**2).sum()
    assert torch.allclose(shares(temperature=0.5), sharp, atol=0.015)
    assert shares(temperature=0.0)[1] == shares(top_k=1)[1] == 1


TINY = TrajectoryConfig(
    observation_size=1, action_size=1, context_length=3, bins=3, width=16, layers=2, heads=2
)


def exhaustive(model: TrajectoryTransformer, context: torch.Tensor, config: BeamConfig):
    """Best plan over all action sequences, each scored by full passes of the model."""
    centres = torch.from_numpy(model.discretiser.centres).float()
    best = (-np.inf, None)
    for sequence in itertools.product(range(3), repeat=config.horizon):
        tokens, score = context.clone(), 0.0
        for step, action in enumerate(sequence):
            tokens = torch.cat([tokens, torch.tensor([[action]])], 1)
            numbers = []
            for dimension in (2, 3):  # reward, value
                logits = model(tokens)[0, -1, :-1]
                numbers.append((logits.softmax(-1) @ centres[dimension]).item())
                tokens = torch.cat([tokens, logits.argmax()[None, None]], 1)
            score += config.discount**step * numbers[0]
            if step == config.horizon - 1:
                total = score + config.discount ** (step + 1) * numbers[1]
            else:
                observation = model(tokens)[0, -1, :-1].argmax()[None, None]
                tokens = torch.cat([tokens, observation], 1)
        best = max(best, (total, sequence))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_what_exhaustive_search_finds(seed):
    model = model_of(TINY, seed, loud=8.0)
    config = BeamConfig(beam_width=9, expansions=40, horizon=2, context=1, action_cdf=None,
                        temperature=3.0, discount=0.9)  # fmt: skip
    context = tokens_of(TINY, 1, 5, seed)
    plans = BeamPlanner(model, config).plan(context, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        score, sequence = exhaustive(model, context, config)
    centres = model.discretiser.centres[1]
    assert plans.actions[0, :, 0].tolist() == pytest.approx(centres[list(sequence)].tolist())
    assert plans.scores[0] == pytest.approx(score, abs=1e-5)


def test_environments_planned_together_are_planned_as_if_alone():
    """With a greedy plan nothing is drawn, so that a batch changes nothing."""
    model = model_of()
    config = BeamConfig(beam_width=1, expansions=1, horizon=2, context=1, temperature=0.0)
    planner, contexts = BeamPlanner(model, config), tokens_of(SMALL, 4, 10)
    generator = torch.Generator().manual_seed(0)
    together = planner.plan(contexts, generator)
    for i in range(4):
        alone = planner.plan(contexts[i : i + 1], generator)
        assert np.array_equal(alone.actions[0], together.actions[i])
        assert alone.scores[0] == pytest.approx(together.scores[i], abs=1e-5)
        assert np.array_equal(alone.observations[0], together.observations[i])


def test_a_wider_beam_never_ends_below_a_narrower_one_on_average():
    model = model_of(loud=6.0)
    contexts = tokens_of(SMALL, 30, 3)

    def mean_score(beam: int) -> float:
        config = BeamConfig(beam_width=beam, expansions=2, horizon=3, context=0, action_cdf=None)
        planner = BeamPlanner(model, config)
        return planner.plan(contexts, torch.Generator().manual_seed(0)).scores.mean()

    narrow, wide = mean_score(1), mean_score(64)
    assert wide > narrow + 0.05


def test_a_value_function_takes_the_place_of_value_tokens():
    """One that likes the first action entry large gets it."""
    config = BeamConfig(beam_width=8, expansions=8, horizon=1, context=0, action_cdf=None)
    contexts, generator = tokens_of(SMALL, 5, 3), torch.Generator().manual_seed(0)

    def value(states, actions):
        assert states.shape == (5 * 64, 3) and actions.shape == (5 * 64, 2)
        return 100 * actions[:, 0]

    plain = BeamPlanner(model_of(), config).plan(contexts, generator)
    liking = BeamPlanner(model_of(), config, value=value).plan(contexts, generator)
    assert liking.scores == pytest.approx(100 * liking.actions[:, 0, 0], abs=1e-3)
    assert liking.actions[:, 0, 0].mean() > plain.actions[:, 0, 0].mean()


def test_the_search_is_recorded_on_request():
    config = BeamConfig(beam_width=4, expansions=3, horizon=2, context=0)
    planner = BeamPlanner(model_of(), config)
    plans = planner.plan(tokens_of(SMALL, 2, 3), torch.Generator().manual_seed(0), record=True)
    assert len(plans.history) == 2
    for step in plans.history:
        assert step["scores"].shape == (2, 12) and step["kept"].shape == (2, 4)
        kept = np.take_along_axis(step["scores"], step["kept"], 1)
        assert (kept.min(1) >= np.sort(step["scores"], 1)[:, -4]).all()
    last = plans.history[-1]["scores"].max(1)
    assert np.allclose(plans.scores, last)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_width": 0}, "beam_width is 0"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"temperature": 0.0}, "wider than its candidates"),
        ({"action_top_k": 1}, "wider than its candidates"),
        ({"plan_every": 6}, "plan_every 6 exceeds the horizon 5"),
        ({"action_cdf": 60.0}, "action_cdf is 60.0; choose a number from 0 to 1"),
        ({"observation_cdf": -0.1}, "observation_cdf is -0.1"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"action_top_k": 0}, "action_top_k is 0; at least 1"),
    ],
)
def test_impossible_searches_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BeamConfig(**changes)


def test_plans_must_fit_the_model():
    with pytest.raises(ValueError, match="need 6 steps, but the model was trained on 4"):
        BeamPlanner(model_of(), BeamConfig(context=4, horizon=2))
    planner = BeamPlanner(model_of(), BeamConfig(context=1, horizon=2))
    with pytest.raises(ValueError, match="the context has 9 tokens"):
        planner.plan(tokens_of(SMALL, 1, 9), torch.Generator())


# --- agent -------------------------------------------------------------------------------------


def test_the_agent_sees_its_last_steps():
    model = model_of()
    config = BeamConfig(beam_width=2, expansions=1, horizon=2, context=2)
    agent = TrajectoryAgent(model, config)
    assert isinstance(agent, Agent)
    seen = []
    plan = agent.planner.plan

    def spy(context, generator):
        seen.append(context.clone())
        return plan(context, generator)

    agent.planner.plan = spy
    rng, rows = np.random.default_rng(0), []
    agent.reset(3)
    for _ in range(4):
        observations, rewards = rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, 3)
        actions = agent.act(observations)
        agent.observe(rewards)
        rows.append(np.concatenate([observations, actions, rewards[:, None]], axis=1))
    assert [context.shape[1] for context in seen] == [3, 10, 17, 17]
    encode = model.discretiser.encode
    padded = [np.concatenate([row, np.zeros((3, 1))], axis=1) for row in rows]
    expected = np.concatenate([encode(padded[1]), encode(padded[2]), encode(padded[3])[:, :3]], 1)
    assert np.array_equal(seen[3].numpy(), expected)
    agent.reset(3)
    again = agent.act(rows[0][:, :3])
    assert np.array_equal(again, rows[0][:, 3:5]), "the draws restart with the episodes"


def test_a_plan_can_be_followed_for_several_steps():
    config = BeamConfig(beam_width=2, expansions=1, horizon=3, context=1, plan_every=3)
    agent = TrajectoryAgent(model_of(), config)
    agent.reset(2)
    calls = []
    plan = agent.planner.plan
    agent.planner.plan = lambda *a: calls.append(1) or plan(*a)
    for _ in range(7):
        agent.act(np.zeros((2, 3)))
        agent.observe(np.zeros(2))
    assert len(calls) == 3


def test_observations_outside_the_data_fall_into_the_outermost_bins():
    agent = TrajectoryAgent(
        model_of(), BeamConfig(beam_width=1, expansions=1, horizon=1, context=0)
    )
    agent.reset(2)
    far = agent.act(np.array([[99.0, -99.0, 0.0]] * 2))
    agent.reset(2)
    assert np.array_equal(agent.act(np.array([[1.0, -1.0, 0.0]] * 2)), far)
    with pytest.raises(ValueError, match="NaN"):
        agent.act(np.full((2, 3), np.nan))


def test_a_discretiser_of_real_data_keeps_what_matters():
    """Half a bin of error at most, and all sample values within the edges."""
    data = load_dataset("halfcheetah/medium", sample=True)
    model = make_trajectory(TASK, data)
    numbers = columns(data, model.config)
    tokens = model.discretiser.encode(numbers)
    back = model.discretiser.decode(tokens)
    widths = np.diff(model.discretiser.edges, axis=1)
    width = np.take_along_axis(widths.T, tokens, 0)
    assert (np.abs(back - numbers) <= width / 2 + 1e-9).all()
