"""The transformer core and the Decision Transformer, against Hugging Face's and itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from helpers.agents import DecisionAgent
from helpers.analysis.attention import decision_attention
from helpers.data.catalogue import load_dataset
from helpers.data.windows import make_windows
from helpers.files import BadFile
from helpers.models.checkpoints import save_model
from helpers.models.decision import (
    DecisionConfig,
    DecisionTransformer,
    decision_loss,
    load_decision,
    make_decision,
)
from helpers.models.pretrained import from_hugging_face
from helpers.tasks import get_task

LEVEL = get_task("babyai-gotolocal-s7n5")
SMALL = DecisionConfig(observation_size=5, action_size=3, context_length=6, horizon=50, width=32,
                       layers=2, heads=2)  # fmt: skip


def batch(config: DecisionConfig, size: int = 4, padding: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    k = config.context_length
    start = torch.randint(config.horizon - k, (size, 1), generator=generator)
    valid = torch.ones(size, k, dtype=torch.bool)
    if padding:
        valid[1, :2] = False
        valid[2, : k - 1] = False
    return {
        "returns_to_go": torch.randn(size, k, generator=generator) * 1000,
        "observations": torch.randn(size, k, config.observation_size, generator=generator),
        "actions": torch.rand(size, k, config.action_size, generator=generator) * 2 - 1,
        "timesteps": start + torch.arange(k),
        "valid": valid,
    }


@pytest.fixture(params=[1, 2], ids=["one head", "two heads"])
def hugging_face(request) -> DecisionTransformerModel:
    """Random weights at several times GPT-2's scale, so that every part of the model matters."""
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=5, act_dim=3, hidden_size=32, max_ep_len=50, n_layer=2, n_head=request.param,
        n_positions=64,
    )  # fmt: skip
    model = DecisionTransformerModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize("padding", [False, True])
def test_outputs_equal_hugging_face(hugging_face, padding):
    ours = from_hugging_face(
        hugging_face.state_dict(), hugging_face.config.to_dict(), context_length=6
    )
    inputs = batch(ours.config, padding=padding)
    valid = inputs["valid"]
    with torch.no_grad():
        expected = hugging_face(
            states=inputs["observations"],
            actions=inputs["actions"],
            returns_to_go=inputs["returns_to_go"].unsqueeze(-1) / 1000,
            timesteps=inputs["timesteps"],
            attention_mask=valid.long(),
        ).action_preds
        actual = ours(**inputs)
    assert (expected - actual)[valid].abs().max() < 1e-5
    assert expected[valid].std() > 0.1, "the models must say something for parity to mean anything"


def test_gradients_equal_hugging_face(hugging_face):
    """Our blocks have backward passes of their own."""
    from helpers.models.pretrained import _rename

    settings = hugging_face.config.to_dict()
    ours = from_hugging_face(hugging_face.state_dict(), settings, context_length=6)
    inputs = batch(ours.config, padding=True)
    decision_loss(ours, inputs).backward()
    predicted = hugging_face(
        states=inputs["observations"],
        actions=inputs["actions"],
        returns_to_go=inputs["returns_to_go"].unsqueeze(-1) / 1000,
        timesteps=inputs["timesteps"],
        attention_mask=inputs["valid"].long(),
    ).action_preds
    (predicted - inputs["actions"])[inputs["valid"]].square().mean().backward()
    theirs = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in hugging_face.named_parameters()
    }
    expected = dict(_rename(theirs, 2))
    named = dict(ours.named_parameters())
    del named["embed_norm.bias"]  # theirs is the sum of two parameters
    for name, parameter in named.items():
        scale = expected[name].abs().max() + 1e-4
        assert (parameter.grad - expected[name]).abs().max() < 1e-4 * scale, name


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_training_and_acting_compute_the_same(monkeypatch, heads, activation):
    """In training attention is written out for the sake of dropout; here dropout does nothing."""
    from helpers.models import decision, transformer

    monkeypatch.setattr(transformer, "dropout", lambda x, *_: x)
    monkeypatch.setattr(transformer, "add_dropped", lambda x, change, *_: x + change)
    monkeypatch.setattr(decision, "dropout", lambda x, *_: x)
    torch.manual_seed(0)
    model = DecisionTransformer(replace(SMALL, heads=heads, activation=activation))
    inputs = batch(SMALL, padding=True)
    with torch.no_grad():
        acting, training = model.eval()(**inputs), model.train()(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(**inputs)
    assert torch.allclose(acting, training, atol=1e-6)
    assert acting.std() > 1e-3
    assert torch.allclose(acting, half, atol=0.02)


def test_attention_equals_hugging_face(hugging_face):
    ours = from_hugging_face(
        hugging_face.state_dict(), hugging_face.config.to_dict(), context_length=6
    )
    inputs = batch(ours.config)
    hugging_face.set_attn_implementation("eager")
    with torch.no_grad():
        expected = hugging_face(
            states=inputs["observations"],
            actions=inputs["actions"],
            returns_to_go=inputs["returns_to_go"].unsqueeze(-1) / 1000,
            timesteps=inputs["timesteps"],
            attention_mask=inputs["valid"].long(),
            output_attentions=True,
        ).attentions
        actual = decision_attention(ours, **inputs).weights
    assert torch.allclose(torch.stack(expected), actual, atol=1e-5)
    assert torch.allclose(actual.sum(-1), torch.ones(()), atol=1e-5)


def test_future_tokens_do_not_change_the_past():
    model = DecisionTransformer(SMALL).eval()
    inputs = batch(SMALL)
    with torch.no_grad():
        before = model(**inputs)
        inputs["observations"][:, 4] += 1.0
        inputs["actions"][:, 3] += 1.0
        after = model(**inputs)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_padding_changes_nothing():
    model = DecisionTransformer(SMALL).eval()
    inputs = batch(SMALL, padding=True)
    with torch.no_grad():
        before = model(**inputs)
        for name in ("returns_to_go", "observations", "actions"):
            inputs[name][~inputs["valid"]] = 7.0
        after = model(**inputs)
    assert torch.equal(before[inputs["valid"]], after[inputs["valid"]])


def test_act_is_the_last_column_of_forward():
    model = DecisionTransformer(SMALL).eval()
    inputs = batch(SMALL)
    with torch.no_grad():
        whole = model(**inputs)[:, -1]
        del inputs["valid"]
        prepared = model.transformer.prepare(model.tokens(**inputs)[:, :-1])
        assert torch.allclose(whole, model.act(prepared), atol=1e-6)


def test_readout_changes_no_gradient():
    """The last block computes state rows only; the gradient is that of computing all rows."""
    torch.manual_seed(0)
    model = DecisionTransformer(SMALL).eval()
    inputs = batch(SMALL, padding=True)
    decision_loss(model, inputs).backward()
    short = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    x = model.tokens(
        *(inputs[k] for k in ("returns_to_go", "observations", "actions", "timesteps"))
    )
    allowed = model._allowed(x.shape[1], inputs["valid"], x.device)
    full = torch.tanh(model.predict_action(model.transformer(x, allowed)[:, 1::3]))
    (full - inputs["actions"])[inputs["valid"]].square().mean().backward()
    for gradient, parameter in zip(short, model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-6)


def test_one_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    model = DecisionTransformer(SMALL)
    inputs = batch(SMALL)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = decision_loss(model.eval(), inputs).item()
    for _ in range(150):
        optimiser.zero_grad()
        loss = decision_loss(model, inputs)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01 * first


def test_checkpoint_round_trip(tmp_path):
    model = DecisionTransformer(SMALL).eval()
    model.observation_mean += 1.5
    save_model(tmp_path / "model.safetensors", model, {"note": "x"})
    loaded, metadata = load_decision(tmp_path / "model.safetensors")
    inputs = batch(SMALL)
    assert torch.equal(model(**inputs), loaded(**inputs))
    assert metadata["note"] == "x"


def test_a_checkpoint_for_other_shapes_is_refused(tmp_path):
    from helpers.files import read_arrays, write_arrays

    path = tmp_path / "model.safetensors"
    save_model(path, DecisionTransformer(SMALL), {})
    arrays, metadata = read_arrays(path)
    arrays["embed_action.weight"] = np.zeros((32, 4), np.float32)
    write_arrays(path, arrays, metadata)
    with pytest.raises(BadFile, match=r"embed_action.weight.*\(32, 4\).*\(32, 3\)"):
        load_decision(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadFile, match="cut short"):
        load_decision(path)


def test_dropout_has_the_right_rate_and_gradient():
    from helpers.models.dropout import dropout

    torch.manual_seed(0)
    x = torch.ones(1_000_001, requires_grad=True)
    y = dropout(x, 0.1, training=True)
    y.sum().backward()
    assert abs((y == 0).float().mean().item() - 0.1) < 0.001
    assert abs(y.mean().item() - 1.0) < 0.001
    assert torch.equal(x.grad, y.detach())
    assert dropout(x, 0.1, training=False) is x


def test_a_residual_branch_drops_the_same():
    from helpers.models.dropout import add_dropped, dropout

    x, change = (torch.randn(3, 50, requires_grad=True) for _ in range(2))
    torch.manual_seed(3)
    expected = x + dropout(change, 0.3, training=True)
    wanted = torch.autograd.grad(expected.square().sum(), (x, change))
    torch.manual_seed(3)
    actual = add_dropped(x, change, 0.3, training=True)
    found = torch.autograd.grad(actual.square().sum(), (x, change))
    assert (expected == x).any() and not (expected == x).all()
    for a, b in zip((expected, *wanted), (actual, *found), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


# --- numbered actions and grids ----------------------------------------------------------------


@pytest.fixture(scope="module")
def grid_model() -> DecisionTransformer:
    """A random one for a grid level, loud enough to disagree with itself."""
    torch.manual_seed(0)
    data = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
    shape = {"context_length": 4, "width": 32, "layers": 2, "heads": 2, "dropout": 0.0}
    model = make_decision(LEVEL, data, **shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else parameter
    return model


def test_numbered_actions_are_scored_by_cross_entropy(grid_model):
    data = load_dataset("babyai-gotolocal-s7n5/expert", sample=True)
    batch = make_windows(data, 4).sample(np.random.default_rng(0), 16)
    with torch.no_grad():
        logits = grid_model(**batch)
        loss = decision_loss(grid_model, batch)
    assert logits.shape == (16, 4, LEVEL.action_size)
    each = -logits.log_softmax(-1).gather(-1, batch["actions"][..., None])[..., 0]
    assert torch.allclose(loss, each[batch["valid"]].mean(), atol=1e-5)


def test_on_a_grid_the_agent_computes_what_training_does(grid_model):
    """Steps are fed one by one to the agent and all at once to the model."""
    agent = DecisionAgent(grid_model, np.array([1.0]))
    agent.reset(1)
    env = LEVEL.make()
    seen, taken = [], []
    observation, _ = env.reset(seed=3)
    for _ in range(4):
        seen.append(LEVEL.pack(observation))
        taken.append(int(agent.act(seen[-1][None])[0]))
        agent.observe(np.zeros(1))
        observation, *_ = env.step(taken[-1])
    env.close()
    with torch.no_grad():
        logits = grid_model(
            returns_to_go=torch.ones(1, 4),
            observations=torch.from_numpy(np.stack(seen))[None],
            actions=torch.tensor(taken)[None],
            timesteps=torch.arange(4)[None],
            valid=torch.ones(1, 4, dtype=torch.bool),
        )
    assert logits.argmax(-1)[0].tolist() == taken


def test_a_grid_checkpoint_round_trips(grid_model, tmp_path):
    path = tmp_path / "dt.safetensors"
    save_model(path, grid_model, {})
    again, _ = load_decision(path)
    assert again.config == grid_model.config
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), grid_model.parameters(), strict=True)
    )
