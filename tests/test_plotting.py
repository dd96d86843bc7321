"""Colours can be told apart by everyone, and figures come out the same twice."""

import io
import itertools

import matplotlib as mpl
import matplotlib.colors as mcolors
import numpy as np
import pytest

from helpers import plotting

VISION = {
    "full": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, severity 1.0, applied to linear RGB.
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
SETS = {
    "methods": plotting.METHOD_COLOURS,
    "tokens": plotting.TOKEN_COLOURS,
    "tiers": plotting.TIER_COLOURS,
    "series": dict(enumerate(plotting.SERIES_COLOURS)),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)


def linear(colour):
    rgb = np.array(mcolors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(x > 0.008856, np.cbrt(np.maximum(x, 1e-9)), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    dark, light = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


pytestmark = pytest.mark.usefixtures("style")


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", SETS)
def test_colours_of_a_set_stay_apart(name, vision):
    seen = {
        key: lab(np.clip(VISION[vision] @ linear(colour), 0, 1))
        for key, colour in SETS[name].items()
    }
    for one, other in itertools.combinations(seen, 2):
        distance = np.linalg.norm(seen[one] - seen[other])
        assert distance > 9, f"{one} and {other} look alike under {vision} vision: {distance:.1f}"


@pytest.mark.parametrize("name", SETS)
def test_colours_stand_out_from_the_background(name):
    for key, colour in SETS[name].items():
        assert contrast(colour, plotting.BACKGROUND) >= 3, key


def test_text_is_readable():
    assert contrast(plotting.INK, plotting.BACKGROUND) >= 7
    assert contrast(plotting.QUIET, plotting.BACKGROUND) >= 4.5
    for key, colour in plotting.TOKEN_COLOURS.items():
        assert contrast(plotting.INK, plotting.tint(colour, 0.3)) >= 4.5, key
        assert contrast(plotting.shade(colour, 0.5), plotting.BACKGROUND) >= 4.5, key


def test_no_two_methods_share_colour_marker_or_line():
    styles = list(plotting.METHOD_STYLES.values())
    for field in ("label", "colour", "marker", "linestyle"):
        values = [getattr(style, field) for style in styles]
        assert len(set(values)) == len(values), field


def test_tiers_are_ordered_by_lightness():
    lightness = [lab(linear(plotting.TIER_COLOURS[tier]))[0] for tier in plotting.TIERS]
    assert lightness == sorted(lightness, reverse=True)


def _svg():
    figure, (ax,) = plotting.new_axes()
    x = np.arange(5.0)
    plotting.method_band(ax, "dt", x, x, x - 1, x + 1)
    ax.legend()
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_the_same_figure_is_the_same_file():
    assert _svg() == _svg()


def test_background_is_opaque_and_light():
    red, green, blue, alpha = mcolors.to_rgba(mpl.rcParams["savefig.facecolor"])
    assert alpha == 1
    assert min(red, green, blue) > 0.95


def test_band_draws_interval_and_line():
    _, (ax,) = plotting.new_axes()
    line = plotting.band(ax, [0, 1], [1, 2], [0, 1], [2, 3], colour="#0072b2", label="x")
    assert line.get_label() == "x"
    assert len(ax.collections) == 1


def test_band_refuses_bad_intervals():
    _, (ax,) = plotting.new_axes()
    with pytest.raises(ValueError, match="swapped"):
        plotting.band(ax, [0, 1], [1, 2], [2, 3], [0, 1], colour="k")
    with pytest.raises(ValueError, match="lengths 2, 2, 1, 2"):
        plotting.band(ax, [0, 1], [1, 2], [0], [2, 3], colour="k")


def test_tint_runs_from_background_to_colour():
    assert plotting.tint("#0072b2", 0.0) == plotting.BACKGROUND
    assert plotting.tint("#0072b2", 1.0) == "#0072b2"
