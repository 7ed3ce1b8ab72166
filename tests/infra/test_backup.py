from pathlib import Path

import pytest

from infra.local.backup import _object_path
from qaconv.errors import InputError


def test_an_object_is_written_below_its_bucket(tmp_path: Path) -> None:
    assert _object_path(tmp_path / "dvc", "files/md5/ab") == tmp_path / "dvc/files/md5/ab"


@pytest.mark.parametrize("key", ["../mlflow/a", "/etc/passwd", "a/../../b"])
def test_an_object_whose_key_leads_out_of_its_bucket_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match="leads out of the backup"):
        _object_path(tmp_path / "dvc", key)
