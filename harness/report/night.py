"""The summary of a night in Markdown: what came of it, then why, the worst first, and never more than is shown.

Services refuse or cut what is longer than 64 KB. So each part has room of its own, says how much of it is left out, and
what comes first is never pushed out by what comes later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from harness.ledger.candidate import Place
from harness.ledger.gate import Question
from harness.ledger.records import NOT_RUN, VERDICTS, Record, Run, Verdict, latest
from harness.ledger.unmet import Unmet, outside
from harness.measure.bench import interval
from harness.measure.finding import BAD, OPEN, Said
from harness.measure.metric import Metric
from harness.measure.quantity import RATE, every
from harness.measure.verdict import told
from harness.report.findings import figure
from harness.report.markdown import escaped, head, row
from harness.report.measurement import measurements, perf_of
from harness.report.terminal import WORDS, first_line

LIMIT = 64 * 1024  # bytes
FAILING: tuple[Verdict, ...] = ("failed", "unexpected_pass", "error")
NO_BASELINE = "measured, and held against nothing: no baseline is accepted"
_QUANTITIES = every()
_RANK = {said: rank for rank, said in enumerate(Said)}
Environments = Mapping[str, Mapping[str, str]]  # by backend


@dataclass(frozen=True)
class Beside:
    """What is told beside the records.

    ``canaries`` say what they found, a line each; ``host_changed`` that they moved. ``before`` is what `environments`
    gave for the last night, None where there was none. ``not_run`` counts cells that were left out on purpose, by
    reason. ``faults`` are what went wrong beside all cells, ``changes`` the change points of the series of the night,
    ``quarantines`` those that excuse nothing any more, ``unmet`` the accepted baselines that nothing met.
    """

    title: str = ""
    canaries: Sequence[str] = ()
    before: Environments | None = None
    not_run: Mapping[str, int] = field(default_factory=dict)
    host_changed: bool = False
    faults: Sequence[str] = ()
    changes: Sequence[str] = ()
    quarantines: Sequence[str] = ()
    unmet: Sequence[Unmet] = ()


@dataclass(frozen=True)
class Standing:
    """How many cells and metrics failed, how many metrics are open, how many cells were covered."""

    failed: int
    open: int
    covered: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Standing:
        lines = lines_of(records)
        return cls(
            sum(line.fails for line in lines) + sum(record.verdict in FAILING for record in records),
            len(_still_open(lines)),
            sum(record.verdict != "not_covered" for record in records),
        )


@dataclass(frozen=True)
class Line:
    """What is said of one metric of a cell, or, without a metric, of all of it.

    ``a`` is its baseline's and ``b`` tonight's, in ``unit``; with ``drift`` the baseline is that of the pinned release.
    """

    subject: str
    metric: str
    said: Said
    words: str
    a: float | None = None
    b: float | None = None
    unit: str = ""
    held: bool = True
    excuse: str = ""
    decides: bool = True
    drift: bool = False

    @classmethod
    def of(cls, ruling: Mapping[str, Any], excuse: str = "") -> Line:
        """From a ruling as a record has it; ``excuse`` where it has none of its own."""
        return cls(
            str(ruling["subject"]),
            str(ruling["metric"]),
            Said(ruling["said"]),
            str(ruling["words"]),
            ruling["a"],
            ruling["b"],
            str(ruling["unit"]),
            bool(ruling["held"]),
            str(ruling["excuse"]) or excuse,
            bool(ruling["decides"]),
            ruling["question"] == Question.DRIFT,
        )

    @property
    def fails(self) -> bool:
        return self.held and not self.excuse and self.said in BAD

    @property
    def another_model(self) -> bool:
        """Whether a baseline of this name is of another model: ``a`` is what that has."""
        return not self.held and self.a is not None

    @property
    def title(self) -> str:
        return f"{self.metric}, drift" if self.drift else self.metric

    @property
    def kind(self) -> Metric:
        known = _QUANTITIES.get(self.metric)
        return known.metric if known else Metric(self.metric, more_is_better=self.unit == RATE)

    @property
    def cost(self) -> float:
        """The log ratio of both, above 0 where it got worse; 0 where there is nothing to compare."""
        if not self.held or not self.a or not self.b or min(self.a, self.b) <= 0:
            return 0.0
        before, now = np.log(self.kind.cost([self.a, self.b]))
        return float(now - before)

    @property
    def change(self) -> str:
        """Of the number itself: ``+1.2 %`` of a throughput is more of it."""
        if not self.held or not self.a or self.b is None:
            return ""
        return f"{100 * (self.b / self.a - 1):+.2f} %"


def summary(runs: Iterable[Run], beside: Beside | None = None) -> str:
    """Of ``runs``, each cell's last record; below `LIMIT` bytes whatever they hold.

    What failed, with the words of its rulings; what is open; baselines that nothing met; regressions that fail nothing,
    and why; quarantines that excuse nothing; models that are others than the baselines of their names; improvements;
    what was not covered, not run or not read, by reason; canaries; environments; suites; means; cells.
    """
    beside = beside or Beside()
    runs = list(runs)
    records = latest(runs)
    lines = lines_of(records)
    problems = [problem for run in runs for problem in run.problems]
    page = f"# {escaped(beside.title or _title(records), 100)}\n\n{_outcome(records, lines, beside)}\n"
    for title, columns, rows, share in _parts(records, lines, problems, beside):
        left = LIMIT - 1 - len(page.encode())
        page += _part(title, columns, rows, min(left, int(share * LIMIT)))
    return page


def environments(records: Iterable[Record]) -> Environments:
    """Of each backend what its measurements, or else its records, name; several of a kind with commas."""
    found: dict[str, dict[str, set[str]]] = {}
    for record in records:
        perf = perf_of(record)
        plain = {name: value for name, value in record.environment.items() if not isinstance(value, Mapping)}
        known = perf["environment"] if perf else Place.of(plain).environment
        for name, value in known.items():
            if name != "backend":
                found.setdefault(record.backend, {}).setdefault(name, set()).add(str(value))
    return {
        backend: {name: ", ".join(sorted(values)) for name, values in sorted(names.items())}
        for backend, names in sorted(found.items())
    }


def _title(records: Sequence[Record]) -> str:
    return f"Night {', '.join(dict.fromkeys(record.run for record in records))}".strip()


def _still_open(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.decides and line.said in OPEN]


def _outcome(records: Sequence[Record], lines: Sequence[Line], beside: Beside) -> str:
    """One line."""
    tally = Counter(record.verdict for record in records)
    regressions = sum(line.fails and line.said is Said.REGRESSION for line in lines)
    others = sum(line.fails and line.said is Said.FAILED for line in lines)
    still_open = len(_still_open(lines))
    what = [_count(regressions, "regression"), _count(others, "failure"), _count(len(beside.faults), "fault")]
    failed = " and ".join(text for text in what if text)
    if failed:
        said = f"FAILED: {failed}"
    elif len(records) == tally["not_covered"]:
        said = "NOTHING was covered"
    else:
        said = "PASSED"
    counts = ", ".join(
        f"{tally[verdict]:,} {WORDS[verdict][tally[verdict] > 1]}" for verdict in WORDS if tally[verdict]
    )
    not_run = sum(record.message == NOT_RUN for record in records)
    rest = f"; {_count(not_run, 'cell')} not run" if not_run else ""
    rest += f"; {_count(still_open, 'metric')} open" if still_open else ""
    unmet = _count(sum(one.within for one in beside.unmet), "baseline")
    rest += f"; {unmet} not met" if unmet else ""
    rest += "; the host changed" if beside.host_changed else ""
    return f"**{said}**{rest}. {_count(len(records), 'cell') or 'No cell'}{': ' if counts else ''}{counts}."


def lines_of(records: Sequence[Record]) -> list[Line]:
    """All that is said, the worst first: rulings, and failures of cells that no ruling tells."""
    found: dict[tuple[str, str, bool], Line] = {}
    for record in records:
        rulings = perf_of(record).get("rulings", [])
        known = record.cause if record.verdict == "known_failure" else ""
        lines = [Line.of(ruling, excuse=known) for ruling in rulings]
        for line in lines:
            key = line.subject, line.metric, line.drift
            found[key] = min(line, found.get(key, line), key=_worst)
        if record.verdict in FAILING and not any(line.fails for line in lines):
            where = WORDS[record.verdict][0] + (f" at {record.stage}" if record.stage else "")
            line = Line(record.cell.id, "", Said.FAILED, f"{where}: {first_line(record.message)}")
            found[record.node, record.cell.id, False] = line
    ruled = {(subject, metric) for subject, metric, _ in found}
    for one in measurements(records):
        if (one.cell, one.metric) not in ruled:
            line = Line(one.cell, one.metric, Said.NOTED, NO_BASELINE, None, one.value, one.unit, held=False)
            found[one.cell, one.metric, False] = line
    return sorted(found.values(), key=_worst)


def _worst(line: Line) -> tuple[bool, int, bool, float, str]:
    return not line.fails, _RANK[line.said], not line.another_model, -line.cost, line.subject


_Part = tuple[str, Sequence[str], list[Sequence[str]], float]  # title, columns, rows in Markdown, share of the room


def _parts(
    records: Sequence[Record], lines: Sequence[Line], problems: Sequence[str], beside: Beside
) -> Iterable[_Part]:
    said = ("cell", "metric", "", "what")
    yield "Faults of the night", ("what went wrong beside all cells",), [[escaped(one)] for one in beside.faults], 0.05
    yield "Failed", said, [_said(line) for line in lines if line.fails], 0.3
    yield "Open", said, [_said(line) for line in _still_open(lines)], 0.15
    yield "Baselines that nothing met tonight", ("cell", "why"), _unmet(beside.unmet), 0.08
    excused = [line for line in lines if line.said in BAD and not line.fails]
    yield "Regressions that fail nothing", said, [_said(line) for line in excused], 0.08
    yield "Quarantines that excuse nothing", ("which, and why",), [[escaped(q)] for q in beside.quarantines], 0.04
    unlike: list[Sequence[str]] = [_said(line) for line in lines if line.another_model]
    yield "Other models than the baselines of their names", said, unlike, 0.05
    better = sorted((line for line in lines if line.said is Said.IMPROVEMENT), key=lambda line: line.cost)
    yield "Improvements", said, [_said(line) for line in better], 0.08
    left_out = _left_out(records, lines, problems, beside)
    yield "Not covered, not run", ("how many", "why", "what would cover it"), left_out, 0.08
    yield "Change points", ("proposals, and what decided them",), [[escaped(one)] for one in beside.changes], 0.05
    yield "Canaries", ("what they found",), [[escaped(canary)] for canary in beside.canaries], 0.03
    named = ("backend", "what", "value", *(() if beside.before is None else ("last night",)))
    yield "Environment", named, _environment(records, beside.before), 0.05
    yield "Suites", ("suite", "cells", *(WORDS[verdict][1] for verdict in VERDICTS)), _suites(records), 0.05
    yield "Means", ("metric", "cells", "against their baselines, 95 % over cells"), _means(lines), 0.03
    yield "Cells", ("cell", "metric", "baseline", "tonight", "change", ""), _cells(lines), 1.0


def _part(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> str:
    """A table of as many ``rows`` as go into ``room`` bytes with all around them; "" of none."""
    if not rows:
        return ""
    text = "\n".join(["", f"## {title}", "", *head(columns), ""])
    more = "\nand {:,} more\n"
    left = room - len(text.encode()) - len(more.format(len(rows)))
    if left < 0:
        return ""
    for number, cells in enumerate(rows):
        line = row(cells) + "\n"
        left -= len(line.encode())
        if left < 0:
            return text + more.format(len(rows) - number)
        text += line
    return text


def _said(line: Line) -> list[str]:
    excuse = f" ({line.excuse})" if line.excuse else ""
    words = f"{line.words}{excuse}"
    return [escaped(line.subject, 150), escaped(line.title), line.said.value.replace("_", " "), escaped(words, 600)]


def _unmet(found: Sequence[Unmet]) -> list[Sequence[str]]:
    """A row for each that is within what the night was to do; the others are counted in one, which none pushes out."""
    rest = outside(found)
    rows = [[escaped(one.cell, 150), escaped(one.why, 300)] for one in found if one.within]
    return [*([["others", escaped(rest, 600)]] if rest else []), *rows]


def _left_out(
    records: Sequence[Record], lines: Sequence[Line], problems: Sequence[str], beside: Beside
) -> list[Sequence[str]]:
    """Counted by reason, most of a kind first."""
    uncovered = Counter((first_line(one.message), one.fix) for one in records if one.verdict == "not_covered")
    cells = Counter({why: count for why, count in uncovered.items() if why[0] != NOT_RUN})
    unseen = Counter((f"cached: {first_line(one.message)}", "") for one in records if one.verdict == "cached")
    not_run = Counter({(reason, ""): count for reason, count in beside.not_run.items()}) + (uncovered - cells)
    missing: Counter[tuple[str, str]] = Counter()
    for record in records:
        for metric, why in perf_of(record).get("missing", {}).items():
            missing[f"{metric}: {first_line(why)}", ""] += 1
    unheld = Counter((NO_BASELINE, "") for line in lines if not line.held and not line.another_model)
    unread = Counter({("can't be read: " + problems[0], ""): len(problems)} if problems else {})
    counts = {
        ("record", "records"): unread,
        ("cell not run", "cells not run"): not_run,
        ("cell not covered", "cells not covered"): cells,
        ("cell", "cells"): unseen,
        ("metric not measured", "metrics not measured"): missing,
        ("metric", "metrics"): unheld,
    }
    return [
        [_count(count, *words), escaped(why), escaped(fix)]
        for words, tally in counts.items()
        for (why, fix), count in sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    ]


def _environment(records: Sequence[Record], before: Environments | None) -> list[Sequence[str]]:
    """What changed comes first, in bold; what tonight does not tell, as where time was too short, is no change."""
    found = environments(records)
    rows: list[tuple[bool, Sequence[str]]] = []
    for backend in sorted(found.keys() | (before or {}).keys()):
        now, last = found.get(backend, {}), (before or {}).get(backend, {})
        for name in sorted(now.keys() | last.keys()):
            value = escaped(now.get(name, "unknown"))
            differs = before is not None and name in now and now[name] != last.get(name)
            was = escaped(last.get(name, "unknown")) if now.get(name) != last.get(name) else "the same"
            cells = [escaped(backend), escaped(name), f"**{value}**" if differs else value]
            rows.append((not differs, cells if before is None else [*cells, was]))
    return [cells for _, cells in sorted(rows, key=lambda item: item[0])]


def _suites(records: Sequence[Record]) -> list[Sequence[str]]:
    suites: dict[str, Counter[str]] = {}
    for record in records:
        file = PurePosixPath(record.node.partition("::")[0])
        suite = file.parent if file.parent.name else file  # below --pyargs a file is named from its package
        suites.setdefault(str(suite), Counter())[record.verdict] += 1
    return [
        [escaped(suite), f"{tally.total():,}", *(f"{tally[verdict]:,}" for verdict in VERDICTS)]
        for suite, tally in sorted(suites.items())
    ]


def _means(lines: Sequence[Line]) -> list[Sequence[str]]:
    """The geometric mean of tonight over the baseline, for each metric of two cells or more."""
    by_metric: dict[str, list[Line]] = {}
    for line in lines:
        if line.held and not line.drift and line.a and line.b and min(line.a, line.b) > 0:
            by_metric.setdefault(line.metric, []).append(line)
    rows: list[Sequence[str]] = []
    for name, members in sorted(by_metric.items()):
        ratios = np.exp([line.cost for line in members])
        low, high = interval(ratios)
        if low is not None and high is not None:
            mean = float(np.log(ratios).mean())
            words = told(members[0].kind, mean, math.log(low), math.log(high))
            rows.append([escaped(name), f"{len(members):,}", words])
    return rows


def _cells(lines: Sequence[Line]) -> list[Sequence[str]]:
    return [
        [
            escaped(line.subject, 150),
            escaped(line.title),
            escaped(figure(line.a, line.unit) if line.held or line.another_model else ""),
            escaped(figure(line.b, line.unit)),
            line.change,
            line.said.value.replace("_", " "),
        ]
        for line in lines
        if line.metric
    ]


def _count(number: int, one: str, several: str = "") -> str:
    """``3 cells``; "" of none."""
    return f"{number:,} {one if number == 1 else several or one + 's'}" if number else ""
