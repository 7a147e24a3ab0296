"""One step of binding that a run leaves out, to see it refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import RunError, SpecError
from harness.runtime.backend.protocol import Array, EngineInfo, IOTensor, Shape, asked_name

FORMS = "shape:<input>, size:<input>:<axis> or address:<tensor>"


@dataclass(frozen=True)
class Omission:
    """What is left out: ``step`` is "shape", "size", "address" or, for nothing, ""."""

    step: str = ""
    tensor: str = ""  # as the engine calls it
    axis: int = 0

    @classmethod
    def parse(cls, text: str, info: EngineInfo, *, graph: bool = False) -> Omission:
        """From ``"shape:x"``, ``"size:x:0"``, ``"address:y"`` or ``""``. SpecError for anything else."""
        if not text:
            return cls()
        if graph:
            raise SpecError(f"omit={text!r}: not with a graph, whose replay binds nothing")
        step, _, rest = text.partition(":")
        axis = ""
        if step == "size":
            rest, _, axis = rest.rpartition(":")
        if step not in ("shape", "size", "address") or (step == "size" and not axis.isdecimal()):
            raise SpecError(f"omit={text!r}: write {FORMS}")
        if step == "address":
            return cls(step, tensor_named(rest, info))
        found = input_named(rest, info)
        if found is None:
            tensor_named(rest, info)  # has words of its own for what is no tensor at all
            raise SpecError(f"omit={text!r}: {rest!r} is an output: shapes are told for inputs alone")
        if step == "size" and int(axis) >= len(found.shape):
            raise SpecError(f"omit={text!r}: {rest!r} has {len(found.shape)} dimensions")
        return cls(step, found.name, int(axis or 0))

    def is_shape_of(self, tensor: str) -> bool:
        return (self.step, self.tensor) == ("shape", tensor)

    def is_address_of(self, tensor: str) -> bool:
        return (self.step, self.tensor) == ("address", tensor)

    def refuse(self, inputs: Mapping[str, Array], *, needs_shape: bool) -> None:
        """RunError for what is left out, in the words of TensorRT: for backends that are none."""
        if self.step == "shape" and needs_shape:
            raise RunError(f"Parameter check failed: the shape of input {self.tensor} is not specified")
        if self.step == "size":
            told = list(self.told(self.tensor, inputs[self.tensor].shape))
            raise RunError(f"input {self.tensor!r} of shape {told}: a size is negative")
        if self.step == "address":
            raise RunError(f"Parameter check failed. Address is not set for tensor {self.tensor}")

    def told(self, tensor: str, shape: Shape) -> Shape:
        """``shape`` as it is told: with -1 for the size that is left out."""
        if (self.step, self.tensor) != ("size", tensor) or self.axis >= len(shape):
            return shape
        return (*shape[: self.axis], -1, *shape[self.axis + 1 :])


def tensor_named(name: str, info: EngineInfo) -> str:
    """What the engine calls the input or output that its user calls ``name``. SpecError when there is none.

    Of an input that is an output too this is the output; the input goes by the engine's own name for it.
    """
    names = [tensor.name for tensor in info.tensors]
    if name in names:
        return name
    found = input_named(name, info)
    if found is None:
        raise SpecError(f"there is no tensor {name!r}: the engine has {', '.join(names)}")
    return found.name


def input_named(name: str, info: EngineInfo) -> IOTensor | None:
    """The input that the engine or, if it calls none so, its user calls ``name``."""
    own = [tensor for tensor in info.inputs if tensor.name == name]
    users = [tensor for tensor in info.inputs if asked_name(tensor.name, (name,)) == name]
    return next(iter((*own, *users)), None)
