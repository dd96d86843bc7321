"""The transformer core and the models built on it."""
