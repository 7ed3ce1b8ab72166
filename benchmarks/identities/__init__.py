"""Compare rules that group sightings into identities: `python -m benchmarks.identities [TARGET or FOLDER ...]`."""
