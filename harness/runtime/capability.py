"""What a backend can do on this machine, and how that is known."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UnsupportedError

CAPABILITIES = (  # that a backend may report, by name
    *("import", "gpu", "parse", "build", "deserialize", "run"),
    *("tf32", "fp16", "strong_typing", "weak_typing"),
    *("profiles", "shape_tensors", "data_dependent_shapes", "cuda_graph"),
    *("refit", "progress", "network_function", "plan_file"),
    *("refit_named", "refit_async", "refit_device", "parser_refit", "refit_individual", "strip_plan"),
    *("serialize", "stream_reader", "stream_writer", "weight_streaming"),
    *("version_compatible", "hardware_compatible"),
    *("timing_cache", "timing_cache_miss", "editable_timing_cache"),
)


class State(str, enum.Enum):
    """The four answers that must not be mixed up."""

    PRESENT = "present"  # it is there, and did something when tried
    ABSENT = "absent"  # it is not installed, or this version does not have it
    NEEDS_GPU = "needs-gpu"  # it is there and a GPU that it supports is not
    USELESS = "useless"  # it is there, and does nothing or fails at what it is for


@dataclass(frozen=True)
class Capability:
    """One thing a backend may be able to do. ``evidence`` is what was seen; ``fix`` what would bring it."""

    name: str
    state: State
    evidence: str
    fix: str = ""


@dataclass(frozen=True)
class Probe:
    """One backend as found. ``environment`` is what a record and a fingerprint need to know of it."""

    backend: str
    version: str  # "" when absent
    capabilities: tuple[Capability, ...]
    environment: dict[str, Any] = field(default_factory=dict, hash=False)

    def find(self, name: str) -> Capability:
        """The capability called ``name``; absent, with that as evidence, when probing never came to it."""
        for capability in self.capabilities:
            if capability.name == name:
                return capability
        present = self.installation
        if present is not None and present.state is not State.PRESENT:
            return Capability(name, present.state, present.evidence, present.fix)
        return Capability(name, State.ABSENT, f"{self.backend} has no {name!r}")

    @property
    def installation(self) -> Capability | None:
        """Whether the backend can be imported at all; the first thing that is probed."""
        return next((c for c in self.capabilities if c.name == "import"), None)

    def has(self, name: str) -> bool:
        return self.find(name).state is State.PRESENT

    def require(self, names: Iterable[str]) -> None:
        """UnsupportedError, with its evidence and fix, for the first of ``names`` that is not present."""
        for name in names:
            capability = self.find(name)
            if capability.state is not State.PRESENT:
                raise UnsupportedError(
                    f"{self.backend} {name}: {capability.state.value}", capability.evidence, capability.fix
                )
