"""What routes of a target share."""

from typing import Annotated, Any

from fastapi import Path

from qaconv.serving import schemas

PREFIX = "/v1/targets/{target}"
Target = Annotated[str, Path(description="The camera network.")]
Responses = dict[int | str, dict[str, Any]]
REFUSALS: Responses = {
    400: {"model": schemas.Problem, "description": "The body is not JSON."},
    401: {"model": schemas.Problem, "description": "The key is missing or unknown."},
    403: {"model": schemas.Problem, "description": "The key does not have the scope or the target."},
    404: {"model": schemas.Problem, "description": "Unknown target, camera or sighting."},
    408: {"model": schemas.Problem, "description": "The body did not arrive in time."},
    413: {"model": schemas.Problem, "description": "The body is too large."},
    422: {"model": schemas.Problem, "description": "A value is not allowed; the message names it."},
    429: {
        "model": schemas.Problem,
        "description": "Too many requests of this key; see Retry-After.",
    },
    503: {"model": schemas.Problem, "description": "Too many requests at once; see Retry-After."},
}
