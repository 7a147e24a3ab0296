"""How a family declares its models; nothing heavy is imported before one is built."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.spec import InputRule, ModelSpec, OnnxFunction, Profile, ToleranceOverride, Values

if TYPE_CHECKING:
    import onnx

    from .authoring import Graph

Ranges = Mapping[str, tuple[int, int, int]]
Author = Callable[..., None]


def model(
    name: str,
    *,
    profile: Ranges | None = None,
    further: tuple[Ranges, ...] = (),
    values: Mapping[str, Values] | None = None,
    tiny: Mapping[str, Any] | None = None,
    full: Mapping[str, Any] | None = None,
    full_profile: Ranges | None = None,
    inputs: tuple[InputRule, ...] = (),
    full_inputs: tuple[InputRule, ...] | None = None,
    batch: str | None = None,
    special: bool = False,
    tags: tuple[str, ...] = (),
    tolerances: tuple[ToleranceOverride, ...] = (),
) -> Callable[[Author], tuple[ModelSpec, ...]]:
    """Turns ``author(g, **parameters)``, which fills a `Graph`, into one `ModelSpec` a size.

    ``tiny`` and ``full`` are the parameters of the sizes; without ``full`` there is one size.
    ``further`` are the profiles beside ``profile``, of either size; ``full_profile`` and ``full_inputs``
    replace ``profile`` and ``inputs`` there.
    """
    sizes = {"tiny": (tiny or {}, profile, inputs)}
    if full is not None:
        sizes["full"] = (full, full_profile or profile, inputs if full_inputs is None else full_inputs)

    def declare(author: Author) -> tuple[ModelSpec, ...]:
        specs = []
        for size, (parameters, ranges, rules) in sizes.items():
            identity = name if size == "tiny" else f"{name}_{size}"
            specs.append(
                ModelSpec(
                    name=name,
                    source=OnnxFunction(identity, functools.partial(_build, identity, author, parameters)),
                    profiles=tuple(Profile.of(each, values) for each in (ranges, *further)),
                    inputs=rules,
                    size=size,
                    family=author.__module__.rpartition(".")[2],
                    tags=tags,
                    batch=batch,
                    special=special,
                    tolerances=tolerances,
                    origin=author.__module__,
                )
            )
        return tuple(specs)

    return declare


def _build(identity: str, author: Author, parameters: Mapping[str, Any]) -> onnx.ModelProto:
    from .authoring import Graph

    graph: Graph = Graph(identity)
    author(graph, **parameters)
    return graph.model()
