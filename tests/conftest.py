"""Tests draw with matplotlib's own fonts, whatever this machine has installed or has cached."""

import os
import tempfile

import pytest

# A font cache that another process left half-made made a committed picture look out of date.
_CACHE = tempfile.TemporaryDirectory(prefix="matplotlib-")
os.environ["MPLCONFIGDIR"] = _CACHE.name
os.environ["MPL_IGNORE_SYSTEM_FONTS"] = "1"


@pytest.fixture
def style():
    """The book's style of figures, for one test."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from helpers.plotting import use_style

    with mpl.rc_context():
        mpl.use("Agg")
        use_style()
        yield
        plt.close("all")
