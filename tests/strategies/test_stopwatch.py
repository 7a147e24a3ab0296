"""Each second is counted once."""

from __future__ import annotations

import pytest

from harness.strategies.stopwatch import Stopwatch


def test_what_happens_in_a_stage_within_another_is_the_inner_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 5.0, 6.0, 100.0, 102.0])
    monkeypatch.setattr("harness.strategies.stopwatch.time.perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    with watch.of("run"), watch.of("oracle"):
        pass
    with watch.of("run"):
        pass
    assert watch.seconds == {"run": 4.0, "oracle": 4.0}


def test_a_stage_that_fails_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 3.0])
    monkeypatch.setattr("harness.strategies.stopwatch.time.perf_counter", lambda: next(ticks))
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.of("run"):
        raise ZeroDivisionError
    assert watch.seconds == {"run": 3.0}
