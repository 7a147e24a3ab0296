"""What a builder is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import SpecError
from harness.spec.names import suggestion
from harness.spec.size import parse_size


@dataclass(frozen=True)
class BuildConfig:
    """Build options. None or empty means that nothing is set and the builder's own default holds."""

    workspace: int | None = None  # bytes of scratch memory a tactic may use
    optimization_level: int | None = None  # 0 (fastest build) to 5
    flags: tuple[str, ...] = ()  # BuilderFlag members by name, beside those of the recipe
    tactic_sources: tuple[str, ...] | None = None  # TacticSource members by name; () switches all off
    plugins: tuple[str, ...] = ()  # plugin libraries, by path, loaded before parsing
    aux_streams: int | None = None
    hardware_compatibility: str | None = None  # HardwareCompatibilityLevel member
    profiling_verbosity: str | None = None  # ProfilingVerbosity member
    targets: tuple[str, ...] = ()  # ComputeCapability members, for a TensorRT that builds ahead of time
    refittable: tuple[str, ...] = ()  # weights, by name, that alone a refit may replace (REFIT_INDIVIDUAL)

    @property
    def carries_code(self) -> bool:
        """Whether the plan brings code of its own: a version-compatible one has its lean runtime in it."""
        return "VERSION_COMPATIBLE" in self.flags and "EXCLUDE_LEAN_RUNTIME" not in self.flags

    def with_options(self, options: Mapping[str, str]) -> BuildConfig:
        """This configuration with ``options``, as they are typed: several names are joined by ``+``.

        SpecError for an option that does not exist, or a value that it can't have.
        """
        known = [field.name for field in dataclasses.fields(self)]
        changes: dict[str, Any] = {}
        for name, text in options.items():
            if name not in known:
                raise SpecError(f"unknown build option {name!r}: {suggestion(name, known)}known: {', '.join(known)}")
            changes[name] = _value(name, text)
        return dataclasses.replace(self, **changes)


def _value(name: str, text: str) -> Any:
    if name == "workspace":
        return parse_size(text)
    if name in ("optimization_level", "aux_streams"):
        if not text.isdigit():
            raise SpecError(f"build option {name}: {text!r} is not a whole number, 0 or more")
        return int(text)
    if name in ("flags", "tactic_sources", "plugins", "targets", "refittable"):
        return tuple(part for part in text.split("+") if part)
    return text
