"""However params.yaml is changed, reading it gives settings or one error that names the file."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.config import Params, load_params
from qaconv.errors import InputError
from tests.odd_values import mutated, odd_texts

pytestmark = pytest.mark.fuzz
TEXT = Path("params.yaml").read_text(encoding="utf-8")
VALUES = yaml.safe_load(TEXT)


def read(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        params = load_params(path)
    except InputError as error:
        assert str(path) in str(error) and len(str(error)) < 5_000
    else:
        assert isinstance(params, Params)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=mutated(VALUES))
def test_changed_settings_are_read_or_refused_by_name(tmp_path: Path, values: Any) -> None:
    read(tmp_path / "params.yaml", yaml.safe_dump(values, allow_unicode=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), length=st.integers(0, 20), piece=st.one_of(odd_texts, st.text(max_size=8)))
def test_a_text_with_a_part_replaced_is_read_or_refused_by_name(
    tmp_path: Path, share: float, length: int, piece: str
) -> None:
    position = int(share * len(TEXT))
    read(tmp_path / "params.yaml", TEXT[:position] + piece + TEXT[position + length :])
