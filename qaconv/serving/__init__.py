"""The service: galleries of sightings are kept, searched and explained over HTTP, with the registry's champion."""
