"""Tests draw with matplotlib's own fonts, whatever this machine has installed or has cached."""

import os
import tempfile

# A font cache that another process left half-made made a committed picture look out of date.
_CACHE = tempfile.TemporaryDirectory(prefix="matplotlib-")
os.environ["MPLCONFIGDIR"] = _CACHE.name
os.environ["MPL_IGNORE_SYSTEM_FONTS"] = "1"
