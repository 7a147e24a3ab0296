"""Backends by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError
from harness.runtime.backend import registry
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.registry import HostSettings, create
from harness.settings import Settings


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx", "tensorrt_lean", "fake", "fake:nan", "fake_lean:nan"])
def test_what_could_take_its_process_along_gets_one_of_its_own(name: str, tmp_path: Path) -> None:
    pythons = {"fake": "/a", "tensorrt": "/b", "tensorrt_rtx": "/c", "tensorrt_lean": "/d", "fake_lean": "/e"}
    settings = HostSettings(pythons, 1, 2, 3, folder=tmp_path)
    backend = create(name, settings, device=4)
    assert isinstance(backend, HostedBackend)
    assert backend.name == name.partition(":")[0]
    assert backend.timeouts == Timeouts(build=1, run=2, probe=3)
    client = backend.client
    assert (client.backend, client.device, client.folder) == (name, 4, tmp_path)
    assert client.python == settings.python[backend.name]
    assert client.generation == 0  # nothing was started


def test_a_host_plays_the_fault_in_its_name() -> None:
    backend = create("fake:absent", HostSettings())
    probe = backend.probe()
    backend.close()
    assert probe.backend == "fake"
    assert not probe.has("import")


def test_onnxruntime_stays_here() -> None:
    backend: Any = create("onnxruntime", HostSettings())
    assert not isinstance(backend, HostedBackend)
    assert backend.probe().has("run")
    backend.close()


def test_a_runtime_without_a_builder_is_where_its_tensorrt_is() -> None:
    settings = HostSettings({"tensorrt": "/full", "tensorrt_lean": "/lean", "tensorrt_rtx": "/rtx"})
    assert settings.interpreter("tensorrt_dispatch") == "/full"
    assert settings.interpreter("tensorrt_lean") == "/lean"
    assert HostSettings({"tensorrt_rtx": "/rtx"}).interpreter("tensorrt_dispatch") == sys.executable
    assert Settings.read({"python": [f"tensorrt_dispatch={sys.executable}"]}).python == (
        ("tensorrt_dispatch", sys.executable),
    )


@pytest.mark.parametrize("name", ["onnxruntime", "fake"])
def test_a_process_of_its_own_for_whoever_asks_for_one(name: str) -> None:
    backend: Any = create(name, HostSettings(in_process=True), apart=True)
    assert isinstance(backend, HostedBackend)
    assert (backend.name, backend.client.generation) == (name, 0)


def test_a_debugger_gets_everything_in_one_process() -> None:
    backend = create("fake", HostSettings(in_process=True))
    assert isinstance(backend, FakeBackend)
    assert backend.probe().has("run")


def test_a_tensorrt_in_this_process_gets_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []
    monkeypatch.setattr("harness.runtime.backend.nv.backend.NvBackend", lambda *asked: made.append(asked))
    create("tensorrt", HostSettings(in_process=True), device=2)
    registry.make("tensorrt_rtx")
    assert made == [("tensorrt", 2), ("tensorrt_rtx", 0)]


@pytest.mark.parametrize(
    "name", ["", "trt", "tensorrt:nan", "onnxruntime:nan", "fakes", "fake_full", "tensorrt_lean:nan"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"unknown backend .*: choose from tensorrt, tensorrt_rtx, onnxruntime"):
        create(name, HostSettings())


def test_defaults_have_one_home() -> None:
    """That of the settings, so that a host made by hand is run as one that a run makes."""
    assert HostSettings() == HostSettings.of(Settings())
    asked = Settings(build_timeout=1.0, run_timeout=2.0, probe_timeout=3.0, in_process=True, python=(("fake", "/a"),))
    assert HostSettings.of(asked) == HostSettings({"fake": "/a"}, 1.0, 2.0, 3.0, in_process=True)


def test_an_unknown_fault_is_refused_before_a_host_is_needed() -> None:
    with pytest.raises(SpecError, match="unknown fault 'nam'"):
        create("fake:nam", HostSettings())
