"""Match the image names of a batch's table with the names of its files, as a person would compare them."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection


def clean_name(name: str) -> str:
    """Return a name with slashes, composed accents (Unicode NFC), and without outer spaces, `.` and empty parts."""
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    path = "/".join(part for part in name.split("/") if part not in ("", "."))
    return f"/{path}" if name.startswith("/") else path


def leads_out(name: str) -> bool:
    """Return whether a name is absolute, has a drive letter, or goes up."""
    name = clean_name(name)
    return name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name) is not None


def match_names(names: Collection[str], files: Collection[str]) -> dict[str, str]:
    """Find the file of each name; names without a file are left out.

    An equal name comes first, then one that is equal after `clean_name`, then one that differs in case only, from files
    that no other name has. A name that could be several files has none, and so have two names that differ in case only.

    Args:
        names: names in the table.
        files: names of the uploaded files.
    """
    matches = _match(names, files, str)
    matches |= _match(set(names) - set(matches), files, clean_name)
    rest = set(names) - set(matches)
    spellings = _group({clean_name(name) for name in rest}, _fold)
    rest = {name for name in rest if len(spellings[_fold(name)]) == 1}
    return matches | _match(rest, set(files) - set(matches.values()), _fold)


def _match(names: Collection[str], files: Collection[str], form: Callable[[str], str]) -> dict[str, str]:
    """Match names with the only file of the same form."""
    by_form = _group(files, form)
    return {name: same[0] for name in names if len(same := by_form[form(name)]) == 1}


def _group(names: Collection[str], form: Callable[[str], str]) -> defaultdict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[form(name)].append(name)
    return groups


def _fold(name: str) -> str:
    return clean_name(name).casefold()
