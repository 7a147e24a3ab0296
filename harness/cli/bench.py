"""``bench``: one subject in several processes: how fast, how sure, how much memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, sides
from harness.cli.compare import print_details
from harness.cli.exits import FAILED, INTERRUPTED, NOTHING, OPEN, PASSED
from harness.cli.output import leave, print_table, repeat, say, telling
from harness.cli.target import FP32
from harness.errors import SpecError
from harness.settings import BEST
from harness.spec import recipe

if TYPE_CHECKING:
    from harness.measure.bench import Measured
    from harness.measure.canary import Medians
    from harness.measure.finding import Finding
    from harness.measure.headroom import Headroom
    from harness.measure.journal import Journal
    from harness.measure.quantity import Quantity
    from harness.measure.runner import Runner
    from harness.measure.side import Side
    from harness.measure.watch import Watch
    from harness.runtime.sampling import Sampling
    from harness.spec.precision import Recipe


def bench(
    target: Annotated[str, typer.Argument(help="a plan, a model's name, an .onnx or .toml file", metavar="X")],
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="precision recipe (default: fp32)")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend")] = BEST,
    python: sides.InterpreterOf = None,
    build_option: options.BuildOptions = None,
    profile: options.Profiles = None,
    point: sides.At = "opt",
    device: sides.Device = 0,
    processes: sides.Processes = 8,
    rebuilds: sides.Rebuilds = None,
    streams: sides.Streams = None,
    cold: sides.Cold = False,
    canaries: sides.Canaries = False,
    seconds: sides.Seconds = None,
    warmup: sides.Warmup = None,
    output: sides.Output = None,
    seed: options.Seed = None,
    models: options.Models = None,
    cache: options.Cache = None,
    trust: options.Trust = None,
    build_timeout: options.BuildTimeout = None,
    run_timeout: options.RunTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Measure one engine: latency, set-up, memory, each over processes that are started for it.

    With --canaries the latency is held against the floor that the device's own ceilings set, too.
    Exits with 0 when it was measured, 1 when it fails or gives wrong numbers, 4 when there is no one number to
    give, 3 when nothing could be measured. Interrupted, it goes on with --output.
    """
    from harness.ledger.measured import how_of
    from harness.measure.journal import Journal
    from harness.report.findings import as_fact

    command = sides.command("bench")
    number = rebuilds or processes
    if number < 1:
        raise SpecError(f"--processes {processes}: 1 or more")
    terms = sides.terms(
        profile,
        point,
        device,
        build_option=build_option,
        seed=seed,
        models=models,
        cache=cache,
        trust=trust,
        build_timeout=build_timeout,
        run_timeout=run_timeout,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    how = {"--precision": precision, "--build-option": build_option, "--profile": profile}
    sides.admit([target], terms.settings.models, [how], rebuilds)
    ways = sides.ways(streams, cold=cold, seconds=seconds, warmup=warmup)
    where = sides.folder(output, "bench")
    with sides.bench_of(terms, python, [target]) as work:
        side = sides.side(terms, work, "X", target, precision or FP32, backend, None)
        asked = {"ways": ways, "rebuilds": rebuilds, "canaries": canaries, "point": point, "seed": terms.settings.seed}
        request = sides.request("bench", {"X": [side]}, **asked)
        try:
            with contextlib.closing(Journal(where, request)) as journal, telling() as tell:
                if journal.taken_over:
                    say(f"{where}: goes on after {journal.taken_over} processes")
                rebuilt = rebuilds is not None
                session = _Session(side, ways, journal, number, rebuilt, tell, how_of(ways, rebuilt=rebuilt))
                found = session.watched() if canaries else session.measured()
                command.end(journal, _code(found), [as_fact(one) for one in found.findings])
        except KeyboardInterrupt:
            again = [*sys.argv[1:], *([] if output else ["--output", str(where)])]
            say(f"interrupted; to go on: {repeat(again)}")
            leave(INTERRUPTED, {"folder": str(where)}, as_json=json)
        title = side.title
    _leave(title, found, str(where), as_json=json)


@dataclass
class _Found:
    """All that one command found; ``shapes`` are those of the inputs that were run."""

    measured: list[Measured] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    headroom: Headroom | None = None


@dataclass(frozen=True)
class _Session:
    """All that one command measures."""

    side: Side
    ways: dict[str, Sampling]
    journal: Journal
    number: int  # of processes
    rebuilt: bool
    tell: Callable[[str], None]
    how: str  # that it is measured, where a night would do it otherwise

    def measured(self) -> _Found:
        from harness.measure.answers import answers
        from harness.measure.bench import measured
        from harness.measure.finding import Finding, Said
        from harness.measure.quantity import BUILD, DEVICE_MEMORY, PARSE, PLAN_SIZE, by_profile, covered
        from harness.measure.runner import SideFailed

        subject = self.side.spec.model.id
        with contextlib.closing(self._runner(subject, self.side, self.number, rebuilt=self.rebuilt)) as runner:
            try:
                processes = [runner.process(ordinal, 0, ordinal) for ordinal in range(self.number)]
            except SideFailed as failed:
                return _Found(findings=[failed.finding(subject)])
            wanted = [*self._quantities, *by_profile(processes), PLAN_SIZE, DEVICE_MEMORY, PARSE, BUILD]
            found, missing = covered(wanted, processes)
            findings = [Finding(subject, name, Said.NOT_COVERED, why) for name, why in missing.items()]
            shapes = {name: array.shape for name, array in (runner.inputs(self.side) or {}).items()}
            return _Found([measured(one, processes) for one in found], [*findings, *answers(runner)], shapes)

    def watched(self) -> _Found:
        """The same between two measurements of the canaries, and how far it is above its floor."""
        from harness.measure.finding import Said
        from harness.measure.quantity import BYTES
        from harness.measure.runner import SideFailed
        from harness.measure.watch import stayed

        try:
            canaries, compute, before = self._canaries()
            with contextlib.closing(canaries):
                found = self.measured()
                after = canaries.measured(after=True)
        except SideFailed as failed:
            return _Found(findings=[failed.finding("canaries")])
        self._above(found, before, after, compute)
        told = stayed(before, after)
        found.findings.append(told)
        if told.said is Said.HOST_CHANGED:
            found.measured = [
                one if one.unit == BYTES else replace(one, note="; ".join(filter(None, (one.note, told.words))))
                for one in found.measured
            ]
        return found

    def _canaries(self) -> tuple[Watch, Recipe, Medians]:
        """The canaries, measured: that of arithmetic at the subject's precision, or at fp32 where it can't be had."""
        from harness.measure.runner import SideFailed
        from harness.measure.watch import PROCESSES, Watch

        def runner(name: str, side: Side) -> Runner:
            return self._runner(name, side, 2 * PROCESSES)

        fp32 = recipe("fp32")
        for compute in dict.fromkeys((self.side.recipe, fp32)):
            canaries = Watch.of(self.side, runner, self._quantities, compute)
            try:
                return canaries, compute, canaries.measured(after=False)
            except SideFailed as failed:
                canaries.close()
                if compute == fp32:
                    raise
                say(f"canary at {compute.name}: {failed}: at fp32 instead")
        raise AssertionError("fp32 was tried")

    def _above(self, found: _Found, before: Medians, after: Medians, compute: Recipe) -> None:
        """Adds the floor, and the latency as a multiple of it, or why there is none."""
        import numpy as np

        from harness.measure.finding import Finding, Said
        from harness.measure.headroom import headroom

        subject, source = self.side.spec.model.id, self.side.spec.model.source
        latency = next((one for one in found.measured if one.unit == "s" and one.percentiles), None)
        if latency is None or source.kind != "onnx":
            lacking = "nothing was run" if latency is None else f"of a {source.kind} nobody here knows the operations"
            found.findings.append(Finding(subject, "floor", Said.NOT_COVERED, lacking))
            return
        every = {name: np.concatenate([np.asarray(before[name]), np.asarray(after[name])]) for name in before}
        try:
            found.headroom = headroom(self.side, found.shapes, every, compute)
        except SpecError as error:
            found.findings.append(Finding(subject, "floor", Said.NOT_COVERED, str(error)))
            return
        found.measured += found.headroom.above(latency)
        found.findings.append(Finding(subject, "floor", Said.NOTED, found.headroom.words))

    @property
    def _quantities(self) -> Sequence[Quantity]:
        from harness.measure.quantity import quantities

        return quantities(tuple(self.ways), 0.02)

    def _runner(self, name: str, side: Side, planned: int, *, rebuilt: bool = False) -> Runner:
        from harness.ledger.measured import note_cell
        from harness.measure.runner import Runner

        note_cell(self.journal, name, side, self.how)
        return Runner(name, [side], self.ways, self.journal, rebuilt, self.tell, planned)


def _leave(title: str, found: _Found, where: str, *, as_json: bool) -> None:
    from harness.report.findings import BENCH_COLUMNS, bench_rows, rows
    from harness.report.findings import as_json as json_of

    measured, findings, above = found.measured, found.findings, found.headroom
    if not as_json:
        print_table(BENCH_COLUMNS, bench_rows(measured), title)
        print_table(("metric", "", "words"), [(one[1], one[4], one[5]) for one in rows(findings)])
        print_details(findings)
        typer.echo(f"all of it in {where}")
    document = {
        "subject": title,
        "measured": measured,
        "findings": [json_of(one) for one in findings],
        "roofline": None if above is None else {**asdict(above), "bound": above.bound, "words": above.words},
        "folder": where,
    }
    leave(_code(found), document, as_json=as_json)


def _code(found: _Found) -> int:
    from harness.measure.finding import BAD

    if any(one.said in BAD for one in found.findings):
        return FAILED
    if any(one.note and one.decides for one in found.measured) or any(one.open for one in found.findings):
        return OPEN
    return PASSED if found.measured else NOTHING
