"""Canaries of a night against their baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.ledger.baselines import Baseline, Baselines, Known
from harness.ledger.host import Canary, gained, moved, read, write

STILL = Canary("compute", "k1", "gpu, graph", (1e-3, 1.0002e-3, 0.9998e-3))
SESSIONS = (1e-3, 1.0005e-3, 0.9995e-3, 1.0002e-3, 0.9998e-3)


def held(*keys: str) -> Baselines:
    known = {"gpu, graph": Known("s", SESSIONS, 0.0005, 0.01)}
    return Baselines({}, active={key: Baseline(key, key, ("p",), ("s",), known) for key in keys})


def at(percent: float) -> Canary:
    return Canary("memory", "k2", "gpu, graph", tuple(value * (1 + percent / 100) for value in STILL.medians))


def test_a_host_that_stays_says_nothing() -> None:
    assert moved([STILL, at(0)], held("k1", "k2")) == ""


@pytest.mark.parametrize(("percent", "word"), [(1.5, "slower"), (-1.5, "faster")])
def test_a_canary_that_moved_is_named(percent: float, word: str) -> None:
    words = moved([STILL, at(percent)], held("k1", "k2"))
    assert words.startswith(f"canary memory: {word} by 1.5 %")
    assert "than 5 sessions before" in words


@pytest.mark.parametrize(("percent", "gain"), [(-5.0, 0.0513), (5.0, 0.0), (-0.5, 0.0)])
def test_what_the_host_gained_is_told(percent: float, gain: float) -> None:
    assert gained([STILL, at(percent)], held("k1", "k2")) == pytest.approx(gain, abs=1e-4)


def test_the_most_is_what_may_hide_most() -> None:
    both = [at(-5), replace(at(-2), key="k1")]
    assert gained(both, held("k1", "k2")) == pytest.approx(0.0513, abs=1e-4)
    assert gained([], held("k1")) == 0.0


def test_less_than_a_percent_is_no_move() -> None:
    assert moved([at(0.8)], held("k2")) == ""


def test_what_chance_explains_is_no_move() -> None:
    known = {"gpu, graph": Known("s", (0.98e-3, 1.02e-3, 1e-3), 0.0005, 0.01)}
    assert moved([at(1.5)], Baselines({}, active={"k2": Baseline("k2", "c", ("p",), ("s",), known)})) == ""


def test_a_canary_without_a_baseline_says_nothing() -> None:
    assert moved([at(5)], held("k1")) == ""


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path / "canaries.json", [STILL, at(1)])
    assert read(tmp_path / "canaries.json") == (STILL, at(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "3",
        "[3]",
        '[{"name": "a"}]',
        '[{"name": "a", "key": "k", "metric": "none", "medians": [1]}]',
        '[{"name": "a", "key": "k", "metric": "gpu, graph", "medians": []}]',
        '[{"name": "a", "key": "k", "metric": "gpu, graph", "medians": [0]}]',
        '[{"name": "a", "key": "k", "metric": "gpu, graph", "medians": 1}]',
    ],
)
def test_what_is_no_file_of_canaries_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(SpecError, match="canaries"):
        read(tmp_path / "x")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"x: the canaries of a night can't be read: No such file"):
        read(tmp_path / "x")
