"""Fetch the champion's network for methods that begin with it, before DVC looks for its file."""

from flows.params import change_params
from qaconv.config import Params, load_params
from qaconv.registry import starts


def fetch_numbered(params: Params) -> Params:
    """Write the champion's number into params.yaml where a method begins with it, and fetch its network.

    Returns:
        The settings as they are now.

    Raises:
        InputError: there is no champion, or its network is gone.
    """
    if changes := starts.number_starts(params):
        change_params(changes)
        params = load_params()
    starts.fetch_starts(params)
    return params
