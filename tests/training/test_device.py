"""The named device is found or refused with the allowed ones, and a full GPU names the setting to change."""

import pytest
import torch

from qaconv.config import MachineConfig
from qaconv.errors import InputError
from qaconv.training.device import find_device, out_of_memory_names


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("name", "expected"), [("auto", "cuda"), ("cuda:1", "cuda:1"), ("cuda", "cuda"), ("cpu", "cpu")]
)
def test_a_gpu_is_chosen_by_its_number(two_gpus: None, name: str, expected: str) -> None:
    assert MachineConfig(device=name, processes=1, workers=0, checkpoint_every_steps=1).device == name
    assert find_device(name) == torch.device(expected)


def test_products_on_a_gpu_are_of_full_precision_and_repeat(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    find_device("auto")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic


def test_a_gpu_that_the_machine_lacks_is_refused_with_the_allowed_devices(two_gpus: None) -> None:
    with pytest.raises(InputError, match=r"'cuda:2', which this machine lacks; allowed here: .*'cuda:0', 'cuda:1'\]"):
        find_device("cuda:2")


def test_a_full_gpu_names_the_setting_to_change() -> None:
    message = (
        "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is "
        "free. Of the allocated memory 70 GiB is allocated by PyTorch, and 2 GiB is reserved."
    )
    with (
        pytest.raises(InputError, match=r"1.00 GiB is free: lower evaluate.batch_size in params.yaml$"),
        out_of_memory_names("lower evaluate.batch_size"),
    ):
        raise torch.OutOfMemoryError(message)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="^another$"), out_of_memory_names("lower nothing"):
        raise RuntimeError("another")
