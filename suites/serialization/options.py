"""Build options in all pairs that can be asked for together, and what each of them asks of a builder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

from harness.spec import RECIPES, BuildConfig
from harness.spec.pairwise import pairwise

# By option, what a backend must be able to do; the builder flags that ask for it, in the order in which they are set.
NEEDS = {
    "sparse": "build",
    "tf32": "tf32",
    "compatible": "version_compatible",
    "excluded": "version_compatible",
    "hardware": "hardware_compatible",
    "refit": "refit",
    "stripped": "strip_plan",
    "streamed": "weight_streaming",
}
FLAGS: Mapping[str, tuple[str, ...]] = {
    "sparse": ("SPARSE_WEIGHTS",),
    "tf32": ("TF32",),
    "compatible": ("VERSION_COMPATIBLE",),
    "excluded": ("EXCLUDE_LEAN_RUNTIME",),
    "refit": ("REFIT",),
    "stripped": ("STRIP_PLAN",),
    "streamed": ("WEIGHT_STREAMING",),
}
LEVEL = "AMPERE_PLUS"  # of hardware compatibility
PLAIN = "plain"  # no option at all
# The options as they came: every pair of those that a version has is in a row without any that it lacks.
LAYERS = (("sparse", "tf32"), ("compatible", "excluded", "hardware", "refit"), ("stripped", "streamed"))


def admissible(row: Mapping[str, object]) -> bool:
    """What contradicts nothing by itself: the rest is for the builder to refuse.

    A lean runtime can be left out only of a plan that has one. TF32 is what makes the recipe tf32, and what the
    recipe fp32 is without; beside half types it is an option.
    """
    if row["excluded"] and not row["compatible"]:
        return False
    return {"tf32": bool(row["tf32"]), "fp32": not row["tf32"]}.get(str(row["precision"]), True)


@functools.cache
def rows() -> tuple[dict[str, object], ...]:
    """A precision and every option, on or off, in each."""
    found: tuple[dict[str, object], ...] = ()
    known: set[str] = set()
    for layer in LAYERS:
        known |= set(layer)
        factors: dict[str, tuple[object, ...]] = {"precision": tuple(RECIPES)}
        factors |= {option: (False, True) if option in known else (False,) for option in NEEDS}
        found = pairwise(factors, admissible, found)
    return found


def named(row: Mapping[str, object]) -> str:
    """What an id calls the options of ``row``: those that are on, joined; of TF32 the precision may say it."""
    on = [option for option in NEEDS if row[option] and not (option == "tf32" and row["precision"] == "tf32")]
    return "_".join(on) or PLAIN


def variants(precision: str) -> dict[str, dict[str, object]]:
    """The rows of one precision, by name."""
    return {named(row): row for row in rows() if row["precision"] == precision}


def options_of(row: Mapping[str, object]) -> list[str]:
    """The options that are on."""
    return [option for option in NEEDS if row[option]]


def asked(config: BuildConfig, row: Mapping[str, object]) -> BuildConfig:
    """``config`` with the options of ``row``.

    A plan without weights is good for nothing unless they can be put back: where ``REFIT`` is not asked for,
    they come back as they were.
    """
    flags = [flag for option in options_of(row) for flag in FLAGS.get(option, ())]
    if row["precision"] == "tf32":
        flags.remove("TF32")  # the recipe's own
    if row["stripped"] and not row["refit"]:
        flags.append("REFIT_IDENTICAL")
    level = LEVEL if row["hardware"] else config.hardware_compatibility
    return replace(config, flags=(*config.flags, *flags), hardware_compatibility=level)
