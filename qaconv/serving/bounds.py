"""Bound what a request takes: time, bytes, JSON values, decoded pixels, and a share of the work at once."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send

from qaconv.errors import InputError
from qaconv.runtime.decode import DecodeError, count_pixels

LARGEST_BODY = 16 << 20  # bytes
MOST_VALUES = 10_000  # of a body's JSON; the largest useful body has about 2,300
MOST_PIXELS = 32_000_000  # in all images of a request: a third of a second to decode
BODY_S = 60.0  # for a body to arrive: 16 MiB at 2 Mbit/s
ANSWER_S = 60.0  # for an answer to be taken
MOST_WORK = 32  # requests at once; each may hold a body, and the web framework runs 40 threads
MOST_WORK_OF_KEY = 16  # of them


class WorkLimit:
    """Counts the requests that are worked on, by key. Only one thread, the event loop's, may use it."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    def is_full(self) -> bool:
        """Return whether no request of any key may begin."""
        return self._running.total() >= MOST_WORK

    def is_full_for(self, key: str) -> bool:
        """Return whether no request of this key may begin."""
        return self._running[key] >= MOST_WORK_OF_KEY

    @contextmanager
    def count(self, key: str) -> Iterator[None]:
        """Count a request of a key while the context is open."""
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            self._running += Counter()  # drops keys that have none


def check_pixels(images: Iterable[bytes]) -> None:
    """Check that the images of a request have few enough pixels together, by their heads, before one is decoded.

    Raises:
        InputError: they have more, or a head is refused.
    """
    pixels = 0
    for image in images:
        try:
            pixels += count_pixels(image)
        except DecodeError as error:
            raise InputError(f"image: {error}") from error
        if pixels > MOST_PIXELS:
            raise InputError(f"the images of a request must have at most {MOST_PIXELS:,} pixels together")


def bound_body(receive: Receive) -> Receive:
    """Stop a body that takes too long, or has too many bytes or values, also where its Content-Length is wrong."""
    size = 0
    values = 1
    is_complete = False
    until = asyncio.get_running_loop().time() + BODY_S

    async def bounded() -> Any:
        nonlocal size, values, is_complete
        if is_complete:
            return await receive()  # the end of the connection
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the body must arrive within {BODY_S:g} s") from None
        body = message.get("body", b"")
        size += len(body)
        values += body.count(b",")
        is_complete = not message.get("more_body", False)
        if size > LARGEST_BODY:
            raise HTTPException(413, too_large())
        if values > MOST_VALUES:
            raise HTTPException(413, f"the body must have at most {MOST_VALUES:,} values")
        return message

    return bounded


def bound_answer(send: Send) -> Send:
    """Stop an answer that its receiver does not take.

    Raises:
        TimeoutError: it has not been taken within ANSWER_S.
    """
    until: float | None = None

    async def bounded(message: Message) -> None:
        nonlocal until
        until = until or asyncio.get_running_loop().time() + ANSWER_S
        async with asyncio.timeout_at(until):
            await send(message)

    return bounded


def too_large() -> str:
    """Return the message about a body of too many bytes."""
    return f"the body must have at most {LARGEST_BODY:,} bytes"
