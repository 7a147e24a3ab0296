"""Probing a backend step by step, so that a step that kills its process is one finding among others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from harness.errors import HarnessError, StageError, UnsupportedError
from harness.runtime.capability import Capability, Probe, State

Found = tuple[tuple[Capability, ...], dict[str, Any]]  # capabilities, and facts for `Probe.environment`


class ProbedInSteps(Protocol):
    """A backend that lives in an engine host is probed one step at a time."""

    name: str

    def probe_steps(self) -> tuple[str, ...]:
        """The names of the steps, in order, each that of the capability it decides; the first is ``import``."""

    def probe_step(self, step: str) -> Found:
        """What one step finds.

        It may kill or hang its process: the next one then runs in another, so that no step may rely on
        what an earlier one left behind. Two facts have a meaning here: ``version`` is the backend's,
        and ``gpu`` the name of the GPU, empty when there is none.
        """


def probe(backend: str, steps: Iterable[str], take: Callable[[str], Found]) -> Probe:
    """Take ``steps`` in order and put together what they find.

    A step that raises, dies or hangs is the finding that its capability is not there, with what
    happened as evidence; when there is nothing to import the rest is left out.
    """
    found: list[Capability] = []
    facts: dict[str, Any] = {}
    for step in steps:
        try:
            capabilities, more = take(step)
        except HarnessError as error:
            capabilities, more = (_failure(step, error, facts),), {}
        found += capabilities
        facts |= more
        if step == "import" and any(c.name == step and c.state is not State.PRESENT for c in capabilities):
            break
    return Probe(backend, str(facts.get("version", "")), tuple(found), facts)


def _failure(step: str, error: HarnessError, facts: dict[str, Any]) -> Capability:
    """A failure of what is there; where no GPU was found, the lack of one is taken for its cause."""
    if isinstance(error, UnsupportedError):
        return Capability(step, State.ABSENT, error.evidence, error.fix)
    evidence = str(error)
    if isinstance(error, StageError):
        evidence = f"{error.crash} in step {step!r}" if error.crash else error.message
    if not facts.get("gpu", True):
        return Capability(step, State.NEEDS_GPU, evidence, "an NVIDIA GPU")
    return Capability(step, State.USELESS, evidence)
