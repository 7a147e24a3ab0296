"""What the fixtures are, for annotations in tests: import from here under ``if TYPE_CHECKING``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from harness.pytest_plugin.exploring import Explore, Watched
from harness.pytest_plugin.latency import Latency
from harness.pytest_plugin.perf import Perf
from harness.pytest_plugin.relation import Relation
from harness.spec import BuildConfig, EngineSpec, Example, Interface, ModelSpec, Profile
from harness.spec.cell import Cell

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.judge.oracle import Reference
    from harness.runtime.backend.hosted import HostedBackend
    from harness.runtime.backend.protocol import Array
    from harness.runtime.pool import BuiltPlan, Handle
    from harness.runtime.pool import PooledSession as Session
    from harness.runtime.qualify import Question
    from harness.strategies.machine import Walk

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
    "Example",
    "Explore",
    "Handle",
    "Hosts",
    "InputsAt",
    "Interface",
    "Latency",
    "Load",
    "MakeInputs",
    "ModelSpec",
    "Perf",
    "Plans",
    "Question",
    "Reference",
    "Relation",
    "Require",
    "Session",
    "Sessions",
    "Walk",
    "Walked",
    "Watched",
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
        build: int = 0,
        timing_cache: Array | None = None,
    ) -> Handle:
        """An engine: the cell's own, or one that differs from it in what is given.

        A ``private`` one is loaded anew and shared with nobody, for a test that changes it; a
        ``rebuilt`` one is private, and built anew whatever the cache holds: cold, or by this very
        ``timing_cache``, and what that has become is its handle's ``timing_cache`` (empty, it begins with
        nothing; see `harness.runtime.backend.protocol.BuildRequest`). ``build`` tells several builds of the
        same apart, all cold but the first, each of which the cache keeps.
        """


class Plans(Protocol):
    """What `trt_plans` gives."""

    def __call__(
        self,
        *,
        config: BuildConfig | None = None,
        build: int = 0,
        stream: bool = False,
    ) -> BuiltPlan:
        """A plan of the cell's model: as the cell's own, or with other options.

        ``build`` tells several builds of the same apart, and the cache keeps each; ``stream`` has the builder
        hand it out through a stream writer.
        """


class Load(Protocol):
    """What `trt_load` gives."""

    def __call__(
        self,
        plan: Array | Path,
        *,
        config: BuildConfig | None = None,
        host_code: bool = False,
        stream: bool = False,
    ) -> Handle:
        """A private engine of ``plan``, which was built with ``config``: see `Backend.load`."""


class Hosts(Protocol):
    """What `trt_hosts` gives."""

    def __call__(self, name: str = "") -> HostedBackend:
        """The cell's backend in a process of its own, or the backend or runtime ``name``.

        UnsupportedError, with the fix, when that runtime is not there.
        """


class MakeInputs(Protocol):
    """What `trt_make_inputs` gives."""

    def __call__(self, *, special: str = "", seed: int | None = None) -> dict[str, Array]:
        """Inputs at the cell's point: all ``special`` (see `harness.judge.inputs`), or of another seed."""


class InputsAt(Protocol):
    """What `trt_inputs_at` gives."""

    def __call__(self, example: Example) -> dict[str, Array]:
        """Inputs of the sizes, the contents and the seed of ``example``. SpecError when it lacks a size."""


class Sessions(Protocol):
    """What `trt_sessions` gives."""

    def __call__(self, profile: int = 0, number: int = 0, *, engine: Handle | None = None) -> Watched:
        """The session ``number`` on ``profile``: opened when first asked for, and again when its host died.

        Of the cell's engine, or of another ``engine`` that the test holds.
        """


class Walked(Protocol):
    """What `trt_walk` gives."""

    def __call__(self) -> Walk:
        """What was walked through. The error of the shortest sequence that ends wrong, with its steps as a note."""


class CellOracle(Protocol):
    """What `trt_oracle` gives."""

    def __call__(self, inputs: Arrays, model: ModelSpec | None = None) -> Reference:
        """What the cell's model, or another one, must give for ``inputs``. UnsupportedError without a file."""


class Require(Protocol):
    """What `trt_require` gives."""

    def __call__(self, comparison: Comparison) -> None:
        """ComparisonFailure, with the whole message and the command that repeats it, unless it passed."""


class Compare(Protocol):
    """What `trt_compare` gives."""

    def __call__(self, got: Arrays, want: Reference, *, weak: Literal["fail", "note", "ignore"] = "fail") -> Comparison:
        """The comparison, when all of it holds; ComparisonFailure when not.

        ``weak="note"`` is for special inputs, which make outputs constant or tiny; ``weak="ignore"`` for
        drawn shapes, which may be so small that an output has one element or none.
        """
