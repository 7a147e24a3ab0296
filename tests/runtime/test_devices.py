"""Devices that a process may use, and what each is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runtime import telemetry
from harness.runtime.devices import CPU, devices, key_for, key_of

UUIDS = ("GPU-11111111-2222-3333-4444-555555555555", "GPU-aaaaaaaa-2222-3333-4444-555555555555")


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


def test_devices_are_counted_without_cuda(gpus: Path):
    assert devices(gpus) == (0, 1, 2)
    assert devices(gpus / "nowhere") == ()


@pytest.mark.parametrize(
    ("visible", "found"), [("2,0", (0, 1)), ("GPU-1a2b", (0,)), ("", ()), ("-1", ()), ("NoDevFiles", ())]
)
def test_devices_that_are_hidden_do_not_count(
    gpus: Path, monkeypatch: pytest.MonkeyPatch, visible: str, found: tuple[int, ...]
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices(gpus) == found


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML knows two GPUs."""
    monkeypatch.setattr(telemetry, "uuids", lambda: UUIDS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("visible", ["1", "0,1", UUIDS[1], "GPU-aaaa", None])
def test_a_gpu_has_one_key_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch, visible: str | None):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert key_of(1 if visible in (None, "0,1") else 0) == UUIDS[1]


@pytest.mark.usefixtures("known")
def test_numbers_in_another_order_say_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert key_of(1) == "1"


@pytest.mark.usefixtures("known")
def test_what_nvml_does_not_know_is_called_as_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7/1,5")
    assert (key_of(0), key_of(1)) == ("MIG-7_1", "5")


@pytest.mark.usefixtures("known")
def test_each_backend_has_its_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [key_for(name, 1) for name in ("tensorrt", "tensorrt_rtx", "onnxruntime", "fake")] == [
        *UUIDS[1:] * 2,
        CPU,
        CPU,
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert key_for("tensorrt") == CPU  # that builds without a GPU
