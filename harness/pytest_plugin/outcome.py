"""From what pytest saw of a cell to its verdict, and what is shown of it.

Errors that this project raises on purpose are shown by their message: it says what, where, got,
expected, and how to repeat it. Anything else keeps its traceback, for it is a fault of the test or
of this project.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.errors import ComparisonFailure, HarnessError, Regression, SpecError, StageError, UnsupportedError
from harness.ledger.expectations import GATE
from harness.ledger.records import Record
from harness.pytest_plugin import scheduling
from harness.pytest_plugin.options import given
from harness.pytest_plugin.run import Run
from harness.pytest_plugin.story import Story
from harness.spec import Example

VERDICT = "trt_verdict"  # attribute of a report: it travels to the controller under xdist
SHOWN = {
    "not_covered": ("not covered", "n", "NOT COVERED"),
    "known_failure": ("known failures", "k", "KNOWN FAILURE"),
    "cached": ("cached", "c", "CACHED"),
}
REPEATED = (
    "backend", "size", "models", "cache", "timing_cache", "trust", "expectations", "in_process", "python",
    "build_timeout", "run_timeout", "probe_timeout", "build_option", "memory", "seed", "examples",
    "perf", "perf_metrics", "perf_processes", "perf_builds", "perf_seconds", "baselines", "kept", "canaries",
    "installation",
)  # fmt: skip


def judge(report: pytest.TestReport, call: pytest.CallInfo[None], story: Story, run: Run) -> None:
    """Give ``report``, of one phase of a cell, its outcome, and the story its verdict."""
    error = call.excinfo.value if call.excinfo else None
    if error is None:
        if report.when == "call" and report.passed:
            _judge_pass(report, story, run)
    elif isinstance(error, UnsupportedError):
        story.conclude("not_covered", f"{error.capability}: {error.evidence}", fix=error.fix)
        _skipped(report, f"not covered: {error}")
    elif hasattr(report, "wasxfail"):  # a mark of the test's own
        story.conclude("known_failure", str(error), stage=_stage(error, story), cause=report.wasxfail)
    elif isinstance(error, pytest.skip.Exception):
        story.conclude("not_covered", str(error))
    else:
        _judge_failure(report, error, story, run)
    if story.verdict is not None:
        setattr(report, VERDICT, story.verdict)


def shown(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """Category, letter and word where pytest's own would mislead; None to leave it to pytest."""
    verdict = getattr(report, VERDICT, "")
    if report.skipped:
        return SHOWN.get(verdict)
    if report.failed and report.when == "setup" and verdict == "failed":
        return "failed", "F", "FAILED"  # where engines are built: a failure of the model, not of the test's set-up
    return None


def tell(config: pytest.Config, records: Iterable[Record]) -> None:
    """Report cells that needed no test to be known as not covered, to all but the terminal, which counts them."""
    terminal = config.pluginmanager.getplugin("terminalreporter")
    logreport = config.pluginmanager.subset_hook_caller("pytest_runtest_logreport", [terminal])
    for record in records:
        file = record.node.partition("::")[0]
        fix = f" (to cover it: {record.fix})" if record.fix else ""
        skipped = (file, 1, f"Skipped: not covered: {record.message}{fix}")
        for when, result, reason in (("setup", "skipped", skipped), ("teardown", "passed", None)):
            report = pytest.TestReport(
                record.node, (file, None, record.cell.id), {}, result, reason, when,  # type: ignore[arg-type]
                user_properties=properties(record) if when == "teardown" else (),
            )  # fmt: skip
            setattr(report, VERDICT, record.verdict)
            logreport(report=report)


def repeat(config: pytest.Config, node: str, example: Example | None = None) -> str:
    """The command that runs one cell again, at ``example`` alone if one is given."""
    alone = ["--trt-example", example.json()] if example else []
    return shlex.join(["python", "-m", "pytest", *_named(config, node), *given(config, REPEATED), *alone])


def _named(config: pytest.Config, node: str) -> list[str]:
    """``node`` as it can be typed: below ``--pyargs`` pytest calls a file by its path from that package."""
    file, _, test = node.partition("::")
    if config.getoption("pyargs") and not (config.rootpath / (file or "::")).exists():
        for argument in config.args:
            package = argument.partition("::")[0]
            if (scheduling.path_of(package, config) / file).is_file():
                module = ".".join([package, *Path(file.removesuffix(".py")).parts])
                return ["--pyargs", f"{module}::{test}"]
    return [node]


def properties(record: Record) -> list[tuple[str, object]]:
    """What JUnit shows of a cell."""
    cell = record.cell
    found = {
        "trt_model": cell.model,
        "trt_precision": cell.precision,
        "trt_variant": cell.variant,
        "trt_point": cell.point,
        "trt_backend": record.backend,
        "trt_version": record.environment.get("version", ""),
        "trt_verdict": record.verdict,
        "trt_stage": record.stage,
        "trt_key": record.key,
        **{f"trt_seconds_{stage}": f"{spent:.4f}" for stage, spent in record.seconds.items()},
    }
    return [*((name, value) for name, value in found.items() if value), *_measured(record)]


def _measured(record: Record) -> list[tuple[str, str]]:
    if not {"perf", "medians"} & record.facts.keys():
        return []
    from harness.report import measurement

    return measurement.properties(measurement.of(record))


def _skipped(report: pytest.TestReport, why: str) -> None:
    """What pytest, and what reads its reports, has for a test that is neither passed nor failed."""
    path, line, _ = report.location
    report.outcome, report.longrepr = "skipped", (path, (line or 0) + 1, f"Skipped: {why}")


def _judge_pass(report: pytest.TestReport, story: Story, run: Run) -> None:
    entries = run.expectations_of(story.file).covering(story.cell, story.environment)
    if not entries and story.unproven:
        story.conclude("cached", story.unproven)
        _skipped(report, f"cached: {story.unproven}")
        return
    if not entries:
        story.conclude("passed")
        return
    said = "\n".join(f"  {entry.place}: fails at {entry.stage}: {entry.cause} ({entry.owner})" for entry in entries)
    message = (
        f"{story.case.cell.id} passed, but is a known failure:\n{said}\n"
        "remove the entry or narrow it, by hand or with: trt-harness expectations update"
    )
    story.conclude("unexpected_pass", message)
    report.outcome, report.longrepr = "failed", message


def _judge_failure(report: pytest.TestReport, error: BaseException, story: Story, run: Run) -> None:
    stage, message = _stage(error, story), _words(error)
    fault = type(error) is HarnessError  # of an engine host
    wrong = isinstance(error, (HarnessError, AssertionError, pytest.fail.Exception)) and not fault
    entry = None
    if wrong and report.when != "teardown":
        entry = run.expectations_of(story.file).match(story.cell, stage, message, story.environment)
    if entry is not None:
        story.conclude("known_failure", message, stage=stage, cause=entry.cause)
        report.outcome = "skipped"
        report.wasxfail = f"reason: {entry.cause} ({entry.place}, {entry.owner}, until {entry.expires})"
        return
    story.conclude("failed" if wrong else "error", message, stage=stage)
    notes = getattr(error, "__notes__", ())
    if isinstance(error, HarnessError):
        command = repeat(run.config, story.node, story.example)
        report.outcome = "failed"
        told = "\n".join([message, *notes])
        report.longrepr = told if command in told else f"{told}\nrepeat: {command}"
    elif isinstance(error, pytest.fail.Exception) and not error.pytrace and notes:
        report.longrepr = "\n".join([message, *notes])  # pytest shows the message alone


def _words(error: BaseException) -> str:
    """What the record says of ``error``."""
    if isinstance(error, pytest.FixtureLookupError) and error.argname is not None:
        return f"fixture {error.argname!r} not found"  # its own text is the representation of a request
    return str(error) or type(error).__name__


def _stage(error: BaseException, story: Story) -> str:
    """Where it failed: a stage of a backend, "compare", "gate", "spec", or the last that was reached."""
    if isinstance(error, StageError):
        return error.stage
    if isinstance(error, ComparisonFailure):
        return "compare"
    if isinstance(error, Regression):
        return GATE
    return "spec" if isinstance(error, SpecError) else story.reached
