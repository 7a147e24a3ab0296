"""What the fixtures are, for annotations in tests: import from here under ``if TYPE_CHECKING``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

from harness.pytest_plugin.relation import Relation
from harness.spec import BuildConfig, EngineSpec, Interface, ModelSpec, Profile
from harness.spec.cell import Cell

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.judge.oracle import Reference
    from harness.runtime.backend.protocol import Array
    from harness.runtime.pool import BuiltPlan, Handle
    from harness.runtime.pool import PooledSession as Session
    from harness.runtime.qualify import Question

    Arrays = Mapping[str, Array]

__all__ = [
    "Array",
    "Arrays",
    "BuiltPlan",
    "Cell",
    "CellOracle",
    "Compare",
    "Comparison",
    "Engines",
    "Handle",
    "Interface",
    "MakeInputs",
    "ModelSpec",
    "Question",
    "Reference",
    "Relation",
    "Require",
    "Session",
]


class Engines(Protocol):
    """What `trt_engines` gives."""

    def __call__(
        self,
        spec: EngineSpec | None = None,
        *,
        precision: str | None = None,
        profiles: tuple[Profile, ...] | None = None,
        config: BuildConfig | None = None,
        backend: str | None = None,
        private: bool = False,
        rebuilt: bool = False,
    ) -> Handle:
        """An engine: the cell's own, or one that differs from it in what is given.

        A ``private`` one is loaded anew and shared with nobody, for a test that changes it; a
        ``rebuilt`` one is private, and built anew whatever the cache holds.
        """


class MakeInputs(Protocol):
    """What `trt_make_inputs` gives."""

    def __call__(self, *, special: str = "", seed: int | None = None) -> dict[str, Array]:
        """Inputs at the cell's point: all ``special`` (see `harness.judge.inputs`), or of another seed."""


class CellOracle(Protocol):
    """What `trt_oracle` gives."""

    def __call__(self, inputs: Arrays) -> Reference:
        """What the cell's model must give for ``inputs``. UnsupportedError for a model without a file."""


class Require(Protocol):
    """What `trt_require` gives."""

    def __call__(self, comparison: Comparison) -> None:
        """ComparisonFailure, with the whole message and the command that repeats it, unless it passed."""


class Compare(Protocol):
    """What `trt_compare` gives."""

    def __call__(self, got: Arrays, want: Reference, *, weak: Literal["fail", "note"] = "fail") -> Comparison:
        """The comparison, when all of it holds; ComparisonFailure when not.

        ``weak="note"`` is for special inputs, which make outputs constant or tiny.
        """
