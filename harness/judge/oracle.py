"""What the outputs should be, by whom, and how much that is worth.

The oracle is the original float32 model on a runtime with its optimizations off. It is handed to
this module as a callable; `harness.runtime.backend.onnxruntime.reference_runner` makes one.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import inliner

from harness.errors import BuildError, ParseError, RunError, SpecError, UnsupportedError
from harness.judge.edges import pushes, rounded, with_pushes
from harness.judge.elements import dtype_name
from harness.judge.following import CHOSEN, choices_of, followers, with_choices_given
from harness.judge.graph import flow
from harness.judge.inputs import binding_of, check_arrays, read_arrays
from harness.judge.provenance import FLOATS, Kind, Origin, provenance
from harness.judge.terms import terms
from harness.spec.canonical import digest
from harness.spec.model import ModelSpec, ToleranceOverride
from harness.spec.onnx_model import interface, load
from harness.spec.source import exported

Array = npt.NDArray[Any]
Runner = Callable[[Path, Mapping[str, Array]], dict[str, Array]]
Nudged = Callable[[], Iterator[dict[str, Array]]]
Rechosen = Callable[[Mapping[str, Array]], dict[str, Array]]
Terms = Callable[[float], Mapping[str, Array]]

MEMORY = 1 << 28  # bytes of references kept
NUDGES = 64  # how often values are nudged: one on an edge turns one time in two, and several apart from each other
TINY = 1e-6  # an output nowhere larger than this says nothing: rounding errors of values near one are as large
WEAK = "weak:"  # a model with the tag "weak:<output>" (or "weak:*") declares that this output may be weak


@dataclass(frozen=True, eq=False)
class Reference:
    """What a run is judged against.

    ``origins`` says how each output is judged, ``seen`` holds the tensors inside the model that this
    takes, ``weak`` why the oracle proves little for an output, ``admitted`` that of outputs whose model
    declares it: no failure, and noted. ``oracle`` says who made it. ``rechosen`` takes what a run gave
    and gives the outputs, by name, that would be others had the oracle chosen as the run did. ``nudged``
    gives all outputs again and again, each time with the values that the model rounds to a grid moved by a last
    bit or two: see `harness.judge.edges`. ``terms`` takes the unit roundoff of a precision and gives, for each
    floating output, the size of the terms behind each element: see `harness.judge.terms`.
    """

    model: str
    oracle: str
    outputs: Mapping[str, Array]
    origins: Mapping[str, Origin]
    seen: Mapping[str, Array] = field(default_factory=dict)
    weak: Mapping[str, str] = field(default_factory=dict)
    admitted: Mapping[str, str] = field(default_factory=dict)
    tolerances: tuple[ToleranceOverride, ...] = ()
    tags: tuple[str, ...] = ()
    rechosen: Rechosen | None = None
    nudged: Nudged | None = None
    terms: Terms | None = None


class Oracle:
    """Runs models as a reference and remembers what came out."""

    def __init__(self, run: Runner, name: str) -> None:
        self._run = run
        self.description = name  # runtime, version and settings, as shown
        self._kept: OrderedDict[tuple[str, str], Reference] = OrderedDict()
        self._bytes = 0
        self.runs = 0  # how often the runtime was asked, for tests of the cache

    def reference(self, model: ModelSpec, inputs: Mapping[str, Array]) -> Reference:
        """The reference for ``model`` on ``inputs``.

        UnsupportedError when the model has no ONNX to run (a plan, a network built by a callable) or
        one that the runtime refuses; SpecError when it can't be run on ``inputs``.
        """
        if model.source.kind != "onnx":
            raise UnsupportedError(
                f"oracle for {model.id}",
                f"a model given as a {model.source.kind} has no ONNX that another runtime could run",
                "give golden outputs beside it",
            )
        key = (model.source.digest(), digest_arrays(inputs))
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = self._make(model, inputs)
            self._bytes += _size(kept)
            while self._bytes > MEMORY and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(key)
        return _of(model, kept)

    def golden(self, model: ModelSpec) -> tuple[dict[str, Array], Reference]:
        """The inputs and the outputs that the model's owner gave. SpecError when they don't fit the model."""
        files = model.golden_files()
        if files is None:
            raise SpecError(f"{model.id}: no golden outputs")
        inputs, outputs = map(read_arrays, files)
        described = f"golden outputs of {files[1].name}"
        if model.source.kind != "onnx":
            origins = {name: Origin(_by_type(array)) for name, array in outputs.items()}
            return inputs, _of(model, Reference(model.id, described, outputs, origins, weak=_weak(outputs, origins)))
        declared = interface(model.source.path())
        check_arrays(model.id, files[0], declared.inputs, inputs, binding_of(declared, inputs))
        own = self.reference(model, inputs)
        if outputs.keys() != own.outputs.keys():
            raise SpecError(
                f"{model.id}: {files[1]} holds {', '.join(map(repr, outputs)) or 'nothing'}, "
                f"the model gives {', '.join(map(repr, own.outputs))}: save each output by its name"
            )
        weak = _weak(outputs, own.origins)
        return inputs, _of(model, Reference(model.id, described, outputs, own.origins, own.seen, weak))

    def _make(self, model: ModelSpec, inputs: Mapping[str, Array]) -> Reference:
        path = model.source.path()
        shown, origins, inside, rechosen = _shown(path, model.source.digest())
        self.runs += 1
        try:
            everything = self._run(_exposing(model, path, inside) if inside else path, inputs)
        except (ParseError, BuildError) as error:
            raise UnsupportedError(
                f"oracle for {model.id}",
                f"{self.description} refuses the model: {error.message}",
                "give golden outputs",
            ) from error
        except RunError as error:
            raise SpecError(
                f"{model.id}: {self.description} can't run the model on these inputs: {error.message}. "
                "Say what its inputs may hold: input rules, or an .npz"
            ) from error
        outputs = {name: everything[name] for name in shown}
        special = any(not _finite(array) for array in inputs.values())
        weak = {} if special else _weak(outputs, origins)
        quantized = any(origin.quantized for origin in origins.values())
        made = Reference(
            model.id,
            self.description,
            outputs,
            origins,
            everything,
            weak,
            tolerances=model.tolerances,
            tags=model.tags,
            nudged=functools.partial(self._nudged, model, path, dict(inputs)) if quantized else None,
            terms=functools.cache(functools.partial(self._terms, path, dict(inputs), outputs)),
        )
        if rechosen:
            return replace(made, rechosen=functools.partial(self._rechosen, model, path, dict(inputs), made))
        return made

    def _terms(
        self, path: Path, inputs: Mapping[str, Array], outputs: Mapping[str, Array], unit: float
    ) -> dict[str, Array]:
        def run(moved: Mapping[str, Array]) -> dict[str, Array]:
            self.runs += 1
            return self._run(path, moved)

        try:
            return terms(run, inputs, outputs, unit)
        except RunError:  # moved, they are no longer what the model may be given
            return {}

    def _nudged(self, model: ModelSpec, path: Path, inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        reach = rounded(flow(path))
        inside = tuple(name for name in reach if name not in inputs)
        self.runs += 1
        everything = {**inputs, **self._run(_exposing(model, path, inside) if inside else path, inputs)}
        seen = {name: everything[name] for name in reach}

        def build() -> onnx.ModelProto:
            return with_pushes(_opened(path), {name: array.dtype for name, array in seen.items()})

        pushed = _variant(model, ["pushed", *reach], build)
        for seed in range(NUDGES):
            self.runs += 1
            yield self._run(pushed, {**inputs, **pushes(seen, reach, seed)})

    def _rechosen(
        self, model: ModelSpec, path: Path, inputs: Mapping[str, Array], made: Reference, got: Mapping[str, Array]
    ) -> dict[str, Array]:
        choices = choices_of(got, made.outputs, made.origins, made.seen)
        if not choices:
            return {}
        names, outputs = tuple(choices), followers(made.origins)

        def build() -> onnx.ModelProto:
            return with_choices_given(_opened(path), names, outputs)

        self.runs += 1
        try:
            return self._run(_variant(model, [*names, *outputs], build), {**inputs, **choices})
        except RunError:  # a choice of what is not there, which is judged and told where it is shown
            return {}


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name}\0{dtype_name(array.dtype)}\0{array.shape}\0".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


@functools.lru_cache(maxsize=256)
def _shown(path: Path, _digest: str) -> tuple[tuple[str, ...], Mapping[str, Origin], tuple[str, ...], bool]:
    """Outputs by name, where they come from, the tensors inside that judging takes; whether choices reach others."""
    origins = provenance(flow(path))
    shown = tuple(tensor.name for tensor in interface(path).outputs)
    choices = [origin.choice for origin in origins.values() if origin.choice is not None]
    inside = dict.fromkeys(name for choice in choices for name in choice.tensors if name not in shown)
    follow = bool(followers(origins)) and any(origin.kind in CHOSEN for origin in origins.values())
    return shown, origins, tuple(inside), follow


def _of(model: ModelSpec, made: Reference) -> Reference:
    """``made`` with what the model itself declares, which its bytes do not show."""
    declares = (model.id, model.tolerances, model.tags)
    if not made.weak and declares == (made.model, made.tolerances, made.tags):
        return made
    declared = {tag.removeprefix(WEAK) for tag in model.tags if tag.startswith(WEAK)}
    admitted = {name: why for name, why in made.weak.items() if declared & {name, "*"}}
    weak = {name: why for name, why in made.weak.items() if name not in admitted}
    return replace(made, model=model.id, weak=weak, admitted=admitted, tolerances=model.tolerances, tags=model.tags)


def _exposing(model: ModelSpec, path: Path, names: tuple[str, ...]) -> Path:
    """The model with ``names`` among its outputs, in the export folder."""

    def build() -> onnx.ModelProto:
        opened = _opened(path)
        opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        return opened

    return _variant(model, names, build)


def _opened(path: Path) -> onnx.ModelProto:
    model = load(path, weights=True)
    return inliner.inline_local_functions(model) if model.functions else model


def _variant(model: ModelSpec, names: Sequence[str], build: Callable[[], onnx.ModelProto]) -> Path:
    """What ``build`` makes of the model for ``names``, in the export folder."""
    return exported(f"{model.id}-{model.source.digest()[:16]}-{digest(names)[:8]}", build)


def _weak(outputs: Mapping[str, Array], origins: Mapping[str, Origin]) -> dict[str, str]:
    reasons = {name: _reason(array, origins[name]) for name, array in outputs.items() if name in origins}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(array: Array, origin: Origin) -> str:
    """Why an oracle's output proves little; "" when it is worth its name."""
    if origin.constant or origin.kind is Kind.EXACT:
        return ""  # it must be this and nothing else
    if not array.size:  # right when the inputs' shapes make it so, and no proof when floats decided on it
        return "it has no element, as nothing was chosen" if origin.choice or origin.follows else ""
    if origin.kind is not Kind.FLOAT:
        return ""
    flat = array.reshape(-1)
    low, high = float(flat[flat.argmin()]), float(flat[flat.argmax()])  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        broken = int(np.count_nonzero(~np.isfinite(np.asarray(array, np.float64))))
        return f"{broken} of {array.size} elements are not finite although the inputs are"
    largest = max(abs(low), abs(high))
    if largest < TINY:
        return f"nothing in it is larger than {largest:.3g}, so that any noise looks like an answer"
    if array.size > 1 and high - low <= 1e-6 * largest:
        return f"all its {array.size} elements are {low:.6g}, so that a shuffled answer looks right"
    return ""


def _by_type(array: Array) -> Kind:
    return Kind.FLOAT if str(array.dtype) in FLOATS else Kind.EXACT


def _finite(array: Array) -> bool:
    return dtype_name(array.dtype) not in FLOATS or bool(np.isfinite(np.asarray(array, np.float64)).all())


def _size(reference: Reference) -> int:
    """Bytes; what was seen has the outputs among it."""
    return sum(array.nbytes for array in reference.seen.values())
