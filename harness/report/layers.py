"""What an engine is made of: the JSON of its inspector, in the form of any version, read into values.

TensorRT 8 and 10 list "Bindings" by name, and give layout and type of a tensor in one phrase ("Format/Datatype": "Row
major linear FP16 format"); 11 describes "I/O Tensors" and gives "Format" and "DataType" each by itself. Layers are
objects in a plan that was built with ProfilingVerbosity.DETAILED, and names in any other. What is not told is unknown:
"" or None; what nobody here knows of is left aside. The forms are those of NVIDIA's developer guide ("Engine
Inspector"), of its guide from 10.x to 11.x, and of the examples that come with its trt-engine-explorer.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DETAILED = "DETAILED"  # the ProfilingVerbosity that tells all

# What layouts' phrases and types' names say, as numpy and ml_dtypes call it.
_DTYPES = {
    "float": "float32",
    "fp32": "float32",
    "half": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "fp4": "float4_e2m1fn",
    "e8m0": "float8_e8m0fnu",
    "double": "float64",
    "int4": "int4",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "bool": "bool",
}
_BITS = {"float4_e2m1fn": 4, "bool": 8, "float8_e4m3fn": 8, "float8_e8m0fnu": 8}  # that are not the end of the name
_WORDS = re.compile(rf"\b({'|'.join(_DTYPES)})\b", re.IGNORECASE)
_COMPUTED = ("float", "bfloat", "int4", "int8", "uint8")  # how types begin that say what a layer computes in

# Types of the operands in the names of kernels, as in sm80_xmma_gemm_f16f16_f16f32_f32_tn_n. The first that is found
# holds: with TF32 the tensors are float32 all the same.
_KERNELS = {
    r"tf32": "tf32",
    r"i8i8|_i8[if]\d|imma|int8": "int8",
    r"e4m3": "float8_e4m3fn",
    r"bf16": "bfloat16",
    r"f16f16|h884|h1688|h16816|hmma|fp16|_hgemm": "float16",
    r"f32f32|sgemm|fp32|ffma": "float32",
}

# What a phrase says of the layout, as TensorFormat calls it.
_WIDE = {"two": 2, "four": 4, "sixteen": 16, "thirty-two": 32}

_PROFILE = re.compile(r" \[profile (\d+)\]$")
_ORIGIN = re.compile(r"^\[ONNX Layer: (.*)\]$", re.DOTALL)
_BETWEEN_ORIGINS = re.compile(r"[\x1e\x1f]|(?<=\])(?=\[ONNX Layer: )")  # 8.6, 10.0 and later; some lack it
_REFORMATTING = "Reformatting CopyNode"
_OPAQUE = "{ForeignNode["  # before the first and the last of the layers that were compiled as one
_POINTWISE = re.compile(r"PWN\((.*)\)")


@dataclass(frozen=True)
class Tensor:
    """One end of a layer, or of the engine. Sizes that are not known, for they vary, are -1."""

    name: str
    dtype: str = ""  # numpy's name
    shape: tuple[int, ...] | None = None
    format: str = ""  # TensorFormat's name of the layout (HWC8), the phrase itself where it has none; "" if linear

    def __str__(self) -> str:
        sizes = "" if self.shape is None else f"[{', '.join(map(str, self.shape))}]"
        return " ".join(filter(None, (f"{self.dtype or '?'}{sizes}", self.format)))


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, as far as it is told.

    ``origins`` are the nodes of the model that it does the work of: as its metadata says (``traced``), or
    as its name is put together. The layers that a plan has for the second profile and any after it carry
    the number of their profile in their name, and in ``profile``.
    """

    name: str
    kind: str = ""  # what it computes: Convolution, Reformat, ...
    implementation: str = ""  # what kind of kernel does it: CaskConvolution, Myelin, kgen, ...
    precision: str = ""  # what it computes in: numpy's name of a type, or "tf32"
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    tactic: str = ""
    weights: int | None = None  # bytes
    origins: tuple[str, ...] = ()
    traced: bool = False
    reformat: bool = False  # changes the layout or the type of a tensor, and costs time
    profile: int = 0

    @property
    def fused(self) -> bool:
        return len(self.origins) > 1

    @property
    def opaque(self) -> bool:
        """Whether it was compiled of layers that its name does not list."""
        return _OPAQUE in self.name


@dataclass(frozen=True)
class Layers:
    """All that an inspector tells; ``tensors`` are the engine's inputs and outputs."""

    layers: tuple[Layer, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    detailed: bool = False  # layers are more than their names

    @property
    def reformats(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.reformat)

    @property
    def fused(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.fused)

    @property
    def weights(self) -> int | None:
        """Bytes, those of every layer; None when none is told."""
        told = [layer.weights for layer in self.layers if layer.weights is not None]
        return sum(told) if told else None


@dataclass
class Total:
    """Layers that have something in common."""

    name: str
    layers: int = 0
    weights: int = 0  # bytes


def totals(layers: Iterable[Layer], by: str) -> list[Total]:
    """Number and weights of layers by one of their fields; the most numerous first. "" where it is not told."""
    found: dict[str, Total] = {}
    for layer in layers:
        name = getattr(layer, by)
        total = found.setdefault(name, Total(name))
        total.layers += 1
        total.weights += layer.weights or 0
    return sorted(found.values(), key=lambda total: (-total.layers, total.name))


ORDERS: Mapping[str, Callable[[Layer], Any]] = {
    "name": lambda layer: layer.name,
    "kind": lambda layer: (layer.kind, layer.name),
    "precision": lambda layer: (layer.precision, layer.name),
    "weights": lambda layer: -(layer.weights or 0),
    "origins": lambda layer: -len(layer.origins),
}


def matching(layers: Sequence[Layer], patterns: Sequence[str]) -> list[Layer]:
    """Those with one of ``patterns`` in the name or in an origin; ``*`` stands for any text, ``?`` for a character."""
    # A bracket is part of many names, and no wildcard here.
    wanted = [re.compile(fnmatch.translate(f"*{pattern.replace('[', '[[]')}*")) for pattern in patterns]
    return [
        layer
        for layer in layers
        if any(pattern.match(text) for pattern in wanted for text in (layer.name, *layer.origins))
    ]


def read(told: Mapping[str, Any]) -> Layers:
    """What ``told`` says, in whichever form. Never raises: a part of another type than it should be is unknown."""
    entries = told.get("Layers")
    entries = entries if isinstance(entries, list) else []
    ends = told.get("I/O Tensors", told.get("Bindings"))
    return Layers(
        tuple(_layer(entry) for entry in entries),
        tuple(_tensor(end) for end in (ends if isinstance(ends, list) else [])),
        any(isinstance(entry, dict) and entry.keys() - {"Name"} for entry in entries),
    )


def _layer(entry: Any) -> Layer:
    if not isinstance(entry, dict):
        name = entry if isinstance(entry, str) else ""
        return Layer(
            name, origins=_origins_in(name), reformat=name.startswith(_REFORMATTING), profile=_profile_of(name)
        )
    name, implementation = _text(entry, "Name"), _text(entry, "LayerType")
    kind = _text(entry, "ParameterType") or implementation
    inputs, outputs = (
        tuple(_tensor(tensor) for tensor in entry.get(side, ()) if isinstance(entry[side], list))
        for side in ("Inputs", "Outputs")
    )
    weights = [part for part in entry.values() if isinstance(part, dict) and {"Type", "Count"} <= part.keys()]
    tactic = _text(entry, "TacticName") or _text(entry, "TacticValue")
    traced = _origins_of(_text(entry, "Metadata"))
    named = _origins_in(name)
    # Layers that TensorRT put in have no origins; a network that no parser made has some, and no metadata.
    origins = traced or (named if len(named) > 1 or "Metadata" not in entry else ())
    noop = implementation == "NoOp"  # the same memory under another name
    return Layer(
        name=name,
        kind=kind,
        implementation=implementation,
        precision=_precision(inputs, outputs, [_dtype(_text(part, "Type")) for part in weights], tactic),
        inputs=inputs,
        outputs=outputs,
        tactic=tactic,
        weights=_sum([_bytes(part) for part in weights]) if entry.keys() - {"Name"} else None,
        origins=origins,
        traced=bool(traced),
        reformat=not noop and (kind == "Reformat" or name.startswith(_REFORMATTING)),
        profile=_profile_of(name),
    )


def _tensor(entry: Any) -> Tensor:
    if not isinstance(entry, dict):
        return Tensor(entry if isinstance(entry, str) else "")
    folded = {key.replace(" ", "").casefold(): value for key, value in entry.items()}
    phrase = _text(folded, "format") or _text(folded, "format/datatype")
    sizes = folded.get("dimensions")
    known = isinstance(sizes, list) and all(isinstance(size, int) for size in sizes)
    return Tensor(
        _text(entry, "Name"),
        _dtype(_text(folded, "datatype")) or _dtype(phrase),
        tuple(sizes) if known and sizes is not None else None,
        _layout(phrase),
    )


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _dtype(phrase: str) -> str:
    found = _WORDS.search(phrase)
    return _DTYPES[found[1].casefold()] if found else ""


def _layout(phrase: str) -> str:
    """``Channel major FP16 format where channel % 8 == 0`` is HWC8; what has another phrase is told by it."""
    if name := re.search(r"\(k(\w+)\)$", phrase):
        return "" if name[1] == "LINEAR" else name[1]
    words = phrase.casefold()
    depth = "D" if "3 spatial dimensions" in words else ""
    if words.startswith("channel major"):
        count = re.search(r"channel (?:%|==) (\d+)", words)
        return f"{depth}HWC{count[1] if count else ''}"
    if wide := re.match(r"([\w-]+) wide channel vectorized", words):
        return f"C{depth}HW{_WIDE.get(wide[1], wide[1])}"
    plain = not words or words.startswith(("row major", "n/a", "unknown")) or words in _DTYPES
    return "" if plain and "stride" not in words else phrase


def _precision(inputs: Sequence[Tensor], outputs: Sequence[Tensor], weights: Sequence[str], tactic: str) -> str:
    """The narrowest type of the weights, else that of the first input or output, else what the kernel's name says."""
    name = next((dtype for pattern, dtype in _KERNELS.items() if re.search(pattern, tactic.casefold())), "")
    held = sorted((dtype for dtype in weights if dtype.startswith(_COMPUTED)), key=_bits)
    ends = [tensor.dtype for tensor in (*inputs, *outputs) if tensor.dtype]
    computed = next((dtype for dtype in (*held, *ends) if dtype.startswith(_COMPUTED)), "")
    if computed == "float32" and name == "tf32":
        return name
    return computed or name or next(iter(ends), "")


def _bits(dtype: str) -> int:
    """Of one element; 0 for a type that is not known."""
    digits = re.search(r"\d+$", dtype)
    return _BITS.get(dtype) or (int(digits[0]) if digits else 0)


def _bytes(part: Mapping[str, Any]) -> int | None:
    bits, count = _bits(_dtype(_text(part, "Type"))), part["Count"]
    return (count * bits + 7) // 8 if bits and isinstance(count, int) else None


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _origins_of(metadata: str) -> tuple[str, ...]:
    """``[ONNX Layer: a]`` and the like, once each; what else was written there as it stands."""
    parts = filter(None, _BETWEEN_ORIGINS.split(metadata))
    return tuple(dict.fromkeys(found[1] if (found := _ORIGIN.match(part)) else part for part in parts))


def _origins_in(name: str) -> tuple[str, ...]:
    """``a + b`` and ``PWN(a, b)`` are made from a and b; of what an opaque layer is made its name does not say."""
    if not name or _OPAQUE in name or name.startswith(_REFORMATTING):
        return ()
    return tuple(dict.fromkeys(filter(None, _parts(_PROFILE.sub("", name)))))


def _parts(name: str) -> list[str]:
    parts = []
    for part in _split(name, " + "):
        pointwise = _POINTWISE.fullmatch(part)
        parts += [piece for half in _split(pointwise[1], ", ") for piece in _parts(half)] if pointwise else [part]
    return parts


def _split(text: str, separator: str) -> list[str]:
    """At the separators that stand in no parenthesis."""
    parts = [""]
    for piece in text.split(separator):
        whole = parts[-1].count("(") == parts[-1].count(")")
        if whole:
            parts.append(piece)
        else:
            parts[-1] += separator + piece
    return parts[1:]


def _profile_of(name: str) -> int:
    found = _PROFILE.search(name)
    return int(found[1]) if found else 0
