"""LEAP: plans as masked sentences, their energy, and the search for a low one."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.agents import Agent, LeapAgent
from helpers.data.catalogue import load_dataset
from helpers.data.episodes import Dataset
from helpers.evaluate import rollout
from helpers.files import BadFile, write_arrays
from helpers.models.checkpoints import save_model
from helpers.models.leap import (
    Leap,
    LeapConfig,
    PlaceReader,
    leap_loss,
    load_leap,
    make_leap,
    make_plan_windows,
)
from helpers.planning.gibbs import GibbsConfig, GibbsPlanner
from helpers.tasks import get_task

TASK = get_task("babyai-gotolocal-s7n5")
SMALL = LeapConfig(
    observation_size=3, action_size=2, plan_length=3, width=16, layers=2, heads=2, dropout=0.0
)
END, MASK = SMALL.end, SMALL.mask


def model_of(config: LeapConfig = SMALL, seed: int = 0, loud: float = 6.0) -> Leap:
    """A random model whose weights are large enough to matter."""
    torch.manual_seed(seed)
    model = Leap(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(loud) if parameter.ndim > 1 else parameter.add_(
                0.3 * torch.randn_like(parameter)
            )
    return model


def seen(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_plan(length: int = 3, actions: int = 2) -> torch.Tensor:
    """All plans that begin with an action; END only at the end."""
    plans = []
    for used in range(1, length + 1):
        for head in itertools.product(range(actions), repeat=used):
            plans.append([*head, *[actions] * (length - used)])
    return torch.tensor(plans)


# --- the model ---------------------------------------------------------------------------------


def test_windows_end_with_an_end_or_with_nothing():
    data = Dataset(
        observations=np.arange(21.0).reshape(7, 3),
        actions=np.array([0, 1, 0, 1, 1, 0, 0]),
        rewards=np.zeros(7),
        lengths=np.array([4, 3]),
        terminated=np.array([True, False]),
        final_observations=np.zeros((2, 3)),
        seeds=np.arange(2),
    )
    windows = make_plan_windows(data, model_of())
    batch = windows.sample(np.random.default_rng(0), 200)
    found = {
        int(row[0]) // 3: (plan.tolist(), valid.tolist())
        for row, plan, valid in zip(
            batch["observations"], batch["plans"], batch["valid"], strict=True
        )
    }
    yes, no = True, False
    assert found == {
        0: ([0, 1, 0], [yes, yes, yes]),
        1: ([1, 0, 1], [yes, yes, yes]),
        2: ([0, 1, END], [yes, yes, yes]),
        3: ([1, END, END], [yes, yes, no]),
        4: ([1, 0, 0], [yes, yes, yes]),
        5: ([0, 0, END], [yes, yes, no]),  # the time limit: what follows is unknown, not an end
        6: ([0, END, END], [yes, no, no]),
    }


def test_every_place_sees_later_actions_but_nothing_behind_the_end():
    model = model_of()
    state = model.encode(seen(1))
    with torch.no_grad():
        first = model(state, torch.tensor([[MASK, 0, 1]]))[0, 0]
        assert not torch.allclose(first, model(state, torch.tensor([[MASK, 0, 0]]))[0, 0])
        _, allowed = model.tokens(state, torch.tensor([[0, END, END]]))
    assert allowed[0, 0].tolist() == [[True, True, True, False]] * 4


def test_loss_is_the_pseudo_likelihood_by_hand():
    model = model_of(dataclasses.replace(SMALL, masks=3))
    plans = torch.tensor([[0, 1, 0], [1, END, END]])
    batch = {
        "observations": seen(2),
        "plans": plans,
        "valid": torch.tensor([[True, True, True], [True, True, False]]),
        "draws": torch.rand(2, 4, generator=generator()),
    }
    terms = []
    for row, place in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        masked = plans[row : row + 1].clone()
        masked[0, place] = MASK
        logits = model(model.encode(batch["observations"][row : row + 1]), masked)[0, place]
        terms.append(-logits.log_softmax(-1)[plans[row, place]])
    torch.testing.assert_close(leap_loss(model, batch), torch.stack(terms).mean())
    # Masking one place a window estimates the same mean without bias.
    one = model_of(dataclasses.replace(SMALL, masks=1))
    draws = torch.rand(4000, 1, 4, generator=generator())
    first = {name: part[:1] for name, part in batch.items()}
    estimates = [leap_loss(one, {**first, "draws": d}).item() for d in draws[:300]]
    assert np.mean(estimates) == pytest.approx(torch.stack(terms[:3]).mean().item(), rel=0.15)


def test_masking_many_masks_the_share_that_was_drawn():
    model = model_of(dataclasses.replace(SMALL, masks=0))
    plans = torch.tensor([[0, 1, 0]])
    batch = {"observations": seen(1), "plans": plans, "valid": torch.ones(1, 3, dtype=torch.bool)}
    states = model.encode(batch["observations"])

    def by_hand(places):
        masked = plans.clone()
        masked[0, places] = MASK
        return F.cross_entropy(model(states, masked)[0, places], plans[0, places])

    for share, places in ((0.0, [1]), (0.35, [1, 2]), (0.9, [0, 1, 2])):
        draws = torch.tensor([[0.5, 0.1, 0.3, share]])
        torch.testing.assert_close(leap_loss(model, {**batch, "draws": draws}), by_hand(places))


def test_how_many_places_are_in_sight_does_not_tell_where_a_plan_ends():
    """All places hidden: a short and a long plan look alike, as they do to the planner."""
    model, seen_by_model = model_of(dataclasses.replace(SMALL, masks=0)), []
    model.tokens = lambda states, plans: (
        seen_by_model.append(plans.clone()) or Leap.tokens(model, states, plans)
    )
    plans = torch.tensor([[0, 1, 0], [1, END, END]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    draws = torch.tensor([[0.5, 0.1, 0.3, 0.9]]).repeat(2, 1)
    loss = leap_loss(
        model, {"observations": seen(2), "plans": plans, "valid": valid, "draws": draws}
    )
    assert torch.equal(seen_by_model[0], torch.full((2, 3), MASK))
    logits = model(model.encode(seen(2)), seen_by_model[0])
    torch.testing.assert_close(loss, F.cross_entropy(logits[valid], plans[valid]))


def test_checkpoints_return_and_others_are_refused(tmp_path):
    model = model_of()
    save_model(tmp_path / "m.safetensors", model, {"step": 3})
    loaded, metadata = load_leap(tmp_path / "m.safetensors")
    assert metadata["step"] == 3
    plans = torch.tensor([[0, MASK, END]])
    with torch.no_grad():
        assert torch.equal(
            loaded(loaded.encode(seen(1)), plans), model(model.encode(seen(1)), plans)
        )
    write_arrays(tmp_path / "x.safetensors", {}, {"method": "dt", "model": {}})
    with pytest.raises(BadFile, match="holds method .dt.; expected one of"):
        load_leap(tmp_path / "x.safetensors")


def test_bad_options():
    data = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
    with pytest.raises(ValueError, match=r"unknown LEAP options \['horizon'\]"):
        make_leap(TASK, data, horizon=5)
    with pytest.raises(ValueError, match="plan_length is 0"):
        make_leap(TASK, data, plan_length=0)
    with pytest.raises(ValueError, match="vectors for actions"):
        make_leap(get_task("halfcheetah"), data)


def test_single_places_are_what_the_whole_pass_gives():
    """Looked up and read out at two places, for one layer and for several."""
    for layers in (1, 3):
        model = model_of(dataclasses.replace(SMALL, layers=layers))
        observations, plans = seen(4), every_plan()
        count = torch.arange(len(plans))
        owner, places = count % 4, torch.stack([count % 3, count // 2 % 3], dim=1)
        with torch.no_grad():
            whole = model(model.encode(observations)[owner], plans)
            single = PlaceReader(model, observations)(plans, places, owner)
        expected = whole.gather(1, places[..., None].expand(-1, -1, whole.shape[-1]))
        assert torch.allclose(single, expected, atol=1e-5)


# --- the search --------------------------------------------------------------------------------


def test_energy_by_hand():
    model = model_of()
    plans = torch.tensor([[0, 1, 0], [1, END, END]])
    states = model.encode(seen(2))
    wanted = []
    for row, places in ((0, (0, 1, 2)), (1, (0, 1))):
        energy = 0.0
        for place in places:
            masked = plans[row : row + 1].clone()
            masked[0, place] = MASK
            with torch.no_grad():
                logits = model(states[row : row + 1], masked)[0, place]
            energy -= logits.log_softmax(-1)[plans[row, place]].item()
        wanted.append(energy)
    energy = GibbsPlanner(model, GibbsConfig()).energy(seen(2), plans)
    assert energy.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_lowest_energy_that_enumeration_finds(seed):
    model = model_of(seed=seed)
    config = GibbsConfig(
        iterations=30, sampler="gibbs", temperature=1.5, final_temperature=0.3, chains=48
    )
    planner = GibbsPlanner(model, config)
    found = planner.plan(seen(), generator())
    plans = every_plan()
    for env in range(4):
        energies = planner.energy(seen()[env].expand(len(plans), -1), plans)
        assert found.energy[env] == pytest.approx(energies.min().item(), rel=1e-5)
        assert found.actions[env].tolist() == plans[energies.argmin()].tolist()


def test_draws_follow_the_prediction():
    model = model_of(dataclasses.replace(SMALL, plan_length=1))
    hot = GibbsConfig(iterations=1, sampler="gibbs", final_temperature=1.0)
    count = 4000
    plans = GibbsPlanner(model, hot).plan(seen(1).expand(count, -1), generator())
    with torch.no_grad():
        logits = model(model.encode(seen(1)), torch.tensor([[MASK]]))[0, 0, :2]
    frequency = np.bincount(plans.actions[:, 0], minlength=2) / count
    assert frequency == pytest.approx(logits.softmax(-1).numpy(), abs=0.03)


def test_argmax_rests_where_no_single_change_is_likelier():
    model = model_of()
    plans = GibbsPlanner(model, GibbsConfig(iterations=60)).plan(seen(), generator())
    rows = torch.from_numpy(plans.actions)
    states = model.encode(seen())
    with torch.no_grad():
        for place in range(3):
            active = model.active(rows)[:, place]
            masked = rows.clone()
            masked[:, place] = MASK
            logits = model(states, masked)[:, place]
            if place == 0:
                logits[:, END] = -torch.inf
            assert torch.equal(logits.argmax(-1)[active], rows[active, place])


def test_history_holds_every_iteration():
    planner = GibbsPlanner(model_of(), GibbsConfig(iterations=5, chains=2, sampler="gibbs"))
    plans = planner.plan(seen(), generator(), record=True)
    assert plans.history.shape == (5, 4, 2, 3)
    assert plans.energies.shape == (5, 4, 2)
    for env in range(4):
        best = plans.energies[-1, env].argmin()
        assert plans.actions[env].tolist() == plans.history[-1, env, best].tolist()
        assert plans.energy[env] == plans.energies[-1, env].min()
        again = planner.energy(seen()[env : env + 1], torch.from_numpy(plans.actions[env])[None])
        assert plans.energy[env] == pytest.approx(again.item(), rel=1e-5)
    # After the first iteration, one place changes at a time (an END takes along what is behind).
    before, after = plans.history[1], plans.history[2]
    changed = (before != after) & (after != END) & (before != END)
    assert (changed.sum(-1) <= 1).all()


def test_goes_on_from_a_proposal():
    planner = GibbsPlanner(model_of(), GibbsConfig(iterations=1))
    proposal = torch.tensor([[0, 1, 1]] * 4)
    plans = planner.plan(seen(), generator(), proposal=proposal).actions
    assert ((plans != proposal.numpy()) & (plans != END)).sum(1).max() <= 1


def test_several_places_at_once():
    plans = GibbsPlanner(model_of(), GibbsConfig(block=3)).plan(seen(), generator(), record=True)
    # All places from nothing but MASKs, again and again: argmax gives the same plan every time.
    assert (plans.history == plans.history[0]).all()


def test_energies_of_models_add_up():
    models = [model_of(seed=1), model_of(seed=2)]
    plans = every_plan()
    states = seen(1).expand(len(plans), -1)
    both = GibbsPlanner(models, GibbsConfig()).energy(states, plans)
    each = [GibbsPlanner(model, GibbsConfig()).energy(states, plans) for model in models]
    torch.testing.assert_close(both, each[0] + each[1])
    # One model with two goals: an observation for each.
    planner = GibbsPlanner([models[0]] * 2, GibbsConfig(iterations=20))
    goals = [seen(4, 1), seen(4, 5)]
    found = planner.plan(goals, generator())
    for env in range(4):
        total = sum(
            GibbsPlanner(models[0], GibbsConfig()).energy(
                goal[env : env + 1], torch.from_numpy(found.actions[env])[None]
            )
            for goal in goals
        )
        assert found.energy[env] == pytest.approx(total.item(), rel=1e-4)


@pytest.mark.parametrize("sampler", ["argmax", "gibbs"])
def test_constraints_keep_out_what_they_forbid(sampler):
    def never_zero(plans, envs):
        assert plans.shape[1] == 3
        assert int(plans.max()) <= END
        return 50.0 * (plans == 0).sum(dim=1).float() * (envs != 2)

    config = GibbsConfig(iterations=20, sampler=sampler, chains=3)
    free = GibbsPlanner(model_of(), config).plan(seen(8), generator()).actions
    planner = GibbsPlanner(model_of(), config, constraint=never_zero)
    bound = planner.plan(seen(8), generator()).actions
    assert (free == 0).any(axis=1).all()
    assert not (np.delete(bound, 2, axis=0) == 0).any()
    assert (bound[2] == 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be positive"),
        ({"final_temperature": -1.0}, "final_temperature is -1.0"),
        ({"sampler": "beam"}, "choose argmax or gibbs"),
        ({"chains": 0}, "chains is 0"),
        ({"plan_every": -1}, "plan_every is -1"),
    ],
)
def test_bad_searches(options, message):
    with pytest.raises(ValueError, match=message):
        GibbsConfig(**options)


def test_searches_that_do_not_fit_the_model():
    with pytest.raises(ValueError, match="block 4 exceeds"):
        GibbsPlanner(model_of(), GibbsConfig(block=4))
    with pytest.raises(ValueError, match="plan_every 4 exceeds"):
        GibbsPlanner(model_of(), GibbsConfig(plan_every=4))
    other = model_of(dataclasses.replace(SMALL, action_size=3))
    with pytest.raises(ValueError, match="can only be added"):
        GibbsPlanner([model_of(), other], GibbsConfig())
    planner = GibbsPlanner(model_of(), GibbsConfig())
    with pytest.raises(ValueError, match="position table"):
        planner.plan(seen(1), generator(), proposal=torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="the proposal holds tokens"):
        planner.plan(seen(1), generator(), proposal=torch.full((1, 3), 9))


# --- playing -----------------------------------------------------------------------------------


def test_agent_carries_out_plans_up_to_their_end():
    model = model_of()
    agent = LeapAgent(model, GibbsConfig(iterations=4))
    assert isinstance(agent, Agent)
    agent.reset(4)
    actions = [agent.act(seen().numpy()) for _ in range(3)]
    planner = GibbsPlanner(model, GibbsConfig(iterations=4))
    plans = planner.plan(seen(), generator(0))
    for env in range(4):
        for step in range(min(3, plans.lengths[env])):
            assert actions[step][env] == plans.actions[env, step]
    assert all((step < SMALL.action_size).all() for step in actions)


def test_agent_plans_every_step_if_told():
    agent = LeapAgent(model_of(), GibbsConfig(iterations=2, plan_every=1))
    agent.reset(2)
    calls = []
    plan = agent.planner.plan
    agent.planner.plan = lambda *args: calls.append(len(args[0])) or plan(*args)
    for _ in range(3):
        agent.act(seen(2).numpy())
    assert calls == [2, 2, 2]


def test_learns_and_plays_a_level():
    data = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
    torch.manual_seed(0)
    model = make_leap(TASK, data, width=32, layers=1, heads=2, dropout=0.0)
    windows = make_plan_windows(data, model)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(300):
        loss = leap_loss(model.train(), windows.sample(np.random.default_rng(step), 16))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seeds = [int(seed) for seed in data.seeds]
    planner = GibbsConfig(sampler="gibbs", chains=8)
    played = rollout(LeapAgent(model, planner), TASK, seeds)
    assert (played.returns > 0).all(), "four demonstrations by heart lead to their four goals"


def test_an_agent_goes_on_with_those_that_are_left():
    config = LeapConfig(observation_size=3, action_size=2, plan_length=3, width=16, layers=1,
                        heads=2, dropout=0.0)  # fmt: skip
    model = model_of(config)
    config = GibbsConfig(iterations=1)  # which draws nothing
    both, one = (LeapAgent(model, config) for _ in range(2))
    both.reset(3)
    one.reset(1)
    for t in range(7):
        observations = seen(3, seed=t).numpy()
        if t == 2:
            both.keep(np.array([0, 2]))
        actions = both.act(observations if t < 2 else observations[[0, 2]])
        assert actions[-1] == one.act(observations[2:])[0]
