"""Timing caches: what a builder found out about tactics, for the next build to go by."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.errors import BuildError
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.protocol import REFUSED_TIMINGS, Array, BuildRequest

EDITABLE = "EDITABLE_TIMING_CACHE"  # builder flag: entries can be listed, and what they say is gone by


def attach(dialect: Dialect, config: Any, request: BuildRequest, logger: Any) -> Any:
    """The timing cache that a build will go by, ready for it; None where it goes by none.

    At optimization level 0 the first tactic that works is taken, and no version respects a timing cache
    (TensorRT's documentation of ``builder_optimization_level``, 8.6 to 11). BuildError for a cache that
    is refused.
    """
    asked = request.config
    if request.timing_cache is None or asked.optimization_level == 0 or "DISABLE_TIMING_CACHE" in asked.flags:
        return None
    if dialect.has_flag(EDITABLE):
        config.set_flag(dialect.member("BuilderFlag", EDITABLE))
    cache = _created(config, request.timing_cache, logger)
    with logger.listen() as heard, _without_notes():
        if not config.set_timing_cache(cache, ignore_mismatch=False) or heard.errors:
            raise _refusal(heard)
    return cache


def serialized(cache: Any) -> Array:
    """What ``cache`` knows, uint8 of one dimension."""
    return np.frombuffer(bytes(cache.serialize()), np.uint8)


def merged(dialect: Dialect, builder: Any, caches: Sequence[Array], logger: Any) -> Array:
    """As `Backend.merged`."""
    config = builder.create_builder_config()
    if dialect.has_flag(EDITABLE):
        config.set_flag(dialect.member("BuilderFlag", EDITABLE))
    # Each once: in RTX 1.7.1 a cache that is combined with itself never comes to an end.
    first, *others = dict.fromkeys(cache.tobytes() for cache in caches) or [b""]
    whole = _created(config, np.frombuffer(first, np.uint8), logger)
    for other in others:
        part = _created(config, np.frombuffer(other, np.uint8), logger)
        with logger.listen() as heard:
            if not whole.combine(part, ignore_mismatch=False) or heard.errors:
                raise _refusal(heard)
    return serialized(whole)


def _created(config: Any, data: Array, logger: Any) -> Any:
    """A timing cache that holds ``data``. BuildError when it takes nothing of it.

    Of what it can't read TensorRT makes an empty cache, with a warning and no error.
    """
    with logger.listen() as heard, _without_notes():
        cache = config.create_timing_cache(data.tobytes())
        if cache is None or heard.errors:
            raise _refusal(heard)
        if data.nbytes:
            nothing = serialized(config.create_timing_cache(b"")).nbytes
            if serialized(cache).nbytes == nothing != data.nbytes:
                raise _refusal(heard)
    return cache


def _refusal(heard: Any) -> BuildError:
    warned = [line for line in heard.log if line.startswith("[WARNING]")]
    words = heard.says(warned[-1] if warned else "no reason was given")
    return BuildError(f"the timing cache was refused: {words}", detail={REFUSED_TIMINGS: True})


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """RTX notes with every call that its timing caches do nothing: the capability says so already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
