"""Keep, search and explain galleries of sightings over HTTP, with the registry's champion."""
