"""Parquet: a measurement a row, columns typed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from harness.report.measurement import LABELS, Measurement

LAYOUT = b"1"  # in the file's metadata; raise it when a column changes


def export(measured: Sequence[Measurement]) -> bytes:
    """Text, float64 (null where there is none), ``processes`` a list of them, ``at`` a timestamp in UTC."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    columns: dict[str, tuple[Any, list[Any]]] = {
        **{name: (text, [_text(getattr(one, name)) for one in measured]) for name in ("cell", "key", "metric", "unit")},
        **{name: (number, [getattr(one, name) for one in measured]) for name in ("value", "low", "high", "p99")},
        "processes": (pa.list_(number), [list(one.processes) for one in measured]),
        "session": (text, [_text(one.session) for one in measured]),
        "at": (pa.timestamp("us", tz="UTC"), [round(one.at * 1e6) for one in measured]),
        **{name: (text, [_text(one.labels.get(name)) for one in measured]) for name in LABELS},
        "commit": (text, [_text(one.commit or None) for one in measured]),
    }
    arrays = [pa.array(values, kind) for kind, values in columns.values()]
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()], {b"trt_harness": LAYOUT})
    file = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=schema), file)
    return file.getvalue()


def _text(value: str | None) -> str | None:
    """What UTF-8 has a form for."""
    return value and value.encode("utf-8", "backslashreplace").decode()
