"""Raw samples, as Parquet files that are named by what they hold.

A file has one row a sample: process, way to run, metric, seconds. Its name is the SHA-256 of these, so that the same
samples are one file whoever writes them, and whatever wrote them is found out by reading.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import StoreError

SUFFIX = ".parquet"
_KEY = re.compile("[0-9a-f]{64}")
Way = str
Taken = Mapping[Way, Mapping[str, npt.NDArray[np.float64]]]  # of one process: seconds by way to run and metric


@dataclass(frozen=True)
class Samples:
    """The files in ``folder``."""

    folder: Path

    def put(self, processes: Sequence[Taken]) -> tuple[str, int]:
        """The key of these samples, which are here now, and their size in bytes. StoreError."""
        import pyarrow.parquet as parquet

        key = key_of(processes)
        file = self.file(key)
        try:
            os.utime(file)  # as good as new: a file that no store names yet is not deleted for a day
        except FileNotFoundError:
            self._place(file, lambda path: parquet.write_table(_table(processes), path, compression="zstd"))
        except OSError as error:
            raise StoreError(f"{file}: samples can't be written: {error.strerror}") from None
        return key, file.stat().st_size

    def adopt(self, key: str, content: bytes) -> int:
        """Take a file from elsewhere; its size in bytes, or 0 where it is here already.

        StoreError where it holds other samples than those of ``key``.
        """
        if not _KEY.fullmatch(key):
            raise StoreError(f"{key!r}: no key of samples: expected 64 hexadecimal digits")
        file = self.file(key)
        if file.is_file():
            return 0

        def write(path: Path) -> None:
            path.write_bytes(content)
            _read(path, key)

        self._place(file, write)
        return len(content)

    def get(self, key: str) -> list[Taken]:
        """By process. StoreError where they are not here, or not those that were put."""
        return _read(self.file(key), key)

    def files(self) -> Iterator[Path]:
        """All that are here, in order."""
        yield from sorted(self.folder.glob(f"??/*{SUFFIX}"))

    def _place(self, file: Path, write: Callable[[Path], None]) -> None:
        """``file``, whole or not at all, as ``write`` makes it, on the disk."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
            try:
                write(Path(temporary))
                os.fsync(handle)  # a store that names it is on the disk, too
                os.replace(temporary, file)  # noqa: PTH105 - both are names
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            finally:
                os.close(handle)
        except OSError as error:
            raise StoreError(f"{file}: samples can't be written: {error.strerror or error}") from None

    def drop(self, key: str) -> int:
        """Delete them; bytes that are free now."""
        file = self.file(key)
        size = file.stat().st_size if file.is_file() else 0
        file.unlink(missing_ok=True)
        return size

    def file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"


def _read(file: Path, key: str) -> list[Taken]:
    import pyarrow.parquet as parquet

    try:
        columns = parquet.read_table(file, partitioning=None).to_pydict()
        found = _processes(columns)
    except FileNotFoundError:
        raise StoreError(f"{file}: these samples are not here: they were pruned, or are on another machine") from None
    except Exception as error:  # pyarrow's own, of which there are many
        raise StoreError(f"{file}: no samples can be read from it: {error}") from None
    if key_of(found) != key:
        raise StoreError(f"{file}: not the samples that were put there: their digest is not {key}")
    return found


def key_of(processes: Sequence[Taken]) -> str:
    """SHA-256 of the samples, whatever file they are in."""
    total = hashlib.sha256()
    for number, taken in enumerate(processes):
        for way in sorted(taken):
            for metric in sorted(taken[way]):
                values = np.ascontiguousarray(taken[way][metric], "<f8")
                total.update(f"{number}\0{way}\0{metric}\0{values.size}\0".encode())
                total.update(values.tobytes())
    return total.hexdigest()


def _table(processes: Sequence[Taken]) -> Any:
    import pyarrow as pa

    parts: dict[str, list[Any]] = {"process": [], "way": [], "metric": [], "seconds": []}
    for number, taken in enumerate(processes):
        for way in sorted(taken):
            for metric in sorted(taken[way]):
                values = np.asarray(taken[way][metric], np.float64)
                parts["process"].append(np.full(values.size, number, np.int32))
                parts["way"] += [way] * values.size
                parts["metric"] += [metric] * values.size
                parts["seconds"].append(values)
    whole = {name: np.concatenate(parts[name]) if parts[name] else np.zeros(0) for name in ("process", "seconds")}
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.table(
        {
            "process": pa.array(whole["process"], pa.int32()),
            "way": pa.array(parts["way"], pa.string()).cast(text),
            "metric": pa.array(parts["metric"], pa.string()).cast(text),
            "seconds": pa.array(whole["seconds"], pa.float64()),
        }
    )


def _processes(columns: Mapping[str, Sequence[Any]]) -> list[Taken]:
    found: dict[int, dict[str, dict[str, list[float]]]] = {}
    rows = zip(*(columns[name] for name in ("process", "way", "metric", "seconds")), strict=True)
    for number, way, metric, seconds in rows:
        found.setdefault(number, {}).setdefault(way, {}).setdefault(metric, []).append(seconds)
    return [
        {way: {metric: np.asarray(values) for metric, values in metrics.items()} for way, metrics in found[n].items()}
        for n in sorted(found)
    ]
