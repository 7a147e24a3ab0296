"""Precision recipes: what is done to a model, and asked of a builder, to get a precision."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import SpecError


@dataclass(frozen=True)
class Recipe:
    """One way to a precision.

    ``convert`` is the floating type the model is converted to before a backend sees it (inputs and
    outputs keep theirs), or None for the model as it is. ``flags`` are builder flags by name.
    ``typing`` is "strong" where the types in the model are meant literally: a TensorRT without
    strong typing then gets ``flags`` as the nearest it can do, one with it gets no flags; "weak"
    where the builder may choose, which needs a TensorRT that still lets it.
    """

    name: str
    convert: str | None
    flags: tuple[str, ...]
    typing: str  # "strong", "weak", or "any" where both mean the same
    needs: tuple[str, ...]  # capabilities, by name


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", None, (), "any", ()),
        Recipe("tf32", None, ("TF32",), "any", ("tf32",)),
        Recipe("fp16", "float16", ("FP16",), "strong", ("fp16",)),
        Recipe("fp16-weak", None, ("FP16",), "weak", ("fp16", "weak_typing")),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe called ``name``. SpecError lists what there is."""
    try:
        return RECIPES[name]
    except KeyError:
        raise SpecError(f"unknown precision {name!r}: choose from {', '.join(RECIPES)}") from None
