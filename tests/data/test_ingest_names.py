"""Names of a table and of files are the same where a person would say so."""

import unicodedata

import pytest

from qaconv.data.ingest_names import leads_out, match_names

COMPOSED = "caf\u00e9.jpg"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("./a.jpg", "a.jpg"),
        ("a.jpg", "./a.jpg"),
        ("day\\a.jpg", "day/a.jpg"),
        ("day//./a.jpg", "day/a.jpg"),
        (" a.jpg ", "a.jpg"),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        ("A.JPG", "a.jpg"),
        ("day\\" + DECOMPOSED.upper(), "Day/" + COMPOSED),
    ],
)
def test_names_that_a_person_reads_as_equal_match(name: str, file: str) -> None:
    assert match_names([name], [file, "other.jpg"]) == {name: file}


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a.jpg"], ["images/a.jpg"]),
        (["a.JPG"], ["a.jpg", "A.jpg"]),
        (["./" + COMPOSED], [COMPOSED, DECOMPOSED]),
        (["a.jpg", "A.jpg"], ["A.JPG"]),
    ],
)
def test_a_name_in_another_folder_or_with_several_candidates_has_no_file(names: list[str], files: list[str]) -> None:
    assert match_names(names, files) == {}


def test_an_equal_name_comes_before_a_similar_one() -> None:
    both = [COMPOSED, DECOMPOSED, "a.jpg", "A.jpg"]
    assert match_names(both, both) == {name: name for name in both}
    assert match_names(["a.jpg", "A.jpg"], ["a.jpg"]) == {"a.jpg": "a.jpg"}
    assert match_names(["a.jpg", "./a.jpg"], ["a.jpg"]) == {"a.jpg": "a.jpg", "./a.jpg": "a.jpg"}


@pytest.mark.parametrize(
    "name", ["../a.jpg", "day\\..\\..\\a.jpg", "/a.jpg", "\\\\server\\a.jpg", "C:\\a.jpg", "c:a.jpg"]
)
def test_names_that_leave_the_batch_are_recognised(name: str) -> None:
    assert leads_out(name) and not leads_out("a..jpg") and not leads_out("day/a.jpg")
