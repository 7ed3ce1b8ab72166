import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("module", ["search", "shortlist", "store", "rerank", "rerankers"])
def test_the_examples_of_public_functions_print_what_they_show(module: str) -> None:
    results = doctest.testmod(import_module(f"qaconv.matching.{module}"))
    assert results.attempted and not results.failed
