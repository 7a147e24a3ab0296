"""From a ``trt`` mark to cells: what a test declares, times what the run asks for."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from harness.errors import SpecError
from harness.runtime.capability import CAPABILITIES
from harness.settings import BACKENDS, BEST, FAKE, Settings, Shard
from harness.spec import POINTS, RECIPES, ModelSpec, Point, Recipe
from harness.spec.cell import Cell
from harness.spec.names import listed, suggestion
from harness.spec.profile import GIVEN, places

MARK = (
    "trt(models, precisions, points, backends, variants, needs, over): run this test once for every cell, see "
    "harness.pytest_plugin.cells.Ask"
)
AXES = ("model", "precision", "variant", "point", "backend")
FP32_ONLY = "fp32_only"  # the tag of a model that makes no cell at another precision: slow to build, and shows little
WORD = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Ask:
    """What the mark ``trt(...)`` says. Left out, an axis runs over all that the run's options ask for.

    ``models``: a name or pattern, a `ModelSpec`, a predicate on `ModelSpec`, or several of them.
    ``precisions``, ``points``, ``backends``: names; a cell must be asked for by the options as well.
    ``variants``: words that the test finds in ``trt_variant``, or a function that gives them: of the
    model, or of the model and its `Recipe`. ``needs``: capabilities of the backend beyond those of the
    fixtures that the test requests. ``over``: the axes that make cells; without ``precision`` an engine
    is fp32, without ``point`` inputs are those of opt, without ``backend`` there is no engine.
    """

    models: Any = None
    precisions: Sequence[str] | None = None
    points: Sequence[str] | None = None
    backends: Sequence[str] | None = None
    variants: Sequence[str] | Callable[..., Iterable[str]] | None = None
    needs: Sequence[str] = ()
    over: Sequence[str] = ("model", "precision", "point", "backend")

    def __post_init__(self) -> None:
        for name, known in {"precisions": RECIPES, "points": POINTS, "needs": CAPABILITIES, "over": AXES}.items():
            for value in getattr(self, name) or ():
                if value not in known:
                    hint = suggestion(str(value), known)
                    raise SpecError(f"{name}: unknown {value!r}: {hint}choose from {', '.join(known)}")
        for value in self.backends or ():
            if value not in BACKENDS and value.partition(":")[0] not in (BEST, FAKE):
                raise SpecError(f"backends: unknown {value!r}: choose from {', '.join((*BACKENDS, BEST))}")
        if "model" not in self.over:
            raise SpecError("over: a cell is a test on a model: 'model' is missing")

    @classmethod
    def of(cls, marks: Iterable[pytest.Mark]) -> Ask | None:
        """All ``trt`` marks of a test as one, the closest first; None without one. SpecError for a wrong one."""
        said: dict[str, Any] = {}
        marked = False
        for mark in marks:
            marked = True
            known = [field.name for field in fields(cls)]
            if mark.args:
                raise SpecError(f"trt(...) takes no positional arguments; keywords: {', '.join(known)}")
            for name, value in mark.kwargs.items():
                if name not in known:
                    raise SpecError(f"trt(...) has no {name!r}: {suggestion(name, known)}keywords: {', '.join(known)}")
                single = isinstance(value, str) and name != "models"
                said.setdefault(name, (value,) if single else value)
        return cls(**said) if marked else None


@dataclass(frozen=True)
class Case:
    """A cell with all that its names stand for."""

    cell: Cell
    model: ModelSpec
    recipe: Recipe
    profile: int
    point: Point
    variant: str
    backend: str  # as asked: may be "best"; "" for a test without an engine
    needs: tuple[str, ...]
    order: tuple[int, int, int]  # model, precision, backend, as they were asked for: the engine


def cases(test: str, ask: Ask, models: Sequence[ModelSpec], settings: Settings) -> Iterator[Case]:
    """Every cell of ``test``, engine after engine. ``models`` are those that the run's options leave."""
    over = set(ask.over) | ({"variant"} if ask.variants is not None else set())
    backends = _both(settings.backend, ask.backends) if "backend" in over else ("",)
    points = [point for point in POINTS if point in _both(settings.point, ask.points)]
    precisions = _both(settings.precision, ask.precisions) if "precision" in over else None
    for m, model in enumerate(models):
        if not wanted(model, ask.models):
            continue
        asked: Sequence[tuple[str, int, Point]] = [("", 0, "opt")]
        if "point" in over:
            asked = tuple(_places(model, points))
        by_recipe = callable(ask.variants) and _parameters(ask.variants) > 1
        variants = ("",) if "variant" not in over or by_recipe else _variants(ask, model)
        for p, recipe in enumerate(_recipes(model, precisions)):
            precision = "" if precisions is None else recipe.name
            variants = _variants(ask, model, recipe) if by_recipe else variants
            for b, backend in enumerate(backends):
                if not in_shard(model.id, precision, backend, settings.shard):
                    continue
                for variant in variants:
                    for place, profile, point in asked:
                        cell = Cell(test, model.id, precision, variant, place, backend)
                        yield Case(cell, model, recipe, profile, point, variant, backend, tuple(ask.needs), (m, p, b))


def select(models: Sequence[ModelSpec], own: frozenset[str], settings: Settings) -> tuple[ModelSpec, ...]:
    """The models that the options ask for, in order.

    A model of the user's own (by id in ``own``), or one that is named without a wildcard, comes
    whatever its size, unless sizes are asked for. SpecError for a name or size that no model has.
    """
    sized = set(settings.size)
    sizes = sorted({model.size for model in models})
    for size in settings.size:
        if size not in sizes:
            raise SpecError(f"--trt-size: no model of size {size!r}: choose from {', '.join(sizes)}")
    for pattern in settings.model:
        if not any(_matches(model, pattern) for model in models):
            ids = [model.id for model in models]
            raise SpecError(f"--trt-model: no model {pattern!r}: {suggestion(pattern, ids)}models: {listed(ids)}")
    chosen = []
    for model in models:
        patterns = [pattern for pattern in settings.model if _matches(model, pattern)]
        by_size = model.size in sized if sized else model.size == "tiny" or model.id in own or model.id in patterns
        if by_size and (patterns or not settings.model):
            chosen.append(model)
    return tuple(chosen)


def unknown(models: Any, catalog: Sequence[ModelSpec]) -> str:
    """What is wrong with the mark's ``models``: a name that no model has, whatever the options leave; "" if nothing."""
    for name in (models,) if isinstance(models, str) else models if isinstance(models, (list, tuple)) else ():
        if isinstance(name, str) and not any(_matches(model, name) for model in catalog):
            hint = suggestion(name, [model.id for model in catalog])
            return f"no model {name!r}: {hint}bring models of your own with --trt-models"
    return ""


def wanted(model: ModelSpec, models: Any) -> bool:
    """Whether the mark's ``models`` means this model."""
    if models is None:
        return True
    if isinstance(models, str):
        return _matches(model, models)
    if isinstance(models, ModelSpec):
        return models == model
    if callable(models):
        return bool(models(model))
    return any(wanted(model, one) for one in models)


@functools.cache
def _parameters(function: Callable[..., Any]) -> int:
    return len(inspect.signature(function).parameters)


@functools.cache
def in_shard(model: str, precision: str, backend: str, shard: Shard | None) -> bool:
    """Whether an engine belongs to ``shard``: by its name's digest, so that every machine agrees."""
    if shard is None:
        return True
    digest = hashlib.sha256("\0".join((model, precision, backend)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % shard.count == shard.number - 1


def renamed(case: Case, params: str) -> Case:
    """``case`` of a test that is parametrized by others as well: their part of the id becomes a variant."""
    others = params.replace(case.cell.params, "").strip("-")
    variant = "-".join(part for part in (case.cell.variant, others) if part)
    return replace(case, cell=replace(case.cell, variant=variant))


def _matches(model: ModelSpec, pattern: str) -> bool:
    return fnmatch.fnmatchcase(model.id, pattern) or fnmatch.fnmatchcase(model.name, pattern)


def _both(asked: Sequence[str], declared: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(asked) if declared is None else tuple(name for name in asked if name in declared)


def _recipes(model: ModelSpec, precisions: Sequence[str] | None) -> list[Recipe]:
    """A plan has the precision it was built at, and a callable's network can't be converted."""
    if precisions is None:
        return [RECIPES["fp32"]]
    recipes = [RECIPES[name] for name in precisions if name == "fp32" or FP32_ONLY not in model.tags]
    if model.source.kind == "onnx":
        return recipes
    return [
        recipe for recipe in recipes if recipe.convert is None and not (model.source.kind == "plan" and recipe.flags)
    ]


def _places(model: ModelSpec, points: Sequence[Point]) -> Iterator[tuple[str, int, Point]]:
    """(name in the id, profile, point); inputs of the user's own are one place, and choose their profile."""
    return iter([(GIVEN, 0, "opt")]) if model.data is not None else places(model.profiles, points)


def _variants(ask: Ask, *asked: ModelSpec | Recipe) -> tuple[str, ...]:
    found = tuple(ask.variants(*asked) if callable(ask.variants) else ask.variants or ())
    for variant in found:
        if not WORD.fullmatch(variant):
            raise SpecError(f"variants: {variant!r}: use letters, digits and '_': an id joins its parts by '-'")
    return found
