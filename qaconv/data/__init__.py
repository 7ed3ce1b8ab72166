"""Datasets: layouts, manifests, batches of crops, and how new sightings join a dataset."""
