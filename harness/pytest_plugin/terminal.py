"""What a run with cells of ours says before its first cell and after its last."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from harness.ledger.ended import idle
from harness.ledger.records import PERF, UNSEEN, Record
from harness.ledger.unmet import Unmet
from harness.pytest_plugin import quarantines
from harness.pytest_plugin.collection import Settled, lost_records, unreached
from harness.pytest_plugin.run import Run
from harness.runtime.capability import Probe, State
from harness.settings import BACKENDS, BEST

WORK = ("parse", "build", "deserialize", "run")  # what a backend is for, as capabilities
FEW = 3  # that are named of many
WIDEST = 120  # columns of the table: on a wider terminal it would be torn apart, and a log has no width


class Uncovered:
    """Stands in pytest's statistics for a cell that needed no test to be known as not covered."""


def announce(run: Run, settled: Settled) -> None:
    """The header, and the cells that are settled already, as pytest counts them."""
    reporter = run.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    reporter.ensure_newline()
    for line in header(run, settled):
        reporter.write_line(line)
    if settled.uncovered:
        reporter.stats.setdefault("not covered", []).extend(Uncovered() for _ in range(settled.uncovered))


def header(run: Run, settled: Settled) -> list[str]:
    """Backends with versions and GPU, and why each takes part or does not."""
    cells = f"{settled.cells} cell{'s' if settled.cells != 1 else ''}"
    if settled.uncovered:
        cells += f", {settled.uncovered} of them not covered here"
    if settled.recorded:
        cells += f", {settled.recorded} recorded before"
    part = f", part {run.settings.shard}" if run.settings.shard else ""
    lines = [f"trt-harness: {cells}{part}, run {run.id}, records in {_relative(run.folder)}"]
    probes = run.probes
    width = max(map(len, [*probes, BEST])) + 2
    lines += [f"  {name:<{width}}{_describe(probe)}" for name, probe in probes.items()]
    if BEST in settled.asked:
        runs = next((name for name in BACKENDS if name in probes and probes[name].has("run")), "none")
        builds = next((name for name in BACKENDS if name in probes and probes[name].has("build")), "none")
        lines.append(f"  {BEST:<{width}}{builds} builds, {runs} runs: the first of {', '.join(BACKENDS)} that can")
    return lines


def summary(run: Run, reporter: pytest.TerminalReporter, problems: Iterable[str]) -> None:
    """The table of the run's records, and what is wrong beside the cells."""
    from harness.report.terminal import engines, summary_lines, tried

    found = run.recorded
    if found.records:
        reporter.section("TensorRT harness")
        width = min(reporter._tw.fullwidth, WIDEST) if reporter.isatty else WIDEST
        color = reporter._tw.hasmarkup
        lines = summary_lines(found.records, width=width, color=color)
        if any(PERF in record.facts for record in found.records):  # what tells it is slow to import
            from harness.report.performance import performance_lines

            lines += performance_lines(found.records, width=width, color=color)
        for line in lines:
            reporter.write_line(line)
        for line in [*engines(found.records), *tried(found.records)]:
            reporter.write_line(line)
        for words in outliers(found.records):
            reporter.write_line(words)
        for words in idle(quarantines.met(run)):
            reporter.write_line(words, yellow=True)
        for words in left_out(run, found.records):
            reporter.write_line(f"{words}: no success, whatever the absence of failures says", red=True)
        reporter.write_line(f"records: {_relative(run.folder)}")
    if words := unmet(run.unmet):
        reporter.write_line(words, yellow=True)
    if count := unreached(run):
        reporter.write_line(
            f"stopped early: {count} {'cell was' if count == 1 else 'cells were'} not reached", red=True
        )
    for words in run.unread.values():
        reporter.write_line(words, yellow=True)
    for words in run.stored:
        reporter.write_line(words)
    said = [*lost_records(run), *problems]
    if said:
        reporter.section("known failures and records: problems", red=True)
        for line in said:
            reporter.write_line(line)


def unmet(found: Iterable[Unmet]) -> str:
    """The baselines that no cell met, of what the run was to do: how many, and the first of them; "" of none."""
    cells = [one.cell for one in found if one.within]
    rest = ", ..." if len(cells) > FEW else ""
    return f"baselines that nothing met: {len(cells):,}: {'; '.join(cells[:FEW])}{rest}" if cells else ""


def outliers(records: Iterable[Record]) -> list[str]:
    """The builds that stand apart from others of the same, by name: none of them is a failure."""
    found = [
        f"build outlier: {record.cell.model} at {record.cell.precision} on {record.backend}: {words}"
        for record in records
        for words in record.facts.get("build_outliers", ())
    ]
    return list(dict.fromkeys(found))


def left_out(run: Run, records: Collection[Record]) -> list[str]:
    """What should have covered cells here and covered none, in words: a run with any is no success.

    That is every backend that was asked for by name, one that is installed and fails at what it is
    for, and all of them together. What is cached was covered by another run: beside cells that this one
    covers it is no lack, and alone it is no success.
    """
    covered = {record.backend for record in records if record.verdict not in UNSEEN}
    seen = {record.backend for record in records if record.verdict != "not_covered"}
    idle = {record.backend for record in records} - seen
    named = run.settings.backend if run.settings.backend != BACKENDS else ()
    found = [f"{name} was asked for and covered nothing" for name in named if name in idle]
    for name, probe in run.probes.items():
        useless = [c for c in probe.capabilities if c.name in WORK and c.state is State.USELESS]
        if useless and name not in named:
            found.append(f"{name} is installed and fails at {useless[0].name}: {useless[0].evidence}")
    if records and not covered:
        cached = any(record.verdict == "cached" for record in records)
        found.append("nothing was covered here" + ": what is cached was built before" * cached)
    return found


def _describe(probe: Probe) -> str:
    installation = probe.installation
    if installation is not None and installation.state is not State.PRESENT:
        hint = f" (to cover it: {installation.fix})" if installation.fix else ""
        return f"{installation.state.value}: {installation.evidence}{hint}"
    gpu = str(probe.environment.get("gpu") or "")
    words = [probe.version, *([f"on {gpu}"] if gpu else [])]
    able = [name for name in ("build", "run") if probe.has(name)]
    said = " ".join(word for word in words if word) + f": can {' and '.join(able) or 'neither build nor run'}"
    for name in ("build", "run"):
        if name not in able:
            lacking = probe.find(name)
            said += f"; {name}: {lacking.state.value}, {lacking.evidence}"
    return said


def _relative(path: Path) -> str:
    shorter = os.path.relpath(path)
    return shorter if len(shorter) < len(str(path)) else str(path)
