"""``compare``: two of anything, measured against each other, with a verdict that holds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, sides
from harness.cli.exits import FAILED, INTERRUPTED, NOTHING, OPEN, PASSED
from harness.cli.output import leave, print_table, repeat, say, telling
from harness.cli.target import FP32
from harness.errors import SpecError, UnsupportedError
from harness.settings import BEST

if TYPE_CHECKING:
    from harness.measure.contest import Effort
    from harness.measure.finding import Finding
    from harness.measure.journal import Journal
    from harness.measure.quantity import Quantity
    from harness.measure.runner import Runner
    from harness.measure.side import Side
    from harness.runtime.sampling import Sampling
    from harness.runtime.workbench import Workbench

OF_A, OF_B = "of A, where it is not as for both", "of B, where it is not as for both"
Own = str | None


def compare(
    a: Annotated[str, typer.Argument(help="a plan, a model's name, an .onnx or .toml file, or a pattern", metavar="A")],
    b: Annotated[str | None, typer.Argument(help="what to compare it with (default: A)", metavar="[B]")] = None,
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="precision of both")] = FP32,
    a_precision: Annotated[Own, typer.Option("--a-precision", metavar="NAME", help=OF_A)] = None,
    b_precision: Annotated[Own, typer.Option("--b-precision", metavar="NAME", help=OF_B)] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend of both")] = BEST,
    a_backend: Annotated[Own, typer.Option("--a-backend", metavar="NAME", help=OF_A)] = None,
    b_backend: Annotated[Own, typer.Option("--b-backend", metavar="NAME", help=OF_B)] = None,
    a_python: Annotated[Own, typer.Option("--a-python", metavar="PYTHON", help="interpreter of A's backend")] = None,
    b_python: Annotated[Own, typer.Option("--b-python", metavar="PYTHON", help="interpreter of B's backend")] = None,
    build_option: options.BuildOptions = None,
    a_build_option: Annotated[
        list[str] | None, typer.Option("--a-build-option", metavar="KEY=VALUE", help="of A, beside those of both")
    ] = None,
    b_build_option: Annotated[
        list[str] | None, typer.Option("--b-build-option", metavar="KEY=VALUE", help="of B, beside those of both")
    ] = None,
    profile: options.Profiles = None,
    point: sides.At = "opt",
    device: sides.Device = 0,
    processes: sides.Processes = 8,
    confirm: Annotated[
        int, typer.Option("--confirm", metavar="NUMBER", help="processes of a side, at most, to confirm a suspicion")
    ] = 64,
    rebuilds: sides.Rebuilds = None,
    streams: sides.Streams = None,
    cold: sides.Cold = False,
    seconds: sides.Seconds = None,
    warmup: sides.Warmup = None,
    canaries: sides.Canaries = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="PERCENT", help="loss of speed up to which it passes")
    ] = 2.0,
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
    """Measure B against A: numbers, latency, memory, sizes, layers, in processes that take turns.

    Exits with 0 when nothing got worse, 1 when something did or a side fails, 4 when that is open, 3 when
    nothing could be measured. Interrupted, it goes on with --output.
    """
    from harness.ledger.measured import how_of
    from harness.measure.contest import Effort
    from harness.measure.journal import Journal
    from harness.measure.quantity import quantities
    from harness.report.findings import as_fact

    command = sides.command("compare")
    if processes % 2 or confirm % 2:
        raise SpecError(f"--processes {processes}, --confirm {confirm}: even numbers, since a block has two of a side")
    if rebuilds is not None and (rebuilds % 2 or rebuilds < 4):
        raise SpecError(f"--rebuilds {rebuilds}: an even number, 4 or more: fewer say nothing of their spread")
    if not 0 < tolerance < 100:
        raise SpecError(f"--tolerance {tolerance}: percent, between 0 and 100")
    effort = Effort((rebuilds or processes) // 2, (rebuilds or confirm) // 2)
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
    ways = sides.ways(streams, cold=cold, seconds=seconds, warmup=warmup)
    pairs = _pairs(*(sides.expanded(target, terms.settings.models) for target in (a, b or a)))
    both = {"--build-option": build_option, "--profile": profile}
    own_options = ({"--a-build-option": a_build_option}, {"--b-build-option": b_build_option})
    for pair in pairs.values():
        sides.admit(pair, terms.settings.models, own_options, rebuilds, both)
    where = sides.folder(output, "compare")
    own = (
        (a_precision or precision, a_backend or backend, a_build_option or []),
        (b_precision or precision, b_backend or backend, b_build_option or []),
    )
    if a_python == b_python and own[0] == own[1] and all(one == other for one, other in pairs.values()):
        say("A and B are asked alike: what differs between them is chance, or a build")
    with contextlib.ExitStack() as open_:
        benches = [
            open_.enter_context(sides.bench_of(terms, python, [pair[arm] for pair in pairs.values()]))
            for arm, python in enumerate((a_python, b_python))
        ]
        made: dict[str, list[Side]] = {}
        findings: list[Finding] = []
        for subject, targets in pairs.items():
            found = _sides(terms, benches, subject, targets, own, (a_python, b_python))
            if isinstance(found, list):
                made[subject] = found
            else:
                findings.append(found)
        asked = {"ways": ways, "rebuilds": rebuilds, "canaries": canaries, "point": point, "seed": terms.settings.seed}
        request = sides.request("compare", made, **asked)
        try:
            with contextlib.closing(Journal(where, request)) as journal, telling() as tell:
                if journal.taken_over:
                    say(f"{where}: goes on after {journal.taken_over} processes")
                wanted = quantities(tuple(ways), tolerance / 100)
                rebuilt = rebuilds is not None
                session = _Session(journal, ways, effort, wanted, rebuilt, tell, how_of(ways, rebuilt=rebuilt))
                findings += session.watched(made) if canaries and made else session.contests(made)
                command.end(journal, code_of(findings), [as_fact(one) for one in findings])
        except KeyboardInterrupt:
            say(f"interrupted; to go on: {repeat(_again(where, output is not None))}")
            leave(INTERRUPTED, {"folder": str(where)}, as_json=json)
    _leave(findings, len(pairs), str(where), as_json=json)


def _pairs(a: list[str], b: list[str]) -> dict[str, tuple[str, str]]:
    """By the subject's name: what is A of it, and what B. SpecError where they are not as many."""
    if len(a) != len(b):
        raise SpecError(f"A are {len(a)} models and B are {len(b)}: as many of each, or leave B out")
    return {Path(one).stem if Path(one).is_file() else one: (one, other) for one, other in zip(a, b, strict=True)}


def _sides(
    terms: sides.Terms,
    benches: Sequence[Workbench],
    subject: str,
    targets: Sequence[str],
    own: Sequence[tuple[str, str, list[str]]],
    pythons: Sequence[str | None],
) -> list[Side] | Finding:
    """Both sides, or that one of them is not to be had where it should be: under a Python that is said to have it.

    UnsupportedError where that is no side's fault: neither can, or the two were asked for different things.
    """
    from harness.measure.finding import Finding, Said

    made: list[Side] = []
    errors: list[tuple[str, UnsupportedError]] = []
    for arm, (name, bench) in enumerate(zip("AB", benches, strict=True)):
        precision, its_backend, option = own[arm]
        wanted = made[0].backend if made and its_backend == BEST else its_backend
        try:
            made.append(sides.side(terms, bench, name, targets[arm], precision, wanted, option))
        except UnsupportedError as error:
            errors.append((name, error))
    if not errors:
        return made
    name, lacking = errors[0]
    alike = own[0][0] == own[1][0] and _base(own[0][1]) == _base(own[1][1])
    if len(errors) > 1 or not (alike or pythons["AB".index(name)]):
        raise lacking
    return Finding(subject, f"side {name}", Said.FAILED, f"it is not there: {lacking}")


def _base(backend: str) -> str:
    return backend.partition(":")[0]


@dataclass(frozen=True)
class _Session:
    """All that one command measures."""

    journal: Journal
    ways: dict[str, Sampling]
    effort: Effort
    quantities: Sequence[Quantity]
    rebuilt: bool
    tell: Callable[[str], None]
    how: str  # that it is measured, where a night would do it otherwise

    def contests(self, made: dict[str, list[Side]]) -> list[Finding]:
        """One after the other, each with the layers that changed."""
        from harness.measure.contest import Contest
        from harness.measure.interleave import PROCESSES
        from harness.report.findings import layers

        findings: list[Finding] = []
        for subject, pair in made.items():
            runner = self.runner(subject, pair, self.effort.blocks * PROCESSES, rebuilt=self.rebuilt)
            with contextlib.closing(runner):
                contest = Contest(runner, self.quantities, self.effort, len(made))
                findings += [*contest.run(), layers(subject, contest.told, contest.untold)]
        return findings

    def watched(self, made: dict[str, list[Side]]) -> list[Finding]:
        """The same between two measurements of the canaries, on the device of the first A."""
        from harness.measure import watch
        from harness.measure.runner import SideFailed

        def runner(name: str, side: Side) -> Runner:
            return self.runner(name, [side], 2 * watch.PROCESSES)

        first = next(iter(made.values()))[0]
        with contextlib.closing(watch.Watch.of(first, runner, self.quantities)) as canaries:
            try:
                before = canaries.measured(after=False)
                findings = self.contests(made)
                return watch.after_a_move(findings, before, canaries.measured(after=True))
            except SideFailed as failed:
                return [failed.finding("canaries")]

    def runner(self, name: str, sides_: Sequence[Side], planned: int, *, rebuilt: bool = False) -> Runner:
        from harness.ledger.measured import note_cell
        from harness.measure.runner import Runner

        for side in sides_:
            note_cell(self.journal, name, side, self.how)
        return Runner(name, sides_, self.ways, self.journal, rebuilt, self.tell, planned)


def _leave(findings: Sequence[Finding], subjects: int, where: str, *, as_json: bool) -> None:
    from harness.measure.finding import mean_over
    from harness.measure.quantity import QUANTITIES
    from harness.report.findings import COLUMNS, rows
    from harness.report.findings import as_json as json_of

    means = {one.name: words for one in QUANTITIES if one.decides and (words := mean_over(findings, one))}
    if not as_json:
        print_table(COLUMNS, rows(findings))
        print_details(findings)
        for name, words in means.items():
            typer.echo(f"{name}: {words}")
        kept = f"; all of it in {where}" if Path(where).is_dir() else ""
        typer.echo(f"{_summary(findings)}{kept}")
    document = {
        "findings": [json_of(one) for one in findings],
        "means": means,
        "subjects": subjects,
        "folder": where,
    }
    leave(code_of(findings), document, as_json=as_json)


def print_details(findings: Sequence[Finding]) -> None:
    """What is in no table: the rest of what failed."""
    for one in findings:
        if one.detail:
            typer.echo(f"{one.subject}: {one.metric}: {one.words}\n{one.detail}\n")


def code_of(findings: Sequence[Finding]) -> int:
    from harness.measure.finding import BAD, SETTLED
    from harness.measure.watch import CANARIES

    if any(one.said in BAD for one in findings):
        return FAILED
    if any(one.open for one in findings):
        return OPEN
    settled = any(one.said in SETTLED and one.metric not in ("layers", CANARIES) for one in findings)
    return PASSED if settled else NOTHING


def _summary(findings: Sequence[Finding]) -> str:
    from collections import Counter

    from harness.measure.finding import Said

    counts = Counter(one.said for one in findings)
    return ", ".join(f"{counts[said]} {said.value.replace('_', ' ')}" for said in Said if counts[said])


def _again(where: Path, named: bool) -> list[str]:
    return [*sys.argv[1:], *([] if named else ["--output", str(where)])]
