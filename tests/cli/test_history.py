"""`trt-harness history`: a series of a store, drawn with what is known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import batch
from harness.ledger.baseline_file import write as write_baselines
from harness.ledger.baselines import Baseline, Baselines, Known
from harness.ledger.policy import DEFAULTS
from harness.ledger.series import Alerted, alerts_of, note
from harness.ledger.store import Store
from tests.cli.conftest import Trt

CELL, METRIC = "bert-fp16-opt-fake on a GPU", "gpu, graph"
HERE = {"library": "8.6.1", "driver": "580", "host": "h1"}
NIGHTS, STEP = 40, 25
DAY = 86_400.0
Environment = Callable[[int], Mapping[str, str]]


def fill(
    folder: Path,
    cell: str = CELL,
    metric: str = METRIC,
    *,
    step: float = 0.05,
    environment: Environment = lambda _: HERE,
    unit: str = "s",
    said: Sequence[str] = ("REGRESSION",),
) -> None:
    """Nights of a cell, slower by ``step`` from night `STEP` on, and what was ``said`` of the last."""
    rng = np.random.default_rng(1)
    series = batch.Series(f"key of {cell}", cell, metric, unit)
    made = batch.Batch()
    for night in range(NIGHTS):
        value = 1e-3 * (1 + (step if night >= STEP else 0.0)) * float(np.exp(0.001 * rng.standard_normal()))
        session = batch.Session(f"night-{night:02d}", 1.8e9 + night * DAY, f"c{night:02d}")
        made.measurements.append(
            batch.Measurement(series, session, value, 0.001, 4, dict(environment(night)), ("plan",))
        )
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"))
    for outcome in said:
        row = {"question": "rebuilt", "outcome": outcome, "fails": True, "words": f"{cell} is slower", **numbers}
        made.comparisons.append((session, series, row))
    with Store(folder / ".trt-harness" / "store.sqlite") as store:
        batch.write(store, made)


def test_a_change_is_drawn_and_told(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path)
    known = Known("s", (1e-3, 1e-3), 0.001, 0.01)
    baseline = Baseline(f"key of {CELL}", CELL, ("plan",), ("a", "b"), {METRIC: known}, reason="r", actor="ada")
    write_baselines(tmp_path / "trt-baselines.toml", Baselines(DEFAULTS, active={baseline.key: baseline}))
    done = trt("history", "bert-fp16*")
    assert done.code == 0
    for words in (
        f"{CELL}: {METRIC}",
        "1: slower by",
        "commits c24..c25",
        "baseline 0.001 s",
        "40 nights",
        f"REGRESSION: {CELL} is",
    ):
        assert words in done.out
    (told,) = trt("history", "bert-fp16*", "--json").json["series"]
    (change,) = told["changes"]
    assert (change["index"], change["cause"], change["commits"]) == (STEP, "unexplained", "c24..c25")
    assert abs(np.expm1(change["estimate"]) - 0.05) < 0.005
    assert told["baseline"] == pytest.approx(1e-3)
    assert len(told["nights"]) == NIGHTS


def keep(folder: Path, night: int = STEP) -> None:
    """What a night keeps, which had its change begin with that ``night``."""
    with Store(folder / ".trt-harness" / "store.sqlite") as store:
        (found,) = alerts_of(store, {f"key of {CELL}"}, datetime.fromtimestamp(0, timezone.utc))
        ((line, change),) = found.changes
        at = datetime.fromtimestamp(1.8e9 + night * DAY, timezone.utc)
        bad = dataclasses.replace(change.bad, at=at, session=f"night-{night:02d}")
        assert note(store, [Alerted(found.words, ((line, dataclasses.replace(change, bad=bad)),))]) == 1


def decide(folder: Path, outcome: str) -> None:
    """Two nights after all, whose processes were interleaved with those of the baseline's plan."""
    series, made = batch.Series(f"key of {CELL}", CELL, METRIC, "s"), batch.Batch()
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"), 0.01)
    row = {"question": "rebuilt", "outcome": outcome, "fails": False, "words": "", **numbers}
    for name, night in (("the-next-night", NIGHTS), ("the-one-after", NIGHTS + 1)):
        made.comparisons.append((batch.Session(name, 1.8e9 + night * DAY), series, row))
    with Store(folder / ".trt-harness" / "store.sqlite") as store:
        batch.write(store, made)


def test_a_change_is_told_with_what_decided_it(trt: Trt, tmp_path: Path) -> None:
    def told() -> tuple[str, str]:
        (line,) = (line for line in trt("history", CELL).out.splitlines() if line.startswith("1: slower by"))
        ((change,),) = (one["changes"] for one in trt("history", CELL, "--json").json["series"])
        return line.rpartition(" nights after: ")[2], change["standing"]

    fill(tmp_path)
    assert told() == ("no night has kept it",) * 2
    keep(tmp_path)
    assert told() == ("confirmed by night-39",) * 2, "which said that it is a regression"
    decide(tmp_path, "PASS")
    assert told() == ("cleared by the-next-night and the-one-after",) * 2


@pytest.mark.parametrize(("outcome", "left"), [("INCONCLUSIVE", "open"), ("PASS", "")])
def test_a_change_that_is_no_longer_found_is_told_until_it_is_cleared(
    trt: Trt, tmp_path: Path, outcome: str, left: str
) -> None:
    fill(tmp_path, said=())
    keep(tmp_path, night=5)
    decide(tmp_path, outcome)
    out, (told,) = trt("history", CELL).out, trt("history", CELL, "--json").json["series"]
    lines = [line for line in out.splitlines() if line.startswith("of an earlier night: ")]
    assert lines == [f"of an earlier night: {one}" for one in told["kept"]]
    assert [line.rpartition(": ")[2] for line in lines] == [left] * bool(left)
    assert all("change point of 2027-01-20: slower by" in line for line in lines)


def test_a_store_of_the_first_schema_is_drawn(trt: Trt, tmp_path: Path) -> None:
    """Nothing has kept a change there."""
    fill(tmp_path)
    with Store(tmp_path / ".trt-harness" / "store.sqlite") as store:
        store.migrate("0001")
    (told,) = trt("history", CELL, "--json").json["series"]
    assert [change["standing"] for change in told["changes"]] == ["no night has kept it"]


def test_a_level_without_a_change_has_none(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path, step=0.0)
    (told,) = trt("history", CELL, "--json").json["series"]
    assert told["changes"] == []


def test_another_driver_is_an_epoch_and_no_change_of_the_cell(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path, environment=lambda night: {**HERE, "driver": "590" if night >= STEP else "580"})
    (told,) = trt("history", CELL, "--json").json["series"]
    assert [epoch["start"] for epoch in told["epochs"]] == [0, STEP]
    assert [change["cause"] for change in told["changes"]] == ["environment"]


def test_what_a_canary_shows_is_the_hosts(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, "canary_compute_gpu-fp32-opt-fake on a GPU")
    (told,) = trt("history", "bert*", "--json").json["series"]
    assert [change["cause"] for change in told["changes"]] == ["host"]
    fill(tmp_path, "gpt-fp16-opt-fake on another GPU")
    (told,) = trt("history", "gpt*", "--json").json["series"]
    assert [change["cause"] for change in told["changes"]] == ["unexplained"], "the canary is another device's"
    (own,) = trt("history", "canary*", "--json").json["series"]
    assert [change["cause"] for change in own["changes"]] == ["unexplained"]


def test_machines_that_take_turns_are_two_series(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path, environment=lambda night: {**HERE, "host": f"h{night % 2}"})
    told = trt("history", CELL, "--json").json["series"]
    assert [one["machine"] for one in told] == ["h0", "h1"]
    assert [len(one["nights"]) for one in told] == [NIGHTS // 2, NIGHTS // 2]
    assert all(len(one["epochs"]) == 1 for one in told)


def test_a_metric_is_asked_for_by_name(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, metric="build", step=0.0)
    assert [one["metric"] for one in trt("history", "bert*", "--json").json["series"]] == [METRIC]
    assert [one["metric"] for one in trt("history", "bert*", "--metric", "bu*", "--json").json["series"]] == ["build"]


def test_more_of_a_throughput_is_better(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path, metric="throughput", unit="runs/s")
    assert "1: higher by" in trt("history", "bert*").out


def test_what_is_not_there_is_said_with_what_is(trt: Trt, tmp_path: Path) -> None:
    fill(tmp_path)
    done = trt("history", "gpt*")
    assert (done.code, CELL in done.err) == (3, True)
    done = trt("history", "bert*", "--metric", "throughput")
    assert (done.code, METRIC in done.err) == (3, True)
    assert trt("history", "gpt*", "--json").json == {"series": [], "exit_code": 3}


def test_without_a_store(trt: Trt) -> None:
    assert trt("history", "bert*").code == 2
