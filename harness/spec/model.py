"""A model as this project knows it: its bytes, its profiles, and what its inputs may hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import SpecError
from harness.spec.build import BuildConfig
from harness.spec.data import InputRule
from harness.spec.names import suggestion
from harness.spec.onnx_model import Interface
from harness.spec.profile import Profile, Range, Values
from harness.spec.source import Source
from harness.spec.tensor import TensorSpec

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
Golden = tuple[Path, Path] | Callable[[], tuple[Path, Path]]  # a function makes the files when first asked


@dataclass(frozen=True)
class ToleranceOverride:
    """A tolerance that someone set by hand, and why; it is shown wherever it is used."""

    precision: str
    atol: float
    rtol: float
    reason: str
    output: str = "*"


@dataclass(frozen=True)
class ModelSpec:
    """One model in one size.

    ``batch`` names the symbol whose rows don't influence each other (None where rows do, or where
    there are none): the checks that duplicate, split and permute rows go by it. ``special`` says
    that infinities and NaN in the inputs have a result that the operators define.
    """

    name: str  # letters, digits and "_": a cell id joins its parts by "-"
    source: Source
    profiles: tuple[Profile, ...] = (Profile(),)
    inputs: tuple[InputRule, ...] = ()
    size: str = "tiny"
    family: str = ""
    tags: tuple[str, ...] = ()
    batch: str | None = None
    special: bool = False
    config: BuildConfig = field(default_factory=BuildConfig)
    tolerances: tuple[ToleranceOverride, ...] = ()
    golden: Golden | None = None  # .npz of inputs, .npz of the outputs they must give
    data: Path | None = None  # .npz of inputs to use instead of generated ones
    # what the network asks of its sizes beside their ranges: see `harness.spec.space`; no builder is told
    relations: tuple[str, ...] = field(default=(), metadata={"identity": False})
    origin: str = field(default="", metadata={"identity": False})  # file that declared it, for messages

    def __post_init__(self) -> None:
        for part in (self.name, self.size):
            if not NAME.fullmatch(part):
                raise SpecError(
                    f"model name {self.name!r} of size {self.size!r}: use letters, digits and '_', a letter first"
                )
        if not self.profiles:
            raise SpecError(f"{self.name}: no profile; a model without dynamic dimensions has one empty profile")

    @property
    def id(self) -> str:
        """Name and, unless it is the usual one, size: ``bert``, ``bert_full``."""
        return self.name if self.size == "tiny" else f"{self.name}_{self.size}"

    def golden_files(self) -> tuple[Path, Path] | None:
        """The .npz of golden inputs and the .npz of golden outputs, made now if a function makes them."""
        return self.golden() if callable(self.golden) else self.golden


def admit(model: str, profile: Profile, interface: Interface) -> Profile:
    """``profile`` with every key a symbol of the model, once it is shown to fit.

    ``tensor:axis`` keys become the symbol that stands there. SpecError names model, tensor,
    dimension, both values and what to do.
    """
    tensors = {tensor.name: tensor for tensor in interface.inputs}
    ranges: dict[str, Range] = {}
    for key, sizes in profile.ranges:
        check_range(model, key, sizes)
        symbol = _symbol(model, key, sizes, tensors)
        if symbol is None:
            continue
        if ranges.setdefault(symbol, sizes) != sizes:
            raise SpecError(f"{model}: dimension {symbol!r} is given both {ranges[symbol]} and {sizes}")
    for tensor in interface.inputs:
        missing = sorted(tensor.symbols - ranges.keys())
        if missing:
            options = " ".join(f"--profile {symbol}=1:8:32" for symbol in missing)
            table = ", ".join(f'{_key(symbol)} = "1:8:32"' for symbol in missing)
            raise SpecError(
                f"{model}: input {tensor.name!r} {_shape(tensor)} has no range for {', '.join(map(repr, missing))}: "
                f"give {'one' if len(missing) == 1 else 'each one'}, as in {options} of trt-harness, "
                f"or in a TOML file under [[profiles]] dims = {{ {table} }}"
            )
    for name, values in profile.values:
        if name not in tensors:
            raise SpecError(f"{model}: shape values for {name!r}, which is no input; inputs: {', '.join(tensors)}")
        _check_values(model, tensors[name], values)
    return Profile(tuple(sorted(ranges.items())), profile.values)


def check_range(model: str, key: str, sizes: Range, *, least: int | None = 0) -> None:
    """SpecError unless ``least <= min <= opt <= max``."""
    if least is not None and sizes.min < least:
        raise SpecError(f"{model}: dimension {key!r}: min {sizes.min} is below {least}")
    if sizes.min > sizes.max:
        raise SpecError(f"{model}: dimension {key!r}: empty range: min {sizes.min} is above max {sizes.max}")
    if not sizes.min <= sizes.opt <= sizes.max:
        raise SpecError(f"{model}: dimension {key!r}: opt {sizes.opt} lies outside {sizes.min} to {sizes.max}")


def _check_values(model: str, tensor: TensorSpec, values: Values) -> None:
    """SpecError unless ``tensor`` can hold ``values``, whose every element is a range."""
    where = f"{model}: shape values of {tensor.name!r} {_shape(tensor)}"
    if not tensor.dtype.startswith(("int", "uint")) or len(tensor.shape) > 1:
        raise SpecError(f"{where}: only a scalar or a vector of integers can be a shape tensor, not {tensor.dtype}")
    counts = {len(values.min), len(values.opt), len(values.max)}
    size = tensor.shape[0] if tensor.shape else 1
    if len(counts) > 1 or (isinstance(size, int) and counts != {size}):
        raise SpecError(
            f"{where}: min, opt and max hold {len(values.min)}, {len(values.opt)}, {len(values.max)} numbers: "
            f"give {size} to each"
        )
    for element, sizes in enumerate(zip(values.min, values.opt, values.max, strict=True)):
        check_range(model, f"{tensor.name}[{element}]", Range(*sizes), least=None)


def _symbol(model: str, key: str, sizes: Range, tensors: dict[str, TensorSpec]) -> str | None:
    """The symbol that ``key`` means; None for a fixed dimension whose range agrees with it."""
    if any(key in tensor.symbols for tensor in tensors.values()):
        return key
    name, colon, axis = key.rpartition(":")
    if not colon or name not in tensors or not re.fullmatch("-?[0-9]+", axis):
        fixed = ", ".join(f"{tensor.name} {_shape(tensor)}" for tensor in tensors.values() if not tensor.symbols)
        hint = f"; exported with fixed sizes: {fixed}: to vary them, export again with dynamic axes" if fixed else ""
        known = sorted(_symbols(tensors.values())) or ["none"]
        raise SpecError(
            f"{model}: no input has a dimension {key!r}: {suggestion(key, known)}"
            f"dynamic dimensions: {', '.join(known)}{hint}"
        )
    tensor = tensors[name]
    try:
        dim = tensor.shape[int(axis)]
    except IndexError:
        raise SpecError(f"{model}: input {name!r} {_shape(tensor)} has no axis {axis}") from None
    if isinstance(dim, str):
        if "+" in dim:
            raise SpecError(
                f"{model}: input {name!r}, axis {axis} is {dim!r}: give a range for each of its symbols instead"
            )
        return dim
    if (sizes.min, sizes.opt, sizes.max) == (dim, dim, dim):
        return None
    raise SpecError(
        f"{model}: input {name!r}, axis {axis}: exported with this dimension fixed to {dim}, but the profile "
        f"asks for {sizes}: export again with dynamic axes, or ask for {dim}"
    )


def _symbols(tensors: Iterable[TensorSpec]) -> set[str]:
    return {symbol for tensor in tensors for symbol in tensor.symbols}


def _key(symbol: str) -> str:
    """``symbol`` as a key of TOML."""
    return symbol if re.fullmatch("[A-Za-z0-9_-]+", symbol) else json.dumps(symbol)


def _shape(tensor: TensorSpec) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
