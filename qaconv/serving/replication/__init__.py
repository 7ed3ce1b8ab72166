"""Several machines on one gallery: followers keep a whole copy of the leader's sightings, and pass changes on to it."""
