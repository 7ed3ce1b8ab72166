"""Values that break readers: numbers at the ends of their types, texts that look like numbers, nested nothing."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

NUMBERS = [0, 1, -1, 2**31, 2**53 + 1, 2**63, 10**30, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("nan")]
TEXTS = [
    "",
    " ",
    "nan",
    "1e400",
    "0x10",
    "0x_",
    "1_000",
    "-_",
    "010",
    "1:30",
    "off",
    "2024-02-30",
    "１",
    "NULL",
    "../x",
    "/etc/passwd",
    "a\\b",
    "a\nb",
    "\0",
    "é",
    "😀" * 50,
]

odd_texts = st.one_of(st.sampled_from([*TEXTS, *map(str, NUMBERS)]), st.text(max_size=12))
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(), odd_texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_texts, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, valid: Any) -> Any:
    """Return a copy of a value of mappings, lists and scalars in which one part is replaced, removed or renamed."""
    if draw(st.integers(0, 5)) == 0 or not isinstance(valid, Mapping | list) or not valid:
        return draw(odd_values)
    copy: Any = dict(valid) if isinstance(valid, Mapping) else list(valid)
    key = draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
    match draw(st.sampled_from(["inner", "inner", "inner", "remove", "add"])):
        case "inner":
            copy[key] = draw(mutated(copy[key]))
        case "remove":
            del copy[key]
        case "add" if isinstance(copy, dict):
            copy[draw(odd_texts)] = copy[key]
        case "add":
            copy.append(draw(odd_values))
    return copy
