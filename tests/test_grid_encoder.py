"""The encoder of grid levels: the agent's frame, missions, and what may not be seen."""

import numpy as np
import pytest
import torch

from helpers.data.catalogue import load_dataset
from helpers.envs.grids import grid_layout, unpack
from helpers.models.distinct import first_of_each
from helpers.models.grid_encoder import (
    GridEncoder,
    GridEncoderConfig,
    MissionEncoder,
    turn,
)
from helpers.tasks import get_task

TASK = get_task("babyai-gotolocal-s7n5")
SIZE = 7


def observations(count: int = 12) -> torch.Tensor:
    data = load_dataset("babyai-gotolocal-s7n5/noisy", sample=True)
    return torch.from_numpy(np.array(data.observations[:count]))


def changed(packed: torch.Tensor, part: str) -> torch.Tensor:
    """The same observations with other numbers in one part."""
    packed = packed.clone()
    view = unpack(packed, grid_layout(SIZE, SIZE))[part]
    view[:] = view.roll(1, 0) if part == "mission" else (view + 1) % 4
    return packed


def test_turned_map_is_what_the_agent_meets():
    env = TASK.make()
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        level = env.unwrapped
        packed = torch.from_numpy(TASK.pack(observation))[None]
        parts = unpack(packed, TASK.layout)
        turned = turn(parts["grid"], parts["pose"])[0]
        here, ahead = np.array(level.agent_pos), level.dir_vec
        for forward in range(-2, 3):
            for right in range(-2, 3):
                cell = (here + forward * ahead + right * level.right_vec) % SIZE
                expected = parts["grid"][0, cell[0], cell[1]]
                assert turned[forward % SIZE, right % SIZE].tolist() == expected.tolist()
    env.close()


def test_a_full_turn_shows_four_maps_and_the_first_again():
    env = TASK.make()
    observation, _ = env.reset(seed=3)
    maps = []
    for _ in range(5):
        parts = unpack(torch.from_numpy(TASK.pack(observation))[None], TASK.layout)
        cells = turn(parts["grid"], parts["pose"])[0]
        cells[0, 0] = 0  # the agent itself is drawn with its direction
        maps.append(cells)
        observation, *_ = env.step(0)
    env.close()
    assert torch.equal(maps[0], maps[4])
    assert not torch.equal(maps[0], maps[1])
    # Turning left brings what was to the left (r = -1) in front (f = 1).
    assert torch.equal(maps[1][1, 0], maps[0][0, -1])


@pytest.mark.parametrize(
    ("options", "seen", "hidden"),
    [
        ({}, ("grid", "pose", "mission"), ("view", "target")),
        ({"oracle": True}, ("grid", "pose", "mission", "target"), ("view",)),
        ({"sight": "view"}, ("view", "mission"), ("grid", "target")),
    ],
)
def test_sees_what_it_may_and_nothing_else(options, seen, hidden):
    torch.manual_seed(0)
    encoder = GridEncoder(GridEncoderConfig(SIZE, 16, **options)).eval()
    packed = observations()
    with torch.no_grad():
        features = encoder(packed)
        for part in seen:
            assert not torch.allclose(encoder(changed(packed, part)), features), part
        for part in hidden:
            assert torch.equal(encoder(changed(packed, part)), features), part


def test_leading_shape_and_batch_do_not_matter():
    torch.manual_seed(0)
    encoder = GridEncoder(GridEncoderConfig(SIZE, 16)).eval()
    packed = observations()
    with torch.no_grad():
        together = encoder(packed.view(3, 4, -1)).view(12, -1)
        alone = torch.cat([encoder(row[None]) for row in packed])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_missions_are_read_to_their_last_word_and_no_further():
    torch.manual_seed(0)
    encode = MissionEncoder(8)
    missions = torch.tensor([[3, 4, 5, 0, 0], [3, 4, 5, 6, 0], [3, 4, 5, 0, 0], [4, 3, 5, 0, 0]])
    a, b, c, d = encode(missions)
    torch.testing.assert_close(a, c)
    assert not torch.allclose(a, b)
    assert not torch.allclose(a, d), "the order of words is lost"
    torch.testing.assert_close(encode(missions[:1])[0], a)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sight": "map"}, "choose grid or view"), ({"sight": "view", "oracle": True}, "set sight")],
)
def test_impossible_configurations(options, message):
    with pytest.raises(ValueError, match=message):
        GridEncoderConfig(SIZE, **options)


def test_observations_of_another_level():
    encoder = GridEncoder(GridEncoderConfig(8, 16))
    with pytest.raises(ValueError, match="choose the dataset's own task"):
        encoder(observations())


def test_equal_rows_are_encoded_once_with_the_same_result(monkeypatch):
    torch.manual_seed(0)
    few = observations()
    many = few[torch.randint(len(few), (6, 9))]
    once, each = (GridEncoder(GridEncoderConfig(SIZE, 16, distinct=d)) for d in (True, False))
    once.load_state_dict(each.state_dict())
    results, gradients = [], []
    for encoder in (once, each):
        results.append(encoder(many))
        results[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)  # sums in another order
    encoded = []
    monkeypatch.setattr(once, "_encode", lambda rows: encoded.append(len(rows)) or rows.float())
    assert torch.equal(once(many), many.float())
    assert encoded == [len(many.flatten(0, 1).unique(dim=0))] and encoded[0] < 54


def test_rows_with_the_same_sum_stay_apart(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *args, **_: torch.zeros(4, dtype=torch.long))
    rows = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 4]])
    first, which = first_of_each(rows)
    assert torch.equal(rows[first][which], rows)
