"""Offline datasets: how they are made, read, checked and cut into training windows."""
