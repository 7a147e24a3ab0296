"""Checks that need no oracle: what must hold between two runs of the same thing.

Each makes related inputs, or says what one run's outputs have to be, given another's, as a
`Reference` that `compare` judges by. Where the two runs are the same kernels on the same numbers the
answer is every bit (`same_bits`): graph replay and plain enqueue, two sessions side by side and one
alone, a run repeated. Where another batch size, another row or another build may take other
kernels, and sums run in another order, it is the precision's tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.judge.compare import Comparison, compare
from harness.judge.following import choices_of, followers
from harness.judge.oracle import Reference
from harness.judge.provenance import Kind, Origin
from harness.judge.tolerance import Tolerance
from harness.spec.onnx_model import Interface
from harness.spec.precision import Recipe
from harness.spec.tensor import TensorSpec, symbols

BITWISE = Tolerance(0.0, 0.0, "the same plan on the same inputs: every bit")
Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def duplicated(inputs: Arrays, interface: Interface, symbol: str) -> dict[str, Array]:
    """Every row of the dimension ``symbol`` a copy of row 0."""
    return _each(inputs, interface, symbol, lambda array, axis: _repeat(array, axis, array.shape[axis]))


def permuted(inputs: Arrays, interface: Interface, symbol: str, order: Sequence[int]) -> dict[str, Array]:
    """The rows of the dimension ``symbol`` in another order."""
    return _each(inputs, interface, symbol, lambda array, axis: np.take(array, order, axis))


def parts(inputs: Arrays, interface: Interface, symbol: str, size: int) -> list[dict[str, Array]]:
    """The inputs cut into runs of ``size`` rows of the dimension ``symbol``; the last may be shorter."""
    axes = carried(interface.inputs, symbol)
    name, axis = next(iter(axes.items()))
    rows = inputs[name].shape[axis]
    return [
        _each(inputs, interface, symbol, lambda array, at, part=part: np.take(array, part, at))
        for part in (range(start, min(start + size, rows)) for start in range(0, rows, size))
    ]


def hidden_symbols(interface: Interface, masks: Sequence[str]) -> tuple[str, ...]:
    """The dimensions that may be padded under the inputs ``masks``: the last of a mask, where it is a symbol.

    Left out is one that an input has twice, or in a sum such as ``past+seq``, since there is no telling
    which part of that input the padding is.
    """
    last = [tensor.shape[-1] for tensor in interface.inputs if tensor.name in masks and tensor.shape]
    plain = dict.fromkeys(dim for dim in last if isinstance(dim, str) and symbols(dim) == (dim,))
    return tuple(
        symbol
        for symbol in plain
        if all(sum(symbol in symbols(dim) for dim in t.shape) == (symbol in t.shape) for t in interface.inputs)
    )


def cut(inputs: Arrays, interface: Interface, symbol: str, size: int) -> dict[str, Array]:
    """The first ``size`` places of the dimension ``symbol``."""
    return _each(inputs, interface, symbol, lambda array, axis: np.take(array, np.arange(size), axis))


def padded(inputs: Arrays, interface: Interface, symbol: str, size: int, masks: Sequence[str]) -> dict[str, Array]:
    """The inputs with the dimension ``symbol`` grown to ``size``, and what was added hidden by ``masks``.

    Masks are zero there; any other input starts again from its beginning, so that it holds what it may.
    """

    def grown(name: str, array: Array, axis: int) -> Array:
        had = array.shape[axis]
        longer: Array = np.take(array, np.arange(size) % had, axis)
        if name in masks:
            np.moveaxis(longer, axis, 0)[had:] = 0
        return longer

    axes = carried(interface.inputs, symbol)
    return {
        name: np.ascontiguousarray(grown(name, array, axes[name])) if name in axes else array
        for name, array in inputs.items()
    }


def judge_duplicates(
    got: Arrays, reference: Reference, interface: Interface, symbol: str, precision: Recipe | str
) -> Comparison:
    """Outputs for `duplicated` inputs: every row as row 0.

    Within the tolerance, not bit for bit: rows at the edge of a tile may take another path through a
    kernel. ``reference`` is the oracle's, for these inputs.
    """
    want = {
        name: _repeat(got[name], axis, got[name].shape[axis])
        for name, axis in carried(interface.outputs, symbol).items()
        if name in got
    }
    return _within(got, want, reference, precision, f"row 0 of the same run, along {symbol}")


def judge_permuted(
    got: Arrays,
    straight: Arrays,
    reference: Reference,
    interface: Interface,
    symbol: str,
    order: Sequence[int],
    precision: Recipe | str,
) -> Comparison:
    """Outputs for `permuted` inputs: the rows of ``straight``, permuted. Within the tolerance, as for duplicates."""
    want = {
        name: np.take(straight[name], order, axis)
        for name, axis in carried(interface.outputs, symbol).items()
        if name in straight
    }
    return _within(got, want, reference, precision, f"the run with rows of {symbol} in their first order")


def judge_parts(
    whole: Arrays,
    pieces: Sequence[Arrays],
    reference: Reference,
    interface: Interface,
    symbol: str,
    precision: Recipe | str,
) -> Comparison:
    """Outputs for a batch: those of its `parts`, one after the other.

    Within the tolerance: another batch size may take other kernels. ``reference`` is the oracle's,
    for the whole batch.
    """
    want = {
        name: np.concatenate([piece[name] for piece in pieces], axis)
        for name, axis in carried(interface.outputs, symbol).items()
        if all(name in piece for piece in pieces)
    }
    return _within(whole, want, reference, precision, f"the batch run in {len(pieces)} parts along {symbol}")


def judge_padded(
    got: Arrays, plain: Arrays, reference: Reference, interface: Interface, symbol: str, precision: Recipe | str
) -> Comparison:
    """Outputs for `padded` inputs: those of the ``plain`` ones, where they are not of the padding itself.

    Within the tolerance: another length may take other kernels. ``reference`` is the oracle's, for the
    plain inputs. An output that has ``symbol`` in a sum is left out.
    """
    kept = {}
    for tensor in interface.outputs:
        if tensor.name not in got or tensor.name not in plain:
            continue
        if symbol in tensor.shape:
            axis = tensor.shape.index(symbol)
            own = (*[slice(None)] * axis, slice(plain[tensor.name].shape[axis]))
            kept[tensor.name] = got[tensor.name][own]
        elif not any(symbol in symbols(dim) for dim in tensor.shape):
            kept[tensor.name] = got[tensor.name]
    want = {name: plain[name] for name in kept}
    return _within(kept, want, reference, precision, f"the run without padding along {symbol}")


def judge_alike(got: Arrays, want: Arrays, reference: Reference, precision: Recipe | str, other: str) -> Comparison:
    """Outputs of two engines for the same inputs: a wider profile, a rebuild. Within twice the tolerance.

    Each rounds on its own, and may be off by the tolerance in a direction of its own. ``other`` says what gave
    ``want``; ``reference`` is the oracle's, for these inputs.
    """
    return compare(got, _expecting(want, reference, other), precision, weak="ignore", apart=True, brief=True)


def same_bits(
    got: Arrays, want: Arrays, model: str, precision: Recipe | str, other: str, reference: Reference | None = None
) -> Comparison:
    """Outputs of one plan for the same inputs: graph replay, a second session, a repetition. Every bit.

    With a ``reference``, the oracle's for these inputs, choices by comparing floats are judged by those floats:
    which of two equals comes first may change from run to run. What follows a choice that changed has to be
    what the oracle makes of it, within the tolerance.
    """
    if reference is not None:
        expected = _expecting(want, reference, other)
    else:
        origins = {name: Origin(Kind.FLOAT if array.dtype.kind in "fV" else Kind.EXACT) for name, array in want.items()}
        expected = Reference(model, other, want, origins)
    return compare(got, expected, precision, weak="ignore", bitwise=BITWISE, brief=True)


def carried(tensors: Sequence[TensorSpec], symbol: str) -> dict[str, int]:
    """The axis of the dimension ``symbol``, by tensor, for those that have it. SpecError when none has."""
    axes = {tensor.name: tensor.shape.index(symbol) for tensor in tensors if symbol in tensor.shape}
    if not axes:
        shapes = "; ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors)
        raise SpecError(f"no tensor has the dimension {symbol!r}: {shapes}")
    return axes


def _each(inputs: Arrays, interface: Interface, symbol: str, change: Any) -> dict[str, Array]:
    axes = carried(interface.inputs, symbol)
    return {
        name: np.ascontiguousarray(change(array, axes[name])) if name in axes else array
        for name, array in inputs.items()
    }


def _repeat(array: Array, axis: int, times: int) -> Array:
    return np.repeat(np.take(array, [0], axis), times, axis)


def _within(got: Arrays, want: Arrays, reference: Reference, precision: Recipe | str, other: str) -> Comparison:
    """Only the outputs in ``want``: others have no rows to relate."""
    return compare(
        {name: array for name, array in got.items() if name in want or name not in reference.outputs},
        _expecting(want, reference, other),
        precision,
        weak="ignore",
        brief=True,
    )


def _expecting(want: Arrays, reference: Reference, other: str) -> Reference:
    """``want`` in place of the oracle's outputs; of choices that are not those of ``want``, what the oracle makes."""

    def rechosen(got: Arrays) -> dict[str, Array]:
        if reference.rechosen is None or not choices_of(got, want, reference.origins, reference.seen):
            return {}
        rest = {name: reference.outputs[name] for name in followers(reference.origins) if name in want}
        return {**rest, **reference.rechosen(got)}

    return replace(reference, oracle=other, outputs=want, rechosen=rechosen, nudged=None)
