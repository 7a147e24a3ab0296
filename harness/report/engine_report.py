"""What one engine is made of, and what makes another one differ from it, in figures and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.report.layer_diff import LayerDiff, diff
from harness.report.layers import DETAILED, Layer, Layers, totals
from harness.spec.canonical import plain


@dataclass(frozen=True)
class EngineReport:
    """An engine's layers, its facts (`harness.runtime.backend.protocol.EngineInfo`), and the bytes of its plan.

    ``plan`` is None where plans hold no engine, as onnxruntime's.
    """

    title: str  # "bert at fp16 on tensorrt"
    layers: Layers
    facts: Mapping[str, Any] = field(default_factory=dict)
    plan: int | None = None

    @property
    def memory(self) -> dict[str, int]:
        """Bytes, as far as they are told: of the plan, of weights, and of a context on each profile."""
        told = {"plan": self.plan, "weights": self.layers.weights, "device memory": self.facts.get("device_memory")}
        by_profile = self.facts.get("device_memory_by_profile") or ()
        told |= {f"device memory, profile {number}": size for number, size in enumerate(by_profile)}
        return {name: size for name, size in told.items() if size is not None}

    @property
    def counts(self) -> dict[str, int]:
        """Layers, those that are fused, those that only change a layout or a type, and all by precision."""
        found = self.layers
        precisions = {total.name or "unknown precision": total.layers for total in totals(found.layers, "precision")}
        return {
            "layers": len(found.layers),
            "fused": len(found.fused),
            "reformats": len(found.reformats),
            **(precisions if found.detailed else {}),
        }

    @property
    def hint(self) -> str:
        """Why it tells no more, and how to get what does; "" when it tells all."""
        if self.layers.detailed:
            return ""
        verbosity = self.facts.get("profiling_verbosity", "less")
        told = "no more of its layers than their names" if self.layers.layers else "nothing of its layers"
        return (
            f"{self.title}: tells {told}, since it was built with profiling_verbosity={verbosity}: "
            f"`trt-harness build MODEL --build-option profiling_verbosity={DETAILED}` makes a plan that tells all"
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON's own types; a layer as `Layer` has it."""
        found = self.layers
        return {
            "engine": self.title,
            "detailed": found.detailed,
            "counts": self.counts,
            "memory": self.memory,
            "kinds": plain(totals(found.layers, "kind")) if found.detailed else [],
            "precisions": plain(totals(found.layers, "precision")) if found.detailed else [],
            "tensors": plain(found.tensors),
            "facts": plain(self.facts),
        }


def layer_as_json(layer: Layer) -> dict[str, Any]:
    """``layer`` with what is derived from its fields."""
    return {**plain(layer), "fused": layer.fused}


@dataclass(frozen=True)
class EngineDiff:
    """Two engines side by side.

    They are the same when nothing differs in their layers or in the device memory that they need. The size
    of the plan is shown, and decides nothing: no two builds of one engine have the same bytes.
    """

    a: EngineReport
    b: EngineReport
    layers: LayerDiff

    @classmethod
    def of(cls, a: EngineReport, b: EngineReport) -> EngineDiff:
        return cls(a, b, diff(a.layers, b.layers))

    @property
    def figures(self) -> dict[str, tuple[int | None, int | None]]:
        """Counts and bytes of both; None where one side does not tell. A precision that one lacks it has 0 times."""
        counts, bytes_ = (self.a.counts, self.b.counts), (self.a.memory, self.b.memory)
        both = all(side.layers.detailed for side in (self.a, self.b))
        found: dict[str, tuple[int | None, int | None]] = {
            name: (counts[0].get(name, 0 if both else None), counts[1].get(name, 0 if both else None))
            for name in dict.fromkeys((*counts[0], *counts[1]))
        }
        return found | {
            name: (bytes_[0].get(name), bytes_[1].get(name)) for name in dict.fromkeys((*bytes_[0], *bytes_[1]))
        }

    @property
    def same(self) -> bool:
        memory = [pair for name, pair in self.figures.items() if name.startswith("device memory") and None not in pair]
        return self.layers.same and all(one == other for one, other in memory)

    def as_json(self) -> dict[str, Any]:
        """All of it; of layers, those that differ."""
        return {
            "a": self.a.as_json(),
            "b": self.b.as_json(),
            "same": self.same,
            "figures": {name: list(pair) for name, pair in self.figures.items()},
            "differences": dict(self.layers.counts),
            "changed": [
                {
                    "a": [layer_as_json(layer) for layer in match.a],
                    "b": [layer_as_json(layer) for layer in match.b],
                    "by": match.by,
                    "changes": plain(match.changes),
                }
                for match in self.layers.changed
            ],
            "only_a": [layer_as_json(layer) for layer in self.layers.only_a],
            "only_b": [layer_as_json(layer) for layer in self.layers.only_b],
        }
