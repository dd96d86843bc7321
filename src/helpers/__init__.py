"""Offline reinforcement learning as sequence modelling: the package behind the book."""
