"""The page that connects the three methods: its picture is what the models do, its terms exist."""

import re

import numpy as np
import pytest
import torch

from helpers import connections, paths
from helpers.models.decision import DecisionConfig, DecisionTransformer
from helpers.models.leap import Leap, LeapConfig
from helpers.models.trajectory import TrajectoryConfig, TrajectoryTransformer

BOOK = paths.ROOT / "book"
SMALL = {"width": 16, "layers": 2, "heads": 2, "dropout": 0.0}


def changes(predict, inputs: list[torch.Tensor], predicted: list[int]) -> np.ndarray:
    """Which predictions change with which token; `predict` is given the L tokens."""
    with torch.no_grad():
        before = predict(inputs)
        rows = []
        for token in range(len(inputs)):
            changed = [1 - x if i == token else x for i, x in enumerate(inputs)]
            rows.append((predict(changed) - before).abs().flatten(1).amax(1) > 1e-7)
    uses = torch.stack(rows, dim=1).numpy()
    assert len(uses) == len(predicted)
    return uses


def decision_uses(pattern):
    model = DecisionTransformer(DecisionConfig(1, 1, 3, 3, return_scale=1.0, **SMALL)).eval()

    def predict(tokens):
        returns, states, actions = (torch.stack(tokens[i::3])[None] for i in range(3))
        return model(returns, states[..., None], actions[..., None], torch.arange(3)[None])[0]

    return changes(predict, list(torch.rand(9)), pattern.predicted)


def trajectory_uses(pattern):
    config = TrajectoryConfig(1, 1, context_length=2, bins=2, **SMALL)
    model = TrajectoryTransformer(config).eval()

    def predict(tokens):
        return model(torch.stack(tokens)[None])[0, :-1]

    return changes(predict, list(torch.randint(2, (8,))), pattern.predicted)


def leap_uses(pattern):
    """One place after the other is masked; the state is a token, too."""
    model = Leap(LeapConfig(1, 2, plan_length=4, **SMALL)).eval()

    def predict(tokens):
        plans = torch.stack([t.long() for t in tokens[1:]]).repeat(4, 1)
        masked = plans.masked_fill(torch.eye(4, dtype=torch.bool), model.config.mask)
        states = model.encode(tokens[0].float().view(1, 1)).repeat(4, 1)
        return model(states, masked)[torch.arange(4), torch.arange(4)]

    return changes(predict, list(torch.randint(2, (5,))), pattern.predicted)


@pytest.mark.parametrize(
    ("pattern", "measure"),
    [
        (connections.decision_pattern(), decision_uses),
        (connections.trajectory_pattern(), trajectory_uses),
        (connections.leap_pattern(), leap_uses),
    ],
    ids=["dt", "tt", "leap"],
)
def test_the_picture_shows_what_the_predictions_of_the_models_depend_on(pattern, measure):
    torch.manual_seed(0)
    assert np.array_equal(pattern.uses, measure(pattern))
    assert len(pattern.kinds) == len(pattern.symbols) == pattern.uses.shape[1]


def test_the_committed_picture_is_the_drawn_one(tmp_path):
    drawn = connections.write_picture(tmp_path / "drawn.svg").read_bytes()
    committed = (paths.ROOT / connections.PICTURE).read_bytes()
    assert drawn == committed, "draw it anew: python -m helpers.connections"


def glossary() -> list[tuple[str, str]]:
    text = (BOOK / "notation.md").read_text()
    body = re.search(r"```\{glossary\}\n(.*?)```", text, re.S)[1]
    entries = [entry.split("\n", 1) for entry in body.strip().split("\n\n")]
    return [(term, meaning) for term, meaning in entries]


def test_the_glossary_is_in_order_and_explains_each_term_once():
    terms = [term for term, _ in glossary()]
    assert terms == sorted(terms, key=str.lower) and len(set(terms)) == len(terms)
    for term, meaning in glossary():
        assert meaning.startswith("  ") and meaning.endswith("."), term


def test_terms_that_pages_link_to_are_in_the_glossary():
    terms = {term.lower() for term, _ in glossary()}
    pages = [*BOOK.glob("*.md"), *(paths.ROOT / "notebooks").glob("*.md")]
    linked = {
        match[1] or match[0]
        for page in pages
        for match in re.findall(r"\{term\}`([^`<]+?)(?:\s*<([^>]+)>)?`", page.read_text())
    }
    assert linked and {term.lower() for term in linked} <= terms
