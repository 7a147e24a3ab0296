"""``baseline``: from sessions in a store to a file that is reviewed, and the trail of who did it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.errors import SpecError
from harness.ledger import batch, decisions
from harness.ledger.baseline_file import read, write
from harness.ledger.baselines import Baselines, State
from harness.ledger.kept import Kept
from harness.ledger.policy import DEFAULTS
from harness.ledger.retention import prune
from harness.ledger.store import Store

HERE = {"library": "8.6.1", "driver": "580"}
Run = Callable[..., tuple[int, dict[str, Any]]]


def night(
    store: Store, number: int, value: float, plan: str, cells: Sequence[str] = ("bert",), *, samples: bool = False
) -> None:
    """A session of ``cells`` in the store, long ago."""
    session = batch.Session(f"night-{number}", 1e9 + number)
    made = batch.Batch()
    for cell in cells:
        series, key = batch.Series(f"key of {cell}", cell, "gpu, graph", "s"), None
        if samples and store.samples is not None:
            key, nbytes = store.samples.put([{"graph": {"gpu": np.full(9, float(number))}}])
            made.artifacts.append({"key": key, "nbytes": nbytes, "at": session.at, "gone": False})
        one = batch.Measurement(series, session, value, 0.001, 4, HERE, (plan,), artifact=key)
        made.measurements.append(one)
    batch.write(store, made)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRT_HARNESS_ACTOR", "ada")
    return Store(tmp_path / ".trt-harness" / "store.sqlite")


@pytest.fixture
def plan(tmp_path: Path) -> str:
    """The digest of a plan that is kept."""
    return Kept(tmp_path / ".trt-harness" / "plans").put(np.arange(9, dtype=np.uint8))


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``baseline ARGUMENTS --json``: the exit code, and what was printed; "said" for people."""

    def run(*arguments: str, group: str = "baseline") -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["trt-harness", group, *arguments, "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return int(left.value.code or 0), {**json.loads(printed.out), "said": printed.err}

    return run


def test_nothing_to_propose(store: Store, plan: str, cli: Run) -> None:
    night(store, 1, 1e-3, plan)
    code, told = cli("propose")
    assert code == 3
    assert "2 are needed" in told["refused"]["bert"]


def test_from_sessions_to_the_file(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    code, told = cli("propose", "--output", "review")
    assert code == 0
    assert told["proposed"] == [{"cell": "bert", "loosens": False}]
    assert (tmp_path / "review" / "trt-baselines.toml.diff").read_text() == told["difference"]
    assert "| gpu, graph |" in (tmp_path / "review" / "evidence.md").read_text()
    assert not (tmp_path / "trt-baselines.toml").exists()  # nothing changes until somebody accepts it

    code, told = cli("accept", "be*", "--reason", "the first")
    assert (code, told["accepted"]) == (0, ["bert"])
    (accepted,) = read(tmp_path / "trt-baselines.toml").active.values()
    assert (accepted.reason, accepted.actor, accepted.plans) == ("the first", "ada", (plan,))
    assert accepted.sessions == ("night-1", "night-2")
    assert [event.action for event in decisions.trail(store)] == ["propose", "accept"]


def accepted(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    cli("accept", "*", "--reason", "the first")


def test_what_loosens_is_accepted_only_on_demand(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    accepted(store, plan, cli)
    before = (tmp_path / "trt-baselines.toml").read_text()
    for number in (3, 4):
        night(store, number, 1.05e-3, plan)
    # The same plan, slower: the last sessions in a row count, and those from before are of it as well.
    _, told = cli("propose")
    assert told["proposed"] == [{"cell": "bert", "loosens": True}]
    code, told = cli("accept", "*", "--reason", "why not")
    assert code == 3
    assert "--loosen" in told["left"]["bert"]
    assert (tmp_path / "trt-baselines.toml").read_text() == before
    code, _ = cli("accept", "*", "--reason", "the driver costs that", "--loosen")
    assert code == 0
    assert (tmp_path / "trt-baselines.toml").read_text() != before
    assert sorted(one.state.value for one in decisions.filed(store, *State)) == ["active", "superseded"]


def test_a_plan_that_is_not_kept_is_no_baseline(store: Store, cli: Run, tmp_path: Path) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, 64 * "a")
    cli("propose")
    code, told = cli("accept", "*", "--reason", "the first")
    assert code == 3
    assert "not there" in told["left"]["bert"]
    assert not (tmp_path / "trt-baselines.toml").exists()


def test_what_is_accepted_but_for_some_leaves_something_open(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
        night(store, number, 1e-3, 64 * "a", ("gpt",))
    cli("propose")
    code, told = cli("accept", "*", "--reason", "the first")
    assert (code, told["accepted"], told["left"].keys()) == (4, ["bert"], {"gpt"})


def test_what_is_rejected_is_not_proposed_again(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    code, told = cli("reject", "bert", "--reason", "a bad week")
    assert (code, told["rejected"]) == (0, ["bert"])
    cli("propose")
    assert decisions.filed(store, State.PROPOSED) == []
    assert cli("accept", "*", "--reason", "x")[0] == 3


def test_rejected_sessions_dont_come_back_with_later_ones(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan, ("bert", "gpt"))
    cli("propose")
    cli("reject", "bert", "--reason", "a bad week")
    night(store, 3, 1e-3, plan, ("bert", "gpt"))
    _, told = cli("propose")
    assert [one["cell"] for one in told["proposed"]] == ["gpt"]
    assert told["refused"] == {"bert": "1 session in this environment since those that were rejected: 2 are needed"}
    night(store, 4, 1e-3, plan)
    cli("propose", "bert")
    (filed,) = (one for one in decisions.filed(store, State.PROPOSED) if one.baseline.cell == "bert")
    assert filed.baseline.sessions == ("night-3", "night-4")


def test_rejecting_leaves_no_older_proposal_open(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2, 3):
        night(store, number, 1e-3, plan)
        cli("propose")
    assert len(decisions.filed(store, State.PROPOSED)) == 2
    cli("reject", "bert", "--reason", "a bad week")
    assert decisions.filed(store, State.PROPOSED) == []


def test_what_was_proposed_before_is_no_way_back(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    """Of two proposals the last is accepted; the first is over, and allows more than what is active now."""
    for number in (1, 2):
        night(store, number, 1.2e-3, 64 * "a")
    cli("propose")
    for number in (3, 4):
        night(store, number, 1e-3, plan)
    cli("propose")
    assert cli("accept", "*", "--reason", "faster")[1]["accepted"] == ["bert"]
    accepted_ = (tmp_path / "trt-baselines.toml").read_text()
    assert cli("accept", "*", "--reason", "again")[0] == 3
    assert (tmp_path / "trt-baselines.toml").read_text() == accepted_
    assert [one.state for one in decisions.filed(store, *State)] == [State.SUPERSEDED, State.ACTIVE]


def test_whether_it_loosens_is_asked_when_it_is_accepted(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    """Somebody may have changed the file since it was proposed."""
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    (filed,) = decisions.filed(store, State.PROPOSED)
    known = next(iter(filed.baseline.metrics.values()))
    faster = dataclasses.replace(known, values=(0.9e-3, 0.9e-3))
    before = dataclasses.replace(filed.baseline, metrics={"gpu, graph": faster}, plans=("b",))
    write(tmp_path / "trt-baselines.toml", Baselines(DEFAULTS).with_accepted(before))
    code, told = cli("accept", "*", "--reason", "x")
    assert code == 3
    assert "--loosen" in told["left"]["bert"]


def test_what_was_decided_is_not_announced_again(store: Store, plan: str, cli: Run) -> None:
    accepted(store, plan, cli)
    Path("trt-baselines.toml").unlink()
    code, told = cli("propose")
    assert code == 3
    assert "active" in told["refused"]["bert"]


def test_a_file_that_cant_be_written_leaves_the_proposal_open(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    (filed,) = decisions.filed(store, State.PROPOSED)

    def full(_: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        decisions.accept(store, filed, "why", "eve", datetime.datetime.now(datetime.timezone.utc), kept=full)
    assert [one.state for one in decisions.filed(store, *State)] == [State.PROPOSED]
    assert [event.action for event in decisions.trail(store)] == ["propose"]


def test_pinned_is_what_was_active_then(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    accepted(store, plan, cli)
    code, told = cli("pin", "*", "--release", "3.2", "--reason", "it ships")
    assert (code, told["pinned"]) == (0, ["bert"])
    held = read(tmp_path / "trt-baselines.toml")
    assert held.releases["key of bert"].release == "3.2"
    assert held.active["key of bert"].release == ""
    _, told = cli("list")
    assert {(one["cell"], one["state"]) for one in told["baselines"]} == {("bert", "active"), ("bert", "pinned")}


def test_a_pin_is_replaced_by_what_is_as_good_and_named(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    accepted(store, plan, cli)
    file = tmp_path / "trt-baselines.toml"
    cli("pin", "*", "--release", "3.2", "--reason", "it ships")
    day = f"{read(file).active['key of bert'].at:%Y-%m-%d}"
    code, told = cli("pin", "*", "--release", "3.3", "--reason", "it ships, too")
    assert (code, told["pinned"], told["replaced"]) == (0, ["bert"], {"bert": f"3.2 (accepted {day})"})
    assert told["said"] == f"bert: pinned as 3.3 in place of 3.2 (accepted {day}), in trt-baselines.toml\n"
    assert decisions.trail(store)[-1].action == f"pin 3.3 in place of 3.2 (accepted {day})"

    for number in (3, 4):
        night(store, number, 1.05e-3, plan)
    cli("propose")
    cli("accept", "*", "--reason", "the driver costs that", "--loosen")
    before = file.read_text()
    code, told = cli("pin", "*", "--release", "3.4", "--reason", "it ships")
    assert (code, told["pinned"]) == (3, [])
    assert told["left"] == {"bert": f"it is worse than what is pinned as 3.3 (accepted {day}): --loosen"}
    assert file.read_text() == before
    code, told = cli("pin", "*", "--release", "3.4", "--reason", "it ships", "--loosen")
    assert (code, told["pinned"]) == (0, ["bert"])
    assert read(file).releases["key of bert"].release == "3.4"


def test_a_pin_takes_a_reason(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    accepted(store, plan, cli)
    code, told = cli("pin", "*", "--release", "3.2", "--reason", "  ")
    assert code == 2
    assert "pinned with a reason" in told["error"]["message"]
    assert not read(tmp_path / "trt-baselines.toml").releases


def test_show_tells_the_trail(store: Store, plan: str, cli: Run) -> None:
    accepted(store, plan, cli)
    code, told = cli("show", "bert")
    assert code == 0
    assert [(event["actor"], event["action"], event["reason"]) for event in told["trail"]] == [
        ("ada", "propose", ""),
        ("ada", "accept", "the first"),
    ]
    assert [one["state"] for one in told["proposals"]] == ["active"]


def test_show_takes_patterns(store: Store, plan: str, cli: Run) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan, ("bert", "bart", "gpt"))
    cli("propose")
    cli("accept", "bert", "--reason", "the first")
    code, told = cli("show", "b*", "--json")
    assert code == 0
    assert [one["cell"] for one in told["baselines"]] == ["bert"]
    assert [(one["cell"], one["state"]) for one in told["proposals"]] == [("bart", "proposed"), ("bert", "active")]
    assert {event["subject"] for event in told["trail"]} == {"bart", "bert"}


def test_where_all_is_decided_nothing_is_left_to_accept(store: Store, plan: str, cli: Run) -> None:
    accepted(store, plan, cli)
    code, told = cli("accept", "*", "--reason", "again")
    assert (code, told["said"]) == (3, f"{store.name}: nothing is proposed\n")


def test_show_tells_whose_raw_samples_were_pruned(
    store: Store, plan: str, cli: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once another baseline has taken its place, and not before."""
    assert store.samples is not None
    for number in range(1, 5):
        night(store, number, 1e-3, plan, samples=True)
        if number % 2 == 0:
            cli("propose")
            cli("accept", "*", "--reason", "x")
            prune(store)
    states = {one["state"]: one["samples_pruned"] for one in cli("show", "bert")[1]["proposals"]}
    assert states == {"active": [], "superseded": []}, "the new one rests on all four"
    monkeypatch.setattr("harness.ledger.proposals.RECENT", 2)
    for number in (5, 6):
        night(store, number, 1e-3, plan, samples=True)
    cli("propose")
    cli("accept", "*", "--reason", "x")
    prune(store)
    told = cli("show", "bert")[1]["proposals"]
    assert sorted((one["state"], one["samples_pruned"]) for one in told) == [
        ("active", []),
        ("superseded", ["night-1", "night-2"]),
        ("superseded", ["night-1", "night-2", "night-3", "night-4"]),
    ]
    monkeypatch.setattr("sys.argv", ["trt-harness", "baseline", "show", "bert"])
    with pytest.raises(SystemExit):
        main()
    out = capfd.readouterr().out
    assert "; raw samples pruned, of 4 of its 4 sessions\n### bert" in out
    assert out.count("raw samples pruned") == 2


def test_no_plan_is_pruned_where_the_file_of_baselines_is_not(
    store: Store, plan: str, cli: Run, tmp_path: Path
) -> None:
    """It alone tells what is pinned: in another folder nothing would seem to be."""
    accepted(store, plan, cli)
    kept = Kept(tmp_path / ".trt-harness" / "plans")
    os.utime(kept.path(plan), (0, 0))
    old = kept.put(np.arange(8, dtype=np.uint8))
    os.utime(kept.path(old), (0, 0))
    (tmp_path / "trt-baselines.toml").rename(tmp_path / "b.toml")
    assert cli("prune", group="store")[1]["plans"] == []
    told = cli("prune", "--baselines", "b.toml", group="store")[1]
    assert told["plans"] == [f".trt-harness/plans/{old}.plan"]


def test_show_of_nothing_names_what_there_is(store: Store, plan: str, cli: Run) -> None:
    accepted(store, plan, cli)
    code, told = cli("show", "gpt")
    assert code == 2
    assert told["error"]["message"] == (
        f"error: 'gpt': no baseline in trt-baselines.toml and no proposal in {store.name}; there are some of bert"
    )


def test_list_names_plans_that_are_gone_and_quarantines_that_are_over(
    store: Store, plan: str, cli: Run, tmp_path: Path
) -> None:
    accepted(store, plan, cli)
    file = tmp_path / "trt-baselines.toml"
    quarantine = '[[quarantine]]\ncell = "gpt*"\nowner = "eve"\nreason = "r"\nuntil = 2020-01-01\n'
    file.write_text(file.read_text() + "\n" + quarantine)
    Kept(tmp_path / ".trt-harness" / "plans").path(plan).unlink()
    _, told = cli("list")
    notes = {one["state"]: one["note"] for one in told["baselines"]}
    assert "not there" in notes["active"]
    assert "eve" in notes["over"]


def test_only_the_cells_that_are_meant(store: Store, plan: str, cli: Run, tmp_path: Path) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan, ("bert", "gpt"))
    _, told = cli("propose", "gpt")
    assert [one["cell"] for one in told["proposed"]] == ["gpt"]
    cli("propose")
    cli("accept", "bert", "--reason", "x")
    assert [one.cell for one in read(tmp_path / "trt-baselines.toml").active.values()] == ["bert"]


def test_without_a_store_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Run) -> None:
    monkeypatch.chdir(tmp_path)
    code, told = cli("propose")
    assert code == 2
    missing = tmp_path / ".trt-harness" / "store.sqlite"
    assert f"{missing}: there is no store: one is made by" in told["error"]["message"]
    assert "--store names another" in told["error"]["message"]


NONE = {
    "propose": "{store}: no cell was measured of 'gpt*': there is bert",
    "accept": "{store}: nothing is proposed of 'gpt*': there is bert",
    "reject": "{store}: nothing is proposed of 'gpt*': there is bert",
    "pin": "{file}: no baseline is active",
    "list": "{file} and {store}: no baseline, proposal or quarantine of 'gpt*': there is bert",
}


@pytest.mark.parametrize("command", NONE)
def test_a_pattern_that_fits_nothing_names_what_there_is(store: Store, plan: str, cli: Run, command: str) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    more = {"accept": ("--reason", "x"), "reject": ("--reason", "x"), "pin": ("--reason", "x", "--release", "3")}
    code, told = cli(command, "gpt*", *more.get(command, ()))
    assert code == 3
    assert told["said"] == NONE[command].format(store=store.name, file="trt-baselines.toml") + "\n"


def test_list_and_show_name_the_store_and_the_file(store: Store, plan: str, cli: Run) -> None:
    accepted(store, plan, cli)
    for command in (["list"], ["show", "bert"]):
        told = cli(*command)[1]
        assert (told["store"], told["file"]) == (store.name, "trt-baselines.toml")


def test_show_has_what_two_sessions_come_to(
    store: Store, plan: str, cli: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, value in ((1, 1e-3), (2, 1.002e-3)):
        night(store, number, value, plan)
    cli("propose")
    cli("accept", "*", "--reason", "x")
    monkeypatch.setattr("sys.argv", ["trt-harness", "baseline", "show", "bert"])
    with pytest.raises(SystemExit):
        main()
    assert "0.001001 s" in capfd.readouterr().out


@pytest.mark.parametrize("command", ["accept", "reject"])
def test_a_decision_is_taken_once(store: Store, plan: str, cli: Run, command: str) -> None:
    for number in (1, 2):
        night(store, number, 1e-3, plan)
    cli("propose")
    (filed,) = decisions.filed(store, State.PROPOSED)
    cli("reject", "*", "--reason", "x")
    now = datetime.datetime.now(datetime.timezone.utc)
    with pytest.raises(SpecError, match="decided upon"):
        getattr(decisions, command)(store, filed, "why", "eve", now)
