"""Join sightings of one target to identities."""
