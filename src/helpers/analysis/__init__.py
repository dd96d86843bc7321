"""Measurements on results and models."""
