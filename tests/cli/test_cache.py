"""`trt-harness cache`: what is kept is listed, verified, tidied and taken away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.runtime.backend.fake import FakeBackend
from harness.runtime.cache import default_folder
from harness.runtime.fingerprint import environment
from harness.runtime.store import Store
from tests.cli.conftest import Trt

FAKE = ("--backend", "fake", "--in-process")
KEYS = [f"{number:064x}" for number in range(1, 9)]
PLAN = np.arange(1000, dtype=np.uint8)
OTHER = {"backend": "tensorrt", "version": "8.6.1", "gpu": "NVIDIA H200", "fingerprint": "f" * 64}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def kept(folder: Path) -> Path:
    """A plan and a timing cache of another host, a plan made here, and one of an older fake."""
    mine = environment(FakeBackend().probe())
    Store(folder, "plan").put(KEYS[0], PLAN, OTHER, {"model": "bert", "precision": "fp16"})
    Store(folder, "timing cache").put(KEYS[1], PLAN[:10], OTHER, {})
    Store(folder, "plan").put(KEYS[2], PLAN, mine, {"model": "mlp", "precision": "fp32"})
    Store(folder, "plan").put(KEYS[3], PLAN, {**mine, "version": "0.1", "fingerprint": "e" * 64}, {"model": "old"})
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_command_builds_is_listed(trt: Trt, folder: Path) -> None:
    built = trt("build", "mlp", *FAKE, "--cache", folder, "--json")
    assert built.code == 0
    listed = trt("cache", "ls", "--cache", folder, "--json")
    assert listed.code == 0
    kinds = {entry["what"]: entry for entry in listed.json["entries"]}
    assert kinds.keys() == {"plan", "timing cache"}
    plan = kinds["plan"]
    assert plan["key"] == built.json["plan_key"]
    assert (plan["facts"]["model"], plan["facts"]["precision"]) == ("mlp", "fp32")
    assert plan["facts"]["key"] == built.json["key"]
    assert plan["facts"]["timing_cache"]["after"]["size"] > 0
    assert plan["producer"]["backend"] == "fake"
    shown = trt("cache", "ls", "--cache", folder)
    assert built.json["plan_key"][:16] in shown.out
    assert "2 files" in shown.out


def test_without_a_name_it_is_the_users_own_cache(trt: Trt, tmp_path: Path) -> None:
    assert trt("build", "mlp", *FAKE).code == 0
    listed = trt("cache", "ls", "--json").json
    assert listed["folder"] == str(default_folder())
    assert [entry["facts"].get("model") for entry in listed["entries"] if entry["what"] == "plan"] == ["mlp"]
    assert not (tmp_path / ".trt-harness").exists()


def test_makers_are_named(trt: Trt, kept: Path) -> None:
    shown = trt("cache", "ls", "--cache", kept).out
    assert "tensorrt 8.6.1 on NVIDIA H200" in shown
    assert "timing cache" in shown


def test_nothing_kept_is_nothing_covered(trt: Trt, folder: Path) -> None:
    folder.mkdir()
    assert trt("cache", "ls", "--cache", folder).code == 3
    assert trt("cache", "verify", "--cache", folder).code == 3


@pytest.mark.parametrize("command", ["ls", "verify", "prune", "clear"])
def test_a_folder_that_is_not_there(trt: Trt, command: str) -> None:
    done = trt("cache", command, "--cache", "nowhere")
    assert done.code == 2
    assert "nowhere: no such folder: name that of a cache with --cache DIR" in done.err


def test_verify_finds_what_cannot_be_trusted(trt: Trt, kept: Path) -> None:
    (kept / f"{KEYS[4]}.bad").write_bytes(b"known to be bad, and no entry")
    assert trt("cache", "verify", "--cache", kept).code == 0
    damaged = kept / f"{KEYS[0]}.plan"
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = names(kept)
    done = trt("cache", "verify", "--cache", kept, "--json")
    assert done.code == 1
    assert done.json["wrong"] == {damaged.name: "is damaged: its SHA-256 differs from the one written with it"}
    assert done.json["entries"] == 4
    assert names(kept) == before, "nothing is changed"
    assert f"{damaged.name} is damaged" in trt("cache", "verify", "--cache", kept).out


def test_entries_that_say_nothing_are_listed_with_the_reason(trt: Trt, kept: Path) -> None:
    (kept / f"{KEYS[0]}.plan").write_bytes(b"TRTHPLAN" + bytes(100))
    (kept / f"{KEYS[4]}.plan").mkdir()
    for age, key in enumerate((KEYS[4], KEYS[0], KEYS[2], KEYS[3])):
        os.utime(kept / f"{key}.plan", (1e9 - age, 1e9 - age))
    listed = trt("cache", "ls", "--cache", kept, "--json")
    assert listed.code == 0
    assert [entry["key"] for entry in listed.json["entries"]][1:] == [KEYS[4], KEYS[0], KEYS[2], KEYS[3]], (
        "newest first"
    )
    problems = {entry["key"]: entry["problem"] for entry in listed.json["entries"] if "problem" in entry}
    assert problems == {
        KEYS[0]: "is no envelope of this project: it begins with b'TRTHPLAN'",
        KEYS[4]: "can't be read: Is a directory",
    }
    shown = trt("cache", "ls", "--cache", kept).out
    assert "can't be read: Is a directory" in shown
    assert "is no envelope of this project" in shown


def prune(trt: Trt, folder: Path, *more: str) -> Any:
    done = trt("cache", "prune", "--cache", folder, *FAKE, "--json", *more)
    assert done.code == 0
    return {removal["file"]: removal["reason"] for removal in done.json["removed"]}


def test_prune_takes_away_what_is_of_no_more_use(trt: Trt, kept: Path) -> None:
    (kept / f"{KEYS[4]}.bad").write_bytes(b"x")
    (kept / f"{KEYS[5]}.plan").write_bytes(b"TRTHPLAN" + bytes(100))
    (kept / f"{KEYS[6]}.lock").touch()
    (kept / f".{KEYS[7]}.plan-a1b2.tmp").write_bytes(b"half")
    (kept / "mine.plan").write_bytes(b"mine")
    assert prune(trt, kept) == {
        f"{KEYS[3]}.plan": "made by another fake 0.1 on fake GPU",
        f"{KEYS[4]}.bad": "set aside",
        f"{KEYS[5]}.plan": "is no envelope of this project: it begins with b'TRTHPLAN'",
        f"{KEYS[6]}.lock": "left behind",
        f".{KEYS[7]}.plan-a1b2.tmp": "left behind",
    }
    # What was made by a backend that is not here may be of use elsewhere.
    assert names(kept) == sorted([f"{KEYS[0]}.plan", f"{KEYS[1]}.timing", f"{KEYS[2]}.plan", "mine.plan"])
    assert prune(trt, kept) == {}


def test_prune_leaves_what_a_backend_made_that_is_not_here(trt: Trt, kept: Path) -> None:
    done = trt("cache", "prune", "--cache", kept, "--backend", "fake:absent", "--in-process", "--json")
    assert (done.code, done.json["removed"]) == (0, [])


def test_prune_keeps_to_a_size(trt: Trt, kept: Path) -> None:
    os.utime(kept / f"{KEYS[2]}.plan", (0, 0))
    removed = prune(trt, kept, "--cache-size", "2KiB")
    assert set(removed) == {f"{KEYS[3]}.plan", f"{KEYS[2]}.plan"}
    assert "used longest ago" in removed[f"{KEYS[2]}.plan"]


def test_clear_takes_all_but_what_is_in_use(trt: Trt, kept: Path) -> None:
    (kept / "mine.plan").write_bytes(b"mine")
    with Store(kept, "plan").lock(KEYS[2]):
        done = trt("cache", "clear", "--cache", kept, "--json")
        assert names(kept) == sorted([f"{KEYS[2]}.lock", f"{KEYS[2]}.plan", "mine.plan"])
    assert done.code == 0
    assert len(done.json["removed"]) == 3
    assert "taken away; 0 files" in trt("cache", "clear", "--cache", kept).out
    assert names(kept) == ["mine.plan"]


def test_a_timing_cache_goes_in_and_out_with_one_option(trt: Trt, tmp_path: Path) -> None:
    sizes = []
    for host in ("monday", "tuesday"):
        command = ("build", "mlp", *FAKE, "--timing-cache", "night.cache")
        assert trt(*command, "--cache", tmp_path / host).code == 0
        (listed,) = (
            entry
            for entry in trt("cache", "ls", "--cache", tmp_path / host, "--json").json["entries"]
            if entry["what"] == "plan"
        )
        sizes.append([listed["facts"]["timing_cache"][when]["size"] for when in ("before", "after")])
    assert sizes[0][0] == 0
    assert sizes[1] == [sizes[0][1], sizes[0][1]], "the second host timed nothing"
