"""Simulate camera networks: people and clocks (network.py), and the crops of their cameras (render.py)."""
