"""The stick figure is the simulator's own body."""

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from helpers.cheetah import draw_poses, observed_poses, pose_pictures, poses
from helpers.data.catalogue import load_dataset
from helpers.tasks import get_task


def test_the_body_stands_on_the_floor_and_runs_as_far_as_the_rewards_say():
    dataset = load_dataset("halfcheetah/expert", sample=True)
    steps = [0, 100, 200]
    names, frames = poses(dataset, 1, steps)
    assert frames.shape == (3, len(names), 2, 2)
    assert {"torso", "bfoot", "ffoot"} <= set(names)
    assert (frames[..., 1] > -0.1).all()  # capsules have a radius; their axes stay above the floor
    torso = frames[:, names.index("torso"), :, 0].mean(axis=1)
    # Reward is forward speed less 0.1 times the squared torques; a step lasts 0.05 s.
    start = dataset.starts[1]
    rewards = dataset.rewards[start : start + 200]
    torques = np.square(dataset.actions[start : start + 200]).sum(axis=1)
    speed = (rewards + 0.1 * torques).reshape(2, 100).sum(axis=1) * 0.05
    # The torso's middle swings around the root joint that the reward follows.
    assert np.allclose(np.diff(torso), speed, atol=0.6)


def test_poses_do_not_depend_on_which_frames_are_asked_for():
    dataset = load_dataset("halfcheetah/medium", sample=True)
    _, few = poses(dataset, 0, [30])
    _, many = poses(dataset, 0, [10, 20, 30])
    assert np.array_equal(few[0], many[2])


def test_an_observation_tells_the_pose():
    dataset = load_dataset("halfcheetah/medium", sample=True)
    steps = [0, 25, 50]
    names, replayed = poses(dataset, 0, steps)
    seen, frames = observed_poses(dataset.observations[dataset.starts[0] + np.array(steps)])
    torso = names.index("torso")
    shift = replayed[:, torso, :, 0].mean(axis=1) - frames[:, torso, :, 0].mean(axis=1)
    frames[..., 0] += shift[:, None, None]  # the distance run is not observed
    assert seen == names and np.allclose(frames[0], replayed[0], atol=1e-5)
    # Behind a step, MuJoCo's geometry is that of its last substep, 0.01 s before the observation.
    assert np.allclose(frames, replayed, atol=0.06)


def test_lengths_of_the_parts_are_those_of_the_model():
    dataset = load_dataset("halfcheetah/random", sample=True)
    names, frames = poses(dataset, 0, [0, 40])
    model = get_task("halfcheetah").make().unwrapped.model
    lengths = np.linalg.norm(frames[:, :, 1] - frames[:, :, 0], axis=-1)
    sizes = np.array([2 * model.geom(name).size[1] for name in names])
    assert np.allclose(lengths, sizes, atol=1e-6)


def test_drawing_places_frames_side_by_side():
    dataset = load_dataset("halfcheetah/medium", sample=True)
    names, frames = poses(dataset, 0, [0, 50, 100])
    figure, ax = plt.subplots()
    draw_poses(ax, names, frames, "#0072b2", spacing=2.0)
    assert len(ax.lines) == 3 * len(names) + 1
    assert ax.get_xlim()[1] > 4.0
    plt.close(figure)


def test_pictures_show_the_body_and_the_ground_passing_below():
    dataset = load_dataset("halfcheetah/medium", sample=True)
    names, frames = poses(dataset, 0, [500, 502, 504])
    pictures = pose_pictures(names, frames, "#0072b2", size=(160, 100))
    assert pictures.shape == (3, 100, 160, 3) and pictures.dtype == np.uint8
    blue = (pictures[..., 2] > 100) & (pictures[..., 0] < 60)
    assert (blue.sum(axis=(1, 2)) > 100).all()
    below = pictures[:, 96]
    assert not np.array_equal(below[0], below[1]), "the ticks move"
    assert plt.get_fignums() == []
