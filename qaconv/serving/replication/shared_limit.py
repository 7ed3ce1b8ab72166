"""Count the requests that a follower answers by the leader's count, so that a limit holds over all machines."""

import os
import time

import httpx

from qaconv.errors import InputError
from qaconv.serving.auth import HEADER
from qaconv.serving.replication.client import KEY
from qaconv.serving.replication.link import Link
from qaconv.serving.replication.messages import Allowed, unpack
from qaconv.serving.request_limit import MINUTE_S, RequestLimit

SHARE = 60  # of a minute's requests, that are taken from the leader together
ASK_S = 1.0  # that a request waits for the leader's count


class SharedLimit:
    """Takes permissions from the leader, a second's together; what is left of them ends with the minute.

    While the leader is out of reach, which the copy outlasts by a minute at most, this machine counts alone.

    Args:
        alone: counts the requests of this machine.
        client: asks the leader.
        link: to the leader.
    """

    def __init__(self, alone: RequestLimit, client: httpx.AsyncClient, link: Link) -> None:
        self._alone = alone
        self._client = client
        self._link = link
        self._left: dict[str, tuple[int, int]] = {}  # minute and number of permissions, by key

    async def wait_s(self, key: str) -> int | None:
        """Count a request of a key. Return None if it is allowed, else seconds until another one may be."""
        minute = int(time.time() // MINUTE_S)
        if self._spend(key, minute):
            return None
        if self._link.is_cut:
            return await self._alone.wait_s(key)
        try:
            wanted = max(1, self._alone.per_minute // SHARE)
            answer = await self._client.post(
                "/replication/requests",
                params={"key": key, "count": wanted},
                headers={HEADER: os.environ.get(KEY, "")},
                timeout=ASK_S,
            )
            allowed = unpack(Allowed, answer.raise_for_status().content)
        except (httpx.HTTPError, InputError):  # no answer, or one that is none
            return await self._alone.wait_s(key)
        _, others = self._left.get(key, (minute, 0))
        self._left[key] = minute, others + allowed.requests
        return None if self._spend(key, minute) else allowed.wait_s

    def _spend(self, key: str, minute: int) -> bool:
        given, left = self._left.get(key, (minute, 0))
        if given != minute:
            self._left = {name: value for name, value in self._left.items() if value[0] == minute}
            left = 0
        if left:
            self._left[key] = minute, left - 1
        return left > 0
