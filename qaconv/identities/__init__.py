"""Join the sightings of a target to people: journeys, counts and their uncertainty, without labels."""
