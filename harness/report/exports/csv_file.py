"""CSV (RFC 4180): a measurement a line, numbers to their last digit, nothing where there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.report.measurement import LABELS, Measurement

COLUMNS = (
    "cell", "key", "metric", "unit", "value", "low", "high", "p99", "processes", "session", "at", *LABELS, "commit",
)  # fmt: skip


def export(measured: Sequence[Measurement]) -> bytes:
    """``processes`` with spaces between; ``at`` in seconds since 1970."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for one in measured:
        fields = {**vars(one), "processes": " ".join(map(repr, one.processes)), **one.labels}
        writer.writerow({name: fields.get(name, "") for name in COLUMNS})
    return text.getvalue().encode("utf-8", "backslashreplace")
