"""Identities of stored sightings: people across cameras, their journeys, merges and splits."""
