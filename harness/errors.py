"""Everything this project raises on purpose.

::

    HarnessError
    ├── SpecError              the request can't be met as written: fix the request
    ├── UnsupportedError       this backend, here, can't do it: *not covered*, never passed
    ├── StageError             a backend failed while doing it
    │   ├── ParseError
    │   ├── BuildError
    │   ├── DeserializeError
    │   ├── RefitError
    │   └── RunError
    ├── StoreError             the store of measurements can't be opened, read or written: nothing is lost
    ├── ComparisonFailure      it ran and the numbers are wrong (also an AssertionError)
    └── Regression             it ran and got worse than its baseline (also an AssertionError)

Anything else that escapes is a fault of this project.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HarnessError(Exception):
    """Base of every error raised on purpose."""


class SpecError(HarnessError, ValueError):
    """The request contradicts itself, the model, or the known options; the message says how to mend it."""


class UnsupportedError(HarnessError):
    """A capability is missing here.

    ``capability`` names it, ``evidence`` is what probing saw, ``fix`` the command or hardware that
    brings it (empty when nothing does).
    """

    def __init__(self, capability: str, evidence: str, fix: str = "") -> None:
        self.capability, self.evidence, self.fix = capability, evidence, fix
        super().__init__(f"{capability}: {evidence}" + (f" (to cover it: {fix})" if fix else ""))


class StageError(HarnessError):
    """A backend failed at ``stage``.

    ``log`` holds what the backend's logger received during the failing call, in order, of INFO or
    worse, and says so where there was more than it holds; ``crash`` says how the engine host died
    ("signal 11 (SIGSEGV)", "no answer within 300 s"), or is None when it answered; ``detail`` has
    what only this stage knows (``node``, ``operator``, ``reason`` of a parser).
    """

    stage: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        log: tuple[str, ...] = (),
        crash: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        self.message, self.log, self.crash, self.detail = message, tuple(log), crash, dict(detail or {})
        super().__init__(message)

    def __str__(self) -> str:
        return "\n".join([f"{self.stage}: {self.message}", *(f"  | {line}" for line in self.log)])


class ParseError(StageError):
    """The model could not be read into a network."""

    stage = "parse"


class BuildError(StageError):
    """The builder gave no plan."""

    stage = "build"


class DeserializeError(StageError):
    """A plan could not be made into an engine, or an engine into a session."""

    stage = "deserialize"


class RefitError(StageError):
    """Weights could not be replaced."""

    stage = "refit"


class RunError(StageError):
    """An inference failed, or was refused."""

    stage = "run"


STAGES: dict[str, type[StageError]] = {
    error.stage: error for error in (ParseError, BuildError, DeserializeError, RefitError, RunError)
}


class StoreError(HarnessError):
    """A store can't be opened, read or written: where, why, and what to do. What was stored still is."""


class NoStoreError(StoreError):
    """There is none yet."""


class ComparisonFailure(HarnessError, AssertionError):
    """Results differ from what was expected; ``comparison`` holds the figures."""

    def __init__(self, message: str, comparison: Any = None) -> None:
        self.comparison = comparison
        super().__init__(message)


class Regression(HarnessError, AssertionError):
    """A measurement is worse than its baseline; ``verdict`` holds the figures."""

    def __init__(self, message: str, verdict: Any = None) -> None:
        self.verdict = verdict
        super().__init__(message)
