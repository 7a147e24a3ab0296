"""What a short night is to measure first, by what a store knows of the nights before."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from harness.ledger.batch import Batch, Series, write
from harness.ledger.ingest import _row
from harness.ledger.store import Store
from harness.ledger.worth import NEVER, Worth, in_turns
from tests.ledger.stored import DAY, METRICS, START, batch, record, series, session
from tests.ledger.test_change_states import measured as slower
from tests.ledger.test_change_states import searched

HELD, OTHERS = 1, 2


def on(cell: int, device: str = "a GPU") -> Series:
    """That of `series`, on a device."""
    return replace(series(cell), cell=f"bert-{cell} on {device}", cell_key=f"{cell} on {device}")


def night(store: Store, number: int, outcomes: dict[Series, str], question: str = "rebuilt") -> None:
    """One that measured cells, and said so of each."""
    made = batch([0], [number])
    (one,) = made.measurements
    made.measurements = [replace(one, series=of) for of in outcomes]
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"))
    for of, outcome in outcomes.items():
        row = {"question": question, "outcome": outcome, "fails": False, "words": "", **numbers}
        made.comparisons.append((session(number), of, row))
    write(store, made)


def test_trouble_is_that_of_each_cells_own_last_night(store: Store) -> None:
    """A night that has time for one half does not forget the trouble of the other."""
    night(store, 0, {on(0): "REGRESSION", on(1): "INCONCLUSIVE", on(2): "PASS"})
    night(store, 1, {on(1): "PASS"})
    assert Worth.by(store, ()).troubled == {"bert-0"}
    night(store, 2, {on(2): "UNSTABLE"})
    assert Worth.by(store, ()).troubled == {"bert-0", "bert-2"}
    night(store, 3, {on(0): "PASS"})
    assert Worth.by(store, ()).troubled == {"bert-2"}


def test_what_is_stored_later_may_be_older(store: Store) -> None:
    night(store, 1, {on(0): "PASS", on(1): "REGRESSION"})
    night(store, 0, {on(0): "REGRESSION", on(1): "PASS"})
    worth = Worth.by(store, ())
    assert worth.troubled == {"bert-1"}
    assert worth.of("bert-0")[1] == worth.of("bert-1")[1] == START + DAY


def test_what_was_held_against_nothing_or_by_hand_ends_no_trouble(store: Store) -> None:
    night(store, 0, {on(0): "REGRESSION"})
    night(store, 1, {on(0): "NOTED"})
    night(store, 2, {on(0): "PASS"}, question="compare")
    assert Worth.by(store, ()).troubled == {"bert-0"}
    night(store, 3, {on(1): "REGRESSION"}, question="compare")
    assert Worth.by(store, ()).troubled == {"bert-0"}


def test_one_metric_of_a_night_is_enough(store: Store) -> None:
    night(store, 0, {on(0): "FAILED", replace(on(0), metric=METRICS[1]): "PASS"})
    assert Worth.by(store, ()).troubled == {"bert-0"}


def test_what_decides_nothing_is_trouble_only_where_it_is_worse(store: Store) -> None:
    """The energy of a short run is open every night."""
    night(store, 0, {on(0): "PASS", replace(on(0), metric="energy"): "INCONCLUSIVE"})
    night(store, 0, {on(1): "PASS", replace(on(1), metric="energy"): "REGRESSION"})
    assert Worth.by(store, ()).troubled == {"bert-1"}


def test_a_cells_own_last_night_counts_however_long_ago(store: Store) -> None:
    night(store, 0, {on(0): "PASS", on(1): "REGRESSION", replace(on(2), metric=METRICS[1]): "REGRESSION"})
    night(store, 1, {on(0): "REGRESSION", on(1): "PASS", on(2): "PASS"})
    night(store, 300, {on(3): "PASS"})
    assert Worth.by(store, ()).troubled == {"bert-0"}


def test_trouble_comes_first_then_what_is_held_then_what_was_measured_longest_ago(store: Store) -> None:
    for number, cell in enumerate((3, 2, 1, 0, 4)):
        night(store, number, {on(cell): "REGRESSION" if cell == 4 else "PASS"})
    worth = Worth.by(store, ["bert-0 on a GPU", "bert-1 on another GPU", "bert-5 on a GPU"])
    names = [f"bert-{cell}" for cell in range(7)]
    assert sorted(names, key=worth.of) == ["bert-4", "bert-5", "bert-1", "bert-0", "bert-6", "bert-3", "bert-2"]
    assert worth.of("bert-6") == (Worth.LEAST, NEVER)
    assert worth.of("bert-2")[1] == START + DAY
    assert worth.unmeasured > max(map(worth.of, names))


@pytest.mark.parametrize("troubled", [0, 1, 4, 12])
@pytest.mark.parametrize("held", [0, 6, 12])
@pytest.mark.parametrize("time", [2, 3, 4, 12])
def test_every_cell_is_measured_within_so_many_nights(troubled: int, held: int, time: int) -> None:
    """Of 12, of which a night measures ``time``; trouble that does not end has no more than every other place."""
    names = [f"bert-{cell}" for cell in range(12)]
    trouble, baselines = frozenset(names[:troubled]), frozenset(names[-held:] if held else ())
    alike = len({Worth(trouble, baselines=baselines).of(name)[0] for name in names}) == 1
    bound = math.ceil(12 / (time if alike else time // 2))
    last: dict[str, float] = {}
    for night in range(90):
        worth = Worth(trouble, frozenset(), baselines, last)
        found = in_turns({name: [worth.of(name)] for name in names})
        assert sorted(found) == sorted(names)
        assert min(map(worth.of, names)) == worth.of(found[0]), "what is worth most comes first"
        last |= dict.fromkeys(found[:time], float(night))
        if night >= bound - 1:
            assert set(last) == set(names)
            assert min(last.values()) > night - bound


def test_a_cell_that_comes_to_no_measurement_was_begun_all_the_same(store: Store) -> None:
    """It fails on the way, and would be the one measured longest ago on every night."""
    made = Batch()
    for number, verdict in enumerate(("failed", "error", "not_covered", "not_covered", "passed")):
        message = "budget: not run" if number == 3 else "fp8: no Hopper"
        row = _row(replace(record(number), verdict=verdict, message=message), "{}")
        made.records += [(session(1), row), (session(0), {**row, "message": f"{message}, again"})]
    write(store, made)
    worth = Worth.by(store, ())
    assert [worth.of(f"model{number}", f"suites/x.py::t[{number}]") for number in range(5)] == [
        *[(Worth.LEAST, START + DAY)] * 3,
        (Worth.LEAST, START),
        (Worth.LEAST, NEVER),
    ]


def test_another_process_is_told_the_same(store: Store) -> None:
    night(store, 0, {on(0): "REGRESSION", on(1): "PASS"})
    slower(store)
    searched(store)
    worth = replace(Worth.by(store, ["bert-1 on a GPU"]), begun={"suites/x.py::t[0]": START})
    assert worth.troubled
    assert worth.changed
    assert Worth.of_plain(json.loads(json.dumps(worth.plain()))) == worth


def test_on_any_device(store: Store) -> None:
    night(store, 0, {on(0, "one GPU"): "REGRESSION", on(1): "PASS"})
    night(store, 1, {on(0, "another GPU"): "PASS"})
    worth = Worth.by(store, ())
    assert worth.of("bert-0") == (0, START + DAY), "what gave trouble on one is trouble; it was measured on the other"
    assert worth.of("bert") == (Worth.LEAST, NEVER), "a name is whole"


def test_without_a_store_the_order_is_left_alone() -> None:
    worth = Worth(baselines=frozenset(["bert-0"]))
    assert worth.of("bert-0") == (1, NEVER)
    assert worth.of("bert-1") == worth.unmeasured


def test_a_change_point_is_worth_as_much_as_trouble_until_it_is_cleared(store: Store) -> None:
    slower(store)
    assert Worth.by(store, ["bert on a GPU"]).of("bert")[0] == HELD
    searched(store)
    worth = Worth.by(store, ["bert on a GPU"])
    assert worth.of("bert")[0] == 0
    assert worth.troubled == frozenset()
    made = Batch()
    numbers = dict.fromkeys(("low", "high", "visible", "p"), 0.0)
    row = {"question": "rebuilt", "outcome": "PASS", "fails": False, "words": "", "estimate": 0.0, **numbers}
    for number in (9998, 9999):
        made.comparisons.append((session(number), Series("k", "bert on a GPU", "gpu, graph", "s"), row))
    write(store, made)
    assert Worth.by(store, ["bert on a GPU"]).of("bert")[0] == HELD


def test_a_change_point_of_another_model_that_had_the_name_is_past(store: Store) -> None:
    slower(store)
    searched(store)
    night(store, 9999, {Series("another key", "bert on a GPU", "gpu, graph", "s"): "NOTED"})
    assert Worth.by(store, ()).of("bert")[0] == OTHERS
