"""Where things lie: `HELPERS_ROOT` moves the whole tree, `HELPERS_WORK` only what is unfinished."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("HELPERS_ROOT") or Path(__file__).resolve().parents[2])
DATA = ROOT / "data"
POLICIES = DATA / "policies"
CHECKPOINTS = DATA / "checkpoints"
RESULTS = DATA / "results"
SAMPLES = DATA / "samples"
DATASETS = DATA / "datasets"
WORK = Path(os.environ.get("HELPERS_WORK") or DATA / ".work")
"""Unfinished work that a later call resumes: partial collections, training states."""
