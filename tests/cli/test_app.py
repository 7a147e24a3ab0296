"""The program itself: start, help, exit codes, faults of its own."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time

import pytest

from harness.cli import options
from harness.errors import HarnessError, ParseError, Regression, UnsupportedError
from tests.cli.conftest import Trt

HEAVY = {"numpy", "onnx", "onnxruntime", "pytest", "hypothesis", "rich", "scipy", "sqlalchemy", "alembic", "pyarrow"}


def test_starting_is_light() -> None:
    """``--help`` answers at once: nothing heavy is imported before a command needs it."""
    program = (
        "import sys; sys.argv = ['trt-harness', '--help']\n"
        "from harness.cli import main\n"
        "try: main()\n"
        f"except SystemExit as left: print(left.code, sorted({HEAVY!r} & sys.modules.keys()))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert time.perf_counter() - started < 5  # seconds, on the slowest of machines; 0.2 on a usual one


COMMANDS = ["doctor", "models", "build", "check", "inspect", "diff", "expectations", "report", "cache", "soak", "store"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(trt: Trt, command: str) -> None:
    done = trt(command, "--help")
    assert done.code == 0
    assert "Usage: " in done.out
    assert command in trt("--help").out


def test_version(trt: Trt) -> None:
    assert re.fullmatch(r"trt-harness \d+\.\d+\.\d+\n", trt("--version").out)


def test_exit_codes_are_in_the_help(trt: Trt) -> None:
    said = " ".join(trt("--help").out.split())
    for part in ("0 passed", "1 failed", "2 the request can't be met", "3 nothing was covered", "70 a fault"):
        assert part in said


def test_backends_are_silent_unless_asked(trt: Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(**_: object) -> None:
        logging.getLogger("harness.runtime.nv").warning("a layer was dropped")
        raise ParseError("no")

    monkeypatch.setattr(options, "settings", settings)
    assert trt("doctor").err == "failed: parse: no\n"
    assert trt("--verbose", "doctor").err == "a layer was dropped\nfailed: parse: no\n"


class TestErrors:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> object:
        def fail_with(error: Exception) -> None:
            def fail(**_: object) -> None:
                raise error

            monkeypatch.setattr(options, "settings", fail)

        return fail_with

    def test_a_fault_of_our_own_asks_for_a_report(self, trt: Trt, failing) -> None:  # type: ignore[no-untyped-def]
        failing(ZeroDivisionError("of seven"))
        done = trt("doctor", "--backend", "fake")
        assert (done.code, done.out) == (70, "")
        assert "internal error: ZeroDivisionError: of seven" in done.err
        assert "Please report it with the output of\n  trt-harness --traceback doctor --backend fake\n" in done.err
        assert "Traceback" not in done.err
        told = trt("--traceback", "doctor", "--backend", "fake")
        assert told.code == 70
        assert "Traceback (most recent call last)" in told.err
        assert "--traceback --traceback" not in told.err

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            (UnsupportedError("x", "seen", "buy one"), 3, "not covered here: x: seen (to cover it: buy one)"),
            (ParseError("no", log=("[E] why",)), 1, "failed: parse: no\n  | [E] why"),
            (Regression("slower"), 1, "failed: slower"),
            (ValueError("odd"), 70, "internal error: ValueError: odd"),
            (HarnessError("fault in the engine host: odd"), 70, "internal error: HarnessError: fault in the engine"),
        ],
    )
    def test_codes(self, trt: Trt, failing, error: Exception, code: int, said: str) -> None:  # type: ignore[no-untyped-def]
        failing(error)
        done = trt("doctor")
        assert done.code == code
        assert done.err.startswith(said)

    def test_json_even_then(self, trt: Trt, failing) -> None:  # type: ignore[no-untyped-def]
        failing(UnsupportedError("x", "seen"))
        done = trt("doctor", "--json")
        assert done.json == {
            "exit_code": 3,
            "error": {"kind": "UnsupportedError", "message": "not covered here: x: seen"},
        }
