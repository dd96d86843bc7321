"""Planners: search over what a sequence model predicts."""
