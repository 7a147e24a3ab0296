"""``soak``: what it says of rounds of build, load, run and drop, and how it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.measure import soak
from harness.runtime.backend.hosted import HostedBackend
from harness.runtime.footprint import Footprint
from tests.cli.conftest import Result, Trt
from tests.spec.onnx_files import linear

pytestmark = pytest.mark.runs

PROFILE = ("--profile", "batch=1:2:4")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "a.onnx")


def said(done: Result) -> dict[str, str]:
    return {one["metric"]: one["said"] for one in done.json["findings"]}


def test_flat(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake", "--rounds", "30", "--output", "out", "--json")
    assert done.code == done.json["exit_code"] == 0
    assert (done.json["rounds"], done.json["planned"], done.json["interrupted"]) == (30, 30, False)
    assert said(done)["open files"] == said(done)["outputs"] == "PASS"
    files = done.json["slopes"]["open files"]
    assert (files["a_round"], files["low"], files["high"], files["rounds"], files["warm_up"]) == (0, 0, 0, 20, 10)
    assert done.json["slopes"]["host memory"]["quantum"] == 1 << 20
    lines = [json.loads(line) for line in Path("out", soak.FILE).read_text().splitlines()]
    assert lines[0]["kind"] == "soak"
    assert [line["number"] for line in lines[1:]] == list(range(1, 31))
    again = trt("soak", model, *PROFILE, "--backend", "fake", "--rounds", "30", "--output", "out")
    assert again.code == 2
    assert "holds another soak" in again.err


def test_a_leak(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake:leaks_memory=1000", "--json")
    assert done.code == done.json["exit_code"] == 1
    assert (done.json["rounds"], done.json["planned"]) == (50, 500)
    assert said(done)["host memory"] == said(done)["heap"] == "LEAK"
    assert said(done)["open files"] == "PASS"
    assert done.json["slopes"]["host memory"]["a_round"] == pytest.approx(1e6, rel=0.05)
    assert "round 50 of 500: heap, host memory: growing" in done.err


def test_a_table_for_people(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake:leaks_files", "--rounds", "50")
    assert done.code == 1
    for part in ("50 of 50 rounds", "LEAK", "grows by 1.000 files a round (1.000 to 1.000)", "NOT COVERED", soak.FILE):
        assert part in " ".join(done.out.split())


def test_too_few_rounds(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake", "--rounds", "10", "--json")
    assert done.code == 4
    assert said(done)["host memory"] == "INCONCLUSIVE"
    assert done.json["slopes"] == {}
    assert trt("soak", model, "--rounds", "0").code == 2


def test_only_built(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake:needs_gpu", "--rounds", "25", "--json")
    assert done.code == 0
    assert said(done)["load and run"] == "NOT_COVERED"
    assert "outputs" not in said(done)


def test_nothing_can_be_done(trt: Trt, model: Path) -> None:
    assert trt("soak", model, *PROFILE, "--backend", "fake:absent").code == 3
    built = trt("build", model, *PROFILE, "--backend", "fake", "--in-process", "-o", "a.plan")
    assert built.code == 0
    done = trt("soak", "a.plan", "--backend", "fake:needs_gpu", "--trust", "a.plan")
    assert done.code == 3
    assert "no fake GPU was found" in done.err


def test_a_failure(trt: Trt, model: Path) -> None:
    done = trt("soak", model, *PROFILE, "--backend", "fake:other_rebuild", "--json")
    assert done.code == 1
    assert said(done)["outputs of round 2"] == "FAILED"
    useless = trt("soak", model, *PROFILE, "--backend", "fake:wrong_probe")
    assert useless.code == 1
    assert "Relu of -1.0 gave 12.0" in useless.err


@pytest.mark.parametrize(("fault", "code"), [("fake", 130), ("fake:leaks_files", 1)])
def test_interrupted(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch, fault: str, code: int) -> None:
    honest, left = HostedBackend.footprint, 30

    def interrupted(backend: HostedBackend) -> Footprint:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return honest(backend)

    monkeypatch.setattr(HostedBackend, "footprint", interrupted)
    done = trt("soak", model, *PROFILE, "--backend", fault, "--json")
    assert done.code == done.json["exit_code"] == code
    assert (done.json["rounds"], done.json["interrupted"]) == (30, True)
    assert said(done)["threads"] == "PASS"


def test_it_wants_a_process(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_HARNESS_IN_PROCESS", "true")
    done = trt("soak", model, *PROFILE, "--backend", "fake")
    assert done.code == 2
    assert "a process for itself" in done.err


def test_every_line_is_written_as_it_comes(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine that goes down leaves what it had."""
    seen: list[int] = []
    honest = soak.Soak._round

    def counted(self: soak.Soak, number: int) -> Any:
        seen.append(len(Path("out", soak.FILE).read_text().splitlines()))
        return honest(self, number)

    monkeypatch.setattr(soak.Soak, "_round", counted)
    trt("soak", model, *PROFILE, "--backend", "fake", "--rounds", "3", "--output", "out")
    assert seen == [1, 2, 3]
