"""Options in pairs: every one that goes together is asked for, and asked for as a builder wants it."""

from __future__ import annotations

import pytest

from harness.errors import BuildError
from harness.spec import RECIPES, BuildConfig
from harness.spec.pairwise import pairs, product
from suites.serialization import options
from suites.serialization.refused import reason

ROWS = options.rows()


def of_layers(count: int) -> dict[str, tuple[object, ...]]:
    """The factors as they are for a version that has the first ``count`` layers of options."""
    known = {option for layer in options.LAYERS[:count] for option in layer}
    factors: dict[str, tuple[object, ...]] = {"precision": tuple(RECIPES)}
    return factors | {option: (False, True) if option in known else (False,) for option in options.NEEDS}


def test_every_option_is_in_a_layer() -> None:
    assert sorted(option for layer in options.LAYERS for option in layer) == sorted(options.NEEDS)
    assert {*options.FLAGS, "hardware"} == set(options.NEEDS)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_pair_that_goes_together_is_asked_for(count: int) -> None:
    """By rows that have no option of a later layer on: a version without those misses nothing that it has."""
    factors = of_layers(count)
    later = [option for option in options.NEEDS if factors[option] == (False,)]
    here = [row for row in ROWS if not any(row[option] for option in later)]
    wanted = {pair for row in product(factors) if options.admissible(row) for pair in pairs(row)}
    assert wanted <= {pair for row in here for pair in pairs(row)}
    assert all(options.admissible(row) for row in ROWS)
    assert len(here) <= (8, 15, 20)[count - 1], "few enough to be built in every run"


def test_names_tell_rows_apart() -> None:
    assert sum(len(options.variants(name)) for name in RECIPES) == len(ROWS)
    assert options.PLAIN in options.variants("fp32")
    for name in RECIPES:
        for variant, row in options.variants(name).items():
            assert (row["precision"], options.named(row)) == (name, variant)


def row(precision: str, *on: str) -> dict[str, object]:
    return {"precision": precision, **{option: option in on for option in options.NEEDS}}


def test_what_is_asked_of_the_builder() -> None:
    base = BuildConfig(flags=("DEBUG",), optimization_level=1)
    asked = options.asked(base, row("fp32", "excluded", "compatible", "hardware", "refit", "stripped"))
    assert asked.flags == ("DEBUG", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "REFIT", "STRIP_PLAN")
    assert (asked.hardware_compatibility, asked.optimization_level) == ("AMPERE_PLUS", 1)
    assert options.asked(base, row("tf32", "tf32", "sparse")).flags == ("DEBUG", "SPARSE_WEIGHTS")
    assert options.asked(base, row("fp16", "tf32")).flags == ("DEBUG", "TF32")
    assert options.asked(base, row("fp32", "stripped")).flags == ("DEBUG", "STRIP_PLAN", "REFIT_IDENTICAL")
    assert options.asked(base, row("fp32")) == base


def test_what_contradicts_itself_is_not_asked_for() -> None:
    assert not options.admissible(row("fp32", "excluded"))
    assert options.admissible(row("fp32", "excluded", "compatible"))
    assert not options.admissible(row("fp32", "tf32"))
    assert not options.admissible(row("tf32"))
    assert options.admissible(row("fp16", "tf32"))


def test_a_refusal_has_the_librarys_own_words() -> None:
    log = ("[INFO] parsing", "[ERROR] 4: these do not go together")
    assert reason(BuildError("these do not go together\nat all", log=log)) == "these do not go together"
    for error in (
        BuildError("these do not go together", log=log, crash="signal 11 (SIGSEGV)"),
        BuildError("the builder returned no plan and named no reason", log=("[INFO] parsing",)),
        BuildError(" ", log=log),
    ):
        with pytest.raises(BuildError) as raised:
            reason(error)
        assert raised.value is error
