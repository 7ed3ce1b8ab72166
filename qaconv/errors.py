"""What a user can get wrong goes in; one message that names it comes out."""

from collections.abc import Iterable


class InputError(ValueError):
    """Input that a user can mend: the message names the file or key, what was found and what would be legal."""


def name_first(items: Iterable[object], limit: int = 10) -> str:
    """The first `limit` items, one a line, and how many there are in all: the tail of a message about many files."""
    names = [str(item) for item in items]
    shown = "".join(f"\n  {name}" for name in names[:limit])
    return f"{shown}\n  ... {len(names)} in all" if len(names) > limit else shown
