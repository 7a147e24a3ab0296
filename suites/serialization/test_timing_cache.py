"""Timing caches: what a builder found out once spares the next build, and nothing foreign is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.errors import BuildError
from harness.report.layer_diff import ONLY_A, ONLY_B, Change, LayerDiff, Match, diff
from harness.report.layers import DETAILED, read

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Engines, Handle
    from harness.spec import BuildConfig, EngineSpec

MISS = "ERROR_ON_TIMING_CACHE_MISS"  # builder flag
BEGINNING = 64  # bytes, which hold whatever says what the rest is
# Those of which tactics are known to depend on timing; each is built a few times.
timed = pytest.mark.trt(
    models=("mlp", "conv", "bert"),
    precisions=("fp32", "fp16"),
    over=("model", "precision", "backend"),
    needs="timing_cache",
)


@pytest.fixture
def nothing_yet() -> Array:
    """A timing cache that knows nothing: the build that begins with it is cold, and its timings are kept."""
    return np.zeros(0, np.uint8)


@pytest.fixture
def config(trt_spec: EngineSpec) -> BuildConfig:
    """The cell's build options, at a level at which a builder times tactics: at 0 it respects no timing cache."""
    asked = trt_spec.config
    return replace(asked, optimization_level=1) if asked.optimization_level == 0 else asked


@timed
def test_reuse_spares_a_build(
    trt_engines: Engines, config: BuildConfig, nothing_yet: Array, trt_record: dict[str, Any]
) -> None:
    """Judged by what the builder leaves: it had nothing to add. How long each took is recorded, and no verdict."""
    cold = trt_engines(config=config, rebuilt=True, timing_cache=nothing_yet)
    warm = trt_engines(config=config, rebuilt=True, timing_cache=known(cold))
    sizes = {"cold": known(cold).nbytes, "warm": known(warm).nbytes}
    trt_record["timing_cache_reuse"] = {
        "bytes": sizes,
        "build_seconds": {"cold": cold.timings["build"], "warm": warm.timings["build"]},
    }
    assert sizes["warm"] == sizes["cold"], f"{sizes['warm'] - sizes['cold']} bytes were found out once more"


@timed
def test_one_timing_cache_gives_one_engine(
    trt_engines: Engines, config: BuildConfig, nothing_yet: Array, trt_record: dict[str, Any]
) -> None:
    """With one timing cache the tactics stay the same: those of the build that filled it, and of any after it."""
    telling = replace(config, profiling_verbosity=DETAILED)
    cold = trt_engines(config=telling, rebuilt=True, timing_cache=nothing_yet)
    first, second = (trt_engines(config=telling, rebuilt=True, timing_cache=known(cold)) for _ in range(2))
    trt_record["timing_cache_differences"] = {
        "a build that went by it, against the one that filled it": differences(cold, first),
        "two builds that went by it": differences(first, second),
    }
    assert not any(trt_record["timing_cache_differences"].values()), trt_record["timing_cache_differences"]


@timed
@pytest.mark.trt(precisions="fp32")
def test_a_foreign_one_is_refused(trt_engines: Engines, config: BuildConfig, nothing_yet: Array) -> None:
    """In words, and by whatever the builder makes of it; and the next build is as good as ever."""
    whole = known(trt_engines(config=config, rebuilt=True, timing_cache=nothing_yet))
    believed = [
        name
        for name, data in foreign(whole).items()
        if not is_refused(trt_engines, config, np.frombuffer(data, np.uint8))
    ]
    assert not believed, "a builder went by these"
    again = known(trt_engines(config=config, rebuilt=True, timing_cache=whole)).nbytes
    assert again == whole.nbytes, f"after the refusals the good one grew from {whole.nbytes} to {again} bytes"


@timed
@pytest.mark.trt(needs="timing_cache_miss")
def test_an_unknown_tactic_is_an_error(trt_engines: Engines, config: BuildConfig, nothing_yet: Array) -> None:
    """Where that is asked for; and what is known is no error."""
    strict = replace(config, flags=(*config.flags, MISS))
    filled = known(trt_engines(config=config, rebuilt=True, timing_cache=nothing_yet))
    with pytest.raises(BuildError):
        trt_engines(config=strict, rebuilt=True, timing_cache=nothing_yet)
    after = known(trt_engines(config=strict, rebuilt=True, timing_cache=filled)).nbytes
    assert after == filled.nbytes, f"all was known, and {filled.nbytes} bytes became {after}"


def known(engine: Handle) -> Array:
    """What the timing cache of its build has become."""
    assert engine.timing_cache is not None, "the build gave no timing cache back"
    assert engine.timing_cache.nbytes, "the build found out nothing"
    return engine.timing_cache


def foreign(whole: Array) -> Mapping[str, bytes]:
    """What no builder may go by: things that are none, and one that its first bytes, or its end, belie."""
    data = whole.tobytes()
    return {
        "text": b"not a timing cache, but a sentence\n" * 8,
        "zeros": bytes(len(data)),
        "another beginning": bytes(byte ^ 0xFF for byte in data[:BEGINNING]) + data[BEGINNING:],
        "cut in half": data[: len(data) // 2],
    }


def is_refused(engines: Engines, config: BuildConfig, cache: Array) -> bool:
    """Whether a build says so, in words; a builder that dies of it has not refused it."""
    from harness.runtime.backend.protocol import REFUSED_TIMINGS

    try:
        engines(config=config, rebuilt=True, timing_cache=cache)
    except BuildError as error:
        if error.crash is not None or not error.detail.get(REFUSED_TIMINGS):
            raise
        return True
    return False


def differences(one: Handle, other: Handle) -> list[str]:
    """What the inspector tells otherwise of ``other``: a line for each layer, or for the layers that one alone has."""
    found = diff(read(one.inspect()), read(other.inspect()))
    told = [f"{match.name}: {change.what}: {change.before}, then {change.after}" for match, change in changed(found)]
    return [*told, *(f"{count} layers {what}" for what, count in found.counts.items() if what in (ONLY_A, ONLY_B))]


def changed(found: LayerDiff) -> list[tuple[Match, Change]]:
    return [(match, change) for match in found.changed for change in match.changes]
