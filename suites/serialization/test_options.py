"""Every two build options that go together, in every recipe: they build, load, run and agree, or are refused in words.

What the library refuses together is asked for again two by two, so that no option hides behind another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BuildError, UnsupportedError
from suites.serialization import options
from suites.serialization.facts import consistent as consistent
from suites.serialization.refused import reason
from suites.serialization.restored import restored
from suites.serialization.which import AXES, CONTRASTING

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Compare, Engines, Handle, ModelSpec, Plans
    from harness.spec import BuildConfig, EngineSpec, Recipe


def combinations(_: ModelSpec, recipe: Recipe) -> list[str]:
    return list(options.variants(recipe.name))


pairwise = pytest.mark.trt(models=CONTRASTING, variants=combinations, over=AXES)
run_too = pytest.mark.trt(needs="run")


@pytest.fixture
def row(trt_spec: EngineSpec, trt_variant: str) -> Mapping[str, object]:
    """The cell's options."""
    return options.variants(trt_spec.precision.name)[trt_variant]


def supported(row: Mapping[str, object], can: Callable[[str], bool]) -> None:
    """UnsupportedError for an option that this backend, here, does not have."""
    for option in options.options_of(row):
        if not can(options.NEEDS[option]):
            raise UnsupportedError(options.NEEDS[option], f"the option {option} can't be tried without it")


def by_parts(
    row: Mapping[str, object], config: BuildConfig, ask: Callable[[BuildConfig], None]
) -> Iterator[tuple[str, str]]:
    """Call ``ask`` with all the options of ``row`` and, should the builder refuse, with every two of them.

    What was refused, and why, in the library's own words.
    """
    try:
        ask(options.asked(config, row))
        return
    except BuildError as error:
        yield options.named(row), reason(error)
    on = options.options_of(row)
    for two in itertools.combinations(on, 2) if len(on) > 2 else ():
        part = {**row, **{option: option in two for option in on}}
        if options.admissible(part):
            try:
                ask(options.asked(config, part))
            except BuildError as error:
                yield options.named(part), reason(error)


@pairwise
def test_options_build(
    row: Mapping[str, object],
    trt_spec: EngineSpec,
    trt_plans: Plans,
    trt_can: Callable[[str], bool],
    trt_record: dict[str, Any],
) -> None:
    """Where nothing can run, this much is covered: of an option that needs a GPU to be of use, too."""

    def ask(config: BuildConfig) -> None:
        try:
            assert trt_plans(config=config).data.nbytes > 0, "the plan is empty"
        except BuildError as error:
            if error.crash is None:
                supported(row, trt_can)
            raise

    trt_record["refused"] = dict(by_parts(row, trt_spec.config, ask))


@pairwise
@run_too
def test_options(
    row: Mapping[str, object],
    trt_spec: EngineSpec,
    trt_engines: Engines,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_can: Callable[[str], bool],
    consistent: Callable[[Handle], None],
    trt_record: dict[str, Any],
) -> None:
    supported(row, trt_can)

    def ask(config: BuildConfig) -> None:
        stripped = "STRIP_PLAN" in config.flags
        engine = trt_engines(config=config, private=stripped)
        consistent(engine)
        if stripped:
            restored(engine)
        trt_compare(engine.session().run(trt_inputs), trt_oracle(trt_inputs))

    trt_record["refused"] = dict(by_parts(row, trt_spec.config, ask))
