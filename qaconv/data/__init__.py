"""Read datasets into manifests, draw and augment training batches, and add new sightings to a dataset."""
