"""Probing in steps: what goes wrong in one is a finding, and the others go on."""

from __future__ import annotations

import pytest

from harness.errors import BuildError, HarnessError, RunError, UnsupportedError
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.probing import Found, probe

STEPS = ("import", "build", "run")


def probed(findings: dict[str, Found | Exception], steps: tuple[str, ...] = STEPS) -> Probe:
    def take(step: str) -> Found:
        found = findings[step]
        if isinstance(found, Exception):
            raise found
        return found

    return probe("some", steps, take)


def present(*names: str, **facts: object) -> Found:
    return tuple(Capability(name, State.PRESENT, "seen") for name in names), facts


def test_findings_and_facts_are_put_together() -> None:
    found = probed(
        {
            "import": present("import", version="8.6.1", gpu="H200"),
            "build": present("build", "fp16"),
            "run": present("run", sm=9),
        }
    )
    assert (found.backend, found.version) == ("some", "8.6.1")
    assert [capability.name for capability in found.capabilities] == ["import", "build", "fp16", "run"]
    assert found.environment == {"version": "8.6.1", "gpu": "H200", "sm": 9}


@pytest.mark.parametrize(
    ("gpu", "error", "state", "evidence", "fix"),
    [
        (
            {"gpu": ""},
            RunError("died", crash="signal 11 (SIGSEGV)"),
            State.NEEDS_GPU,
            "signal 11 (SIGSEGV) in step 'build'",
            "an NVIDIA GPU",
        ),
        (
            {"gpu": "H200"},
            RunError("died", crash="signal 11 (SIGSEGV)"),
            State.USELESS,
            "signal 11 (SIGSEGV) in step 'build'",
            "",
        ),
        ({}, RunError("died", crash="no answer within 3 s"), State.USELESS, "no answer within 3 s in step 'build'", ""),
        ({}, BuildError("None came back"), State.USELESS, "None came back", ""),
        ({}, UnsupportedError("build", "no Builder", "install it"), State.ABSENT, "no Builder", "install it"),
        (
            {},
            HarnessError("fault in the engine host: KeyError"),
            State.USELESS,
            "fault in the engine host: KeyError",
            "",
        ),
    ],
)
def test_a_failure_is_a_finding(gpu: dict[str, str], error: Exception, state: State, evidence: str, fix: str) -> None:
    found = probed({"import": present("import", **gpu), "build": error, "run": present("run")})
    assert found.find("build") == Capability("build", state, evidence, fix)
    assert found.has("run")


def test_without_an_import_there_is_nothing_more_to_probe() -> None:
    absent = Capability("import", State.ABSENT, "No module named 'some'", "pip install some")
    found = probed({"import": ((absent,), {})})
    assert found.capabilities == (absent,)
    assert found.find("run") == Capability("run", State.ABSENT, absent.evidence, absent.fix)
    assert found.version == ""


def test_a_bug_is_not_a_finding() -> None:
    with pytest.raises(KeyError):
        probed({"import": present("import"), "build": KeyError("x")})
