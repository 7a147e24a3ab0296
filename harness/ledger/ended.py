"""How a run ended, beside its records: each process that came to its end leaves a line in the run's folder.

::

    {"run": "20260131-142501-9f3a", "command": "pytest suites --trt-perf gate", "began": 1769869501.2,
     "ended": 1769873101.9, "code": 1, "counts": {"passed": 311, "failed": 1},
     "quarantines": [{"cell": "gpt*", "owner": "ada", "reason": "...", "until": "2026-12-31", "over": false,
                      "unmatched": false}],
     "unmet": [{"cell": "bert-fp16-opt-tensorrt on NVIDIA H200", "why": "...", "within": true}]}

``counts`` are of all records of the run by then, by verdict; ``quarantines`` what the file of baselines had, where
performance was asked for, each with whether it was over, and whether no cell of the run was of it; ``unmet`` the
accepted baselines that no cell met (`harness.ledger.unmet`). A run that was killed and gone on with has as many lines
as processes that ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtime.lines import LineLog

if TYPE_CHECKING:
    from harness.ledger.baselines import Quarantine

FILE = "ended"


@dataclass(frozen=True)
class Ended:
    """As above; times in seconds since 1970."""

    run: str
    command: str
    began: float
    ended: float
    code: int
    counts: Mapping[str, int]
    quarantines: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    unmet: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def seen(quarantine: Quarantine, *, over: bool, unmatched: bool = False) -> dict[str, Any]:
    """A quarantine as a run finds it."""
    return {**asdict(quarantine), "until": quarantine.until.isoformat(), "over": over, "unmatched": unmatched}


def idle(quarantines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those that excuse nothing, a line each: what `seen` gave of them."""
    lines = []
    for one in quarantines:
        if one["over"]:
            lines.append(
                f"quarantine of {one['cell']} is over and excuses nothing: it held until {one['until']}: mend the "
                f"cells, renew the date, or remove it ({one['owner']}: {one['reason']})"
            )
        elif one.get("unmatched"):
            lines.append(
                f"quarantine of {one['cell']} excuses nothing: no cell of this run is one of these: mend or remove it "
                f"({one['owner']}, until {one['until']}: {one['reason']})"
            )
    return lines


def note(folder: Path, ended: Ended) -> None:
    """Leave it in the ``folder`` of a run. OSError."""
    with contextlib.closing(LineLog(folder / FILE)) as log:
        log.append([json.dumps({**vars(ended), "counts": dict(ended.counts)})])


def noted(folder: Path) -> list[Ended]:
    """What `note` left, the first first; none for a run without it. TypeError and ValueError for anything else."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Ended(**json.loads(line)) for line in lines if line]
