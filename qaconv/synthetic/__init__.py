"""The synthetic camera networks: people and clocks (network.py), and the crops its cameras store (render.py)."""
