"""A fingerprint changes with what makes a plan, and with nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from harness.runtime import fingerprint as module
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.fingerprint import environment, fingerprint

PROBE = Probe(
    "tensorrt",
    "8.6.1",
    (),
    {
        "gpu": "NVIDIA H200",
        "compute_capability": "9.0",
        "cuda_driver": 12020,
        "library_version": "8.6.1",
        "gpu_memory": 150_000_000_000,
        "gpu_uuid": "12ab",
    },
)


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": "NVIDIA H100"},
        {"gpu": ""},
        {"compute_capability": "8.9"},
        {"cuda_driver": 12040},
        {"library_version": "8.6.0"},
    ],
)
def test_it_follows_the_machine(change: dict[str, object]) -> None:
    other = dataclasses.replace(PROBE, environment={**PROBE.environment, **change})
    assert fingerprint(other) != fingerprint(PROBE)


def test_it_follows_backend_version_and_the_harness_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [dataclasses.replace(PROBE, backend="tensorrt_rtx"), dataclasses.replace(PROBE, version="8.6.2")]
    assert fingerprint(PROBE) not in map(fingerprint, others)
    before = fingerprint(PROBE)
    monkeypatch.setattr(module, "PLAN_FORMAT", module.PLAN_FORMAT + 1)
    assert fingerprint(PROBE) != before


def test_it_ignores_the_rest() -> None:
    unlike = dataclasses.replace(
        PROBE,
        capabilities=(Capability("run", State.PRESENT, "it ran"),),
        environment={**PROBE.environment, "gpu_uuid": "34cd", "gpu_memory": 1, "numpy": "1.26"},
    )
    assert fingerprint(unlike) == fingerprint(PROBE)


def test_an_environment_names_what_it_is_of() -> None:
    found = environment(PROBE)
    assert found["backend"] == "tensorrt"
    assert found["version"] == "8.6.1"
    assert found["fingerprint"] == fingerprint(PROBE)
    assert found["gpu"] == "NVIDIA H200"
