"""Inputs for a model: the same for the same seed, on every machine and under every numpy.

Numbers come from the raw bits of Philox, which numpy promises never to change (its distributions
it does not promise), under a stream for each tensor, so that one more input changes no other.
"""

from __future__ import annotations

import functools
import hashlib
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.judge import ranges
from harness.judge.ranges import Found
from harness.spec.data import SPECIALS, UNDEFINED, InputRule, Special
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import Interface
from harness.spec.precision import Recipe
from harness.spec.tensor import TensorSpec, evaluate, symbols

__all__ = [
    "SPECIALS",
    "UNDEFINED",
    "Array",
    "Special",
    "binding_of",
    "check_arrays",
    "make_inputs",
    "read_arrays",
    "special_inputs",
]

Array = npt.NDArray[Any]


def make_inputs(
    model: ModelSpec,
    interface: Interface,
    binding: Mapping[str, int],
    contents: Mapping[str, tuple[int, ...]],
    seed: int,
) -> dict[str, Array]:
    """One array an input, shaped by ``binding``; inputs named in ``contents`` hold exactly that.

    The model's own rules come first, then what its graph says (`ranges.infer`), then the type.
    A model with ``data`` gets that data. SpecError when a rule names no input, a shape tensor is
    given no contents, or the data does not fit.
    """
    if model.data is not None:
        arrays = read_arrays(model.data)
        check_arrays(model.id, model.data, interface.inputs, arrays, binding)
        return {tensor.name: arrays[tensor.name] for tensor in interface.inputs}
    rules = {rule.tensor: rule for rule in model.inputs}
    names = {tensor.name for tensor in interface.inputs}
    if not names.issuperset(rules) or not names.issuperset(contents):
        unknown = sorted((rules.keys() | contents.keys()) - names)
        known = ", ".join(tensor.name for tensor in interface.inputs)
        raise SpecError(f"{model.id}: a rule or values for {', '.join(unknown)}, which is no input; inputs: {known}")
    found: Mapping[str, Found] = {}
    needs_contents: frozenset[str] = frozenset()
    if model.source.kind == "onnx" and not names <= rules.keys() | contents.keys():
        found, needs_contents = ranges.read(model.source.path())
    arrays = {}
    for tensor in interface.inputs:
        stream = _Stream(seed, tensor.name)
        shape = tensor.resolve(binding)
        if tensor.name in contents:
            arrays[tensor.name] = _given(model, tensor, shape, contents[tensor.name])
        elif tensor.name in rules:
            arrays[tensor.name] = _by_rule(stream, rules[tensor.name], tensor, shape, binding)
        elif tensor.name in needs_contents:
            raise SpecError(
                f"{model.id}: the contents of input {tensor.name!r} decide shapes: give them in the profile "
                f"(values of {tensor.name}, {math.prod(shape)} integers at min, opt and max) or set an input rule"
            )
        elif tensor.name in found:
            arrays[tensor.name] = _by_graph(stream, found[tensor.name], tensor, shape, binding)
        else:
            arrays[tensor.name] = _by_type(stream, tensor, shape)
    return arrays


def special_inputs(
    model: ModelSpec,
    interface: Interface,
    inputs: Mapping[str, Array],
    special: Special,
    recipe: Recipe,
) -> dict[str, Array]:
    """``inputs`` with its data replaced by one special value; ids, masks, lengths and shapes stay.

    ``zeros``, ``ones`` and ``denormal`` (half the smallest normal number, alternating in sign) fill
    every floating input. ``largest`` is the fourth root of the largest finite number of the recipe's
    format, with alternating sign: so large that a scale is lost, and yet a sum of squares of as many
    terms as the square root of that number stays finite, so that the result is defined. ``inf`` and
    ``nan`` replace one element in seven, the rest staying as it is, so that spreading shows.
    """
    ruled = {rule.tensor for rule in model.inputs if rule.kind not in ("normal", "uniform")}
    if model.source.kind == "onnx":
        found = ranges.infer(model.source.path())
        ruled |= {name for name, item in found.items() if item.kind not in ("normal", "uniform")}
    changed = {}
    for tensor in interface.inputs:
        array = inputs[tensor.name]
        plain = tensor.name in ruled or not _is_float(array.dtype)
        changed[tensor.name] = array if plain else _special(array, special, recipe)
    return changed


def binding_of(interface: Interface, arrays: Mapping[str, Array]) -> dict[str, int]:
    """The size of each symbol that the shapes of ``arrays`` imply. SpecError when they contradict each other."""
    binding: dict[str, int] = {}
    sums: list[tuple[TensorSpec, str, int]] = []
    for tensor in interface.inputs:
        if tensor.name not in arrays:
            continue
        for dim, size in zip(tensor.shape, arrays[tensor.name].shape, strict=False):
            if isinstance(dim, str) and symbols(dim) == (dim,):
                if binding.setdefault(dim, size) != size:
                    raise SpecError(f"input {tensor.name!r}: {dim} is {size} here and {binding[dim]} before")
            elif isinstance(dim, str):
                sums.append((tensor, dim, size))
    for tensor, dim, size in sums:
        missing = [symbol for symbol in symbols(dim) if symbol not in binding]
        if len(missing) == 1:
            binding[missing[0]] = size - evaluate(dim, {**binding, missing[0]: 0})
        elif not missing and evaluate(dim, binding) != size:
            raise SpecError(f"input {tensor.name!r}: {dim} is {size} here and {evaluate(dim, binding)} by the others")
    return binding


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz``. SpecError when it isn't one, or holds objects (pickle is never loaded)."""
    try:
        with path.open("rb") as file:  # numpy leaves a file that is cut short open
            stored = np.load(file, allow_pickle=False)
            if not hasattr(stored, "files"):
                raise SpecError(f"{path}: one array without a name: save with numpy.savez(path, <input name>=array)")
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        # numpy says of whatever is no file of arrays that it is pickled, and how to load that all the same
        why = "something else, or pickled objects, which are never loaded" if "pickle" in str(error) else error
        raise SpecError(f"{path}: not an .npz of plain arrays ({why})") from None


def check_arrays(
    model: str,
    where: Path | str,
    tensors: tuple[TensorSpec, ...],
    arrays: Mapping[str, Array],
    binding: Mapping[str, int],
) -> None:
    """SpecError unless ``arrays`` has every one of ``tensors``, of its type and its shape under ``binding``."""
    names = {tensor.name for tensor in tensors}
    for missing in sorted(names - arrays.keys()):
        raise SpecError(f"{model}: {where} lacks {missing!r}; it holds {', '.join(arrays) or 'nothing'}")
    for extra in sorted(arrays.keys() - names):
        raise SpecError(f"{model}: {where} holds {extra!r}, which the model does not have: {', '.join(sorted(names))}")
    for tensor in tensors:
        got, shape = arrays[tensor.name], tensor.resolve(binding)
        if str(got.dtype) != tensor.dtype:
            raise SpecError(f"{model}: {where}: {tensor.name!r} is {got.dtype}, the model takes {tensor.dtype}")
        if got.shape != shape:
            raise SpecError(f"{model}: {where}: {tensor.name!r} is {list(got.shape)}, this point takes {list(shape)}")


@functools.cache
def _entropy(name: str) -> tuple[int, ...]:
    return _words(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little"))


def _words(number: int) -> tuple[int, ...]:
    """``number`` in 32 bits each, up to the last that is not 0."""
    return tuple(number >> shift & 0xFFFFFFFF for shift in range(0, max(number.bit_length(), 1), 32))


class _Stream:
    """Numbers for one tensor."""

    def __init__(self, seed: int, name: str) -> None:
        # the words of [seed, entropy]: numpy takes twice as long to find them itself
        words = np.array((*_words(seed), *_entropy(name)), np.uint32)
        self._bits = np.random.Philox(np.random.SeedSequence(words))

    def raw(self, count: int) -> npt.NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(count), np.uint64)

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """[0, 1), in steps of 2**-53."""
        return (self.raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> npt.NDArray[np.float64]:
        """Mean 0, variance 1, bounded by 4.9: the sum of eight uniform numbers, exact on every machine."""
        parts = self.raw(2 * count).view(np.uint16).reshape(count, 8)
        centred = parts.sum(axis=1, dtype=np.int64) - 4 * 65535
        return np.asarray(centred * (math.sqrt(12 / 8) / 65536))

    def integers(self, low: int, high: int, count: int) -> npt.NDArray[np.int64]:
        """Both inclusive. The bias, span / 2**64, is beyond notice."""
        return low + (self.raw(count) % np.uint64(high - low + 1)).astype(np.int64)

    def distinct(self, below: int, rows: int, count: int) -> npt.NDArray[np.int64]:
        """[rows, count] integers below ``below``, none twice in a row."""
        order = np.argsort(self.raw(rows * below).reshape(rows, below), axis=1, kind="stable")
        return order[:, :count].astype(np.int64)


def _given(model: ModelSpec, tensor: TensorSpec, shape: tuple[int, ...], values: tuple[int, ...]) -> Array:
    if math.prod(shape) != len(values):
        raise SpecError(
            f"{model.id}: input {tensor.name!r} has {math.prod(shape)} elements, but the profile gives "
            f"{len(values)} values: {values}"
        )
    return np.asarray(values, np.int64).reshape(shape).astype(_dtype(tensor.dtype))


def _by_rule(
    stream: _Stream, rule: InputRule, tensor: TensorSpec, shape: tuple[int, ...], binding: Mapping[str, int]
) -> Array:
    count, dtype = math.prod(shape), _dtype(tensor.dtype)
    if rule.kind == "fixed":
        return np.full(shape, rule.low).astype(dtype)
    if rule.kind == "mask":
        return _mask(stream, shape, dtype)
    if rule.kind == "lengths":
        if rule.symbol not in binding:
            raise SpecError(
                f"input {tensor.name!r}: lengths up to {rule.symbol!r}, which is no dimension of this model: "
                f"{', '.join(sorted(binding)) or 'it has none'}"
            )
        return stream.integers(1, binding[rule.symbol], count).reshape(shape).astype(dtype, copy=False)
    if rule.kind == "integers":
        return stream.integers(int(rule.low), int(rule.high), count).reshape(shape).astype(dtype, copy=False)
    if rule.kind == "uniform":
        return (rule.low + (rule.high - rule.low) * stream.uniform(count)).reshape(shape).astype(dtype, copy=False)
    return stream.normal(count).reshape(shape).astype(dtype, copy=False)


def _by_graph(
    stream: _Stream, found: Found, tensor: TensorSpec, shape: tuple[int, ...], binding: Mapping[str, int]
) -> Array:
    count, dtype = math.prod(shape), _dtype(tensor.dtype)
    if found.kind == "mask":
        return _mask(stream, shape, dtype)
    if found.kind == "uniform":
        high = found.low if found.high is None else found.high
        return (found.low + (high - found.low) * stream.uniform(count)).reshape(shape).astype(dtype, copy=False)
    if found.distinct is not None:
        return _distinct(stream, found, tensor, shape, binding).astype(dtype)
    last = 0 if found.kind == "lengths" else 1  # lengths may reach the size, ids may not
    limits = [limit - last for limit in _sizes(found, binding)] + ([] if found.high is None else [int(found.high)])
    low = int(found.low)
    return stream.integers(low, max(low, min(limits, default=low)), count).reshape(shape).astype(dtype, copy=False)


def _by_type(stream: _Stream, tensor: TensorSpec, shape: tuple[int, ...]) -> Array:
    count, dtype = math.prod(shape), _dtype(tensor.dtype)
    if dtype.kind == "b":
        return (stream.raw(count) & np.uint64(1)).astype(np.bool_).reshape(shape)
    if _is_float(dtype):
        return stream.normal(count).reshape(shape).astype(dtype, copy=False)
    if dtype.kind not in "iu":
        raise SpecError(f"input {tensor.name!r}: no rule makes {tensor.dtype}; give its values in an .npz")
    # 8 bits are data (images, quantized values) over their whole range; wider ones count, so they stay
    # small enough that no sum of products leaves 32 bits
    info = np.iinfo(dtype)
    low, high = (int(info.min), int(info.max)) if dtype.itemsize == 1 else (max(int(info.min), -100), 100)
    return stream.integers(low, high, count).reshape(shape).astype(dtype, copy=False)


def _mask(stream: _Stream, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A run of ones, at least one long, then zeros, along the last axis."""
    if not shape or not math.prod(shape):
        return np.ones(shape, dtype)
    *rows, length = shape
    visible = stream.integers(1, length, math.prod(rows)).reshape(*rows, 1)
    return (np.arange(length) < visible).astype(dtype)


def _distinct(
    stream: _Stream, found: Found, tensor: TensorSpec, shape: tuple[int, ...], binding: Mapping[str, int]
) -> Array:
    sizes = _sizes(found, binding)
    if len(sizes) < len(found.sizes) or not sizes:
        raise SpecError(f"input {tensor.name!r}: {found.reason}: its size is unknown; set an input rule")
    places = math.prod(sizes) if found.tuples else min(sizes)
    axis = int(found.distinct or 0)
    count = math.prod(shape[:-1]) if found.tuples else shape[axis]
    if count > places:
        raise SpecError(
            f"input {tensor.name!r}: {found.reason}: {count} different places are asked for and there are {places}"
        )
    if found.tuples:
        chosen = stream.distinct(places, 1, count)[0]
        return np.stack(np.unravel_index(chosen, sizes), axis=-1).reshape(shape)
    rest = tuple(size for index, size in enumerate(shape) if index != axis % len(shape))
    rows = stream.distinct(places, math.prod(rest), count).reshape(*rest, count)
    return np.moveaxis(rows, -1, axis)


def _sizes(found: Found, binding: Mapping[str, int]) -> list[int]:
    """Those that the binding resolves; shape inference makes up symbols that it does not."""
    return [evaluate(size, binding) for size in found.sizes if all(symbol in binding for symbol in symbols(size))]


def _special(array: Array, special: Special, recipe: Recipe) -> Array:
    weak = "float16" if "FP16" in recipe.flags else str(array.dtype)  # the builder may choose it for any layer
    limits = _limits(_dtype(recipe.convert or weak))
    sign: npt.NDArray[np.float64] = np.where(np.arange(array.size) % 2, -1.0, 1.0).reshape(array.shape)
    if special == "zeros":
        return np.zeros_like(array)
    if special == "ones":
        return np.ones_like(array)
    if special == "largest":
        return np.asarray(sign * limits[1] ** 0.25, array.dtype)
    if special == "denormal":
        return np.asarray(sign * limits[0] / 2, array.dtype)
    spoilt = array.copy()
    places = spoilt.reshape(-1)[::7]
    places[...] = np.nan if special == "nan" else np.where(np.arange(places.size) % 2, -np.inf, np.inf)
    return spoilt


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Smallest normal and largest finite number."""
    import ml_dtypes

    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(info.smallest_normal), float(info.max)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or str(dtype) in ("bfloat16",)


@functools.cache
def _dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))
