"""Plans that are none, and what becomes of them."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DeserializeError, HarnessError, RunError, StageError

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Arrays
    from harness.runtime.backend.hosted import HostedBackend

# The header of a plan of TensorRT (8.6 or later) or of TensorRT-RTX, as trtexec --getPlanVersionOnly reads it
# (NVIDIA/TensorRT, samples/common/sampleEngines.cpp) and as plans of TensorRT-RTX 1.7 have it.
HEADER = 64  # bytes
TAGS = (b"ftrt", b"vtrt")  # its first four
FORMAT = range(4, 8)  # where the format of the header itself stands, which is 0
VERSION = range(24, 27)  # where the library's version stands then, a byte for each number, if it does
CUTS, FLIPS = 24, 48  # places where a plan is cut short, and bits of it that are flipped
WEIGHTS = 4  # bits that are flipped inside weights, and run
GIGABYTE = 1 << 30
CRASHES = 4  # of one kind, after which the rest of the kind is left out: each costs a new process
WORDS, LENGTH = 3, 160  # different messages that are kept of each kind, and characters of each
HANG = "no answer within"  # how `StageError.crash` begins then
# What a host may grow by beyond the plan itself, a few times over. Loading a good plan comes first.
MEMORY = 256 << 20


@dataclass(frozen=True, eq=False)
class Forged:
    """One plan that is none. Only one whose weights alone have changed may be run."""

    kind: str
    what: str
    plan: Array | Path
    runs: bool = False


def forgeries(
    good: Array, seed: int, model: Path, folder: Path, weights: tuple[bytes, ...] = (), version: str = ""
) -> Iterator[Forged]:
    """Every kind, of the plan ``good``. The same for the same ``seed``; files go to ``folder``.

    ``weights`` are those of ``model`` as bytes, to be looked for in the plan, as is the ``version`` of the library
    that built it, "8.6.0": a plan that holds it nowhere known has no forgeries of the kind "version".
    """
    import numpy as np

    draw, size = random.Random(seed), good.nbytes

    def changed(*places: tuple[int, int]) -> Array:
        copy = good.copy()
        for at, bits in places:
            copy[at] ^= bits
        return copy

    def of(kind: str, what: str, data: bytes) -> Forged:
        return Forged(kind, what, np.frombuffer(data, np.uint8))

    yield of("empty", "no byte", b"")
    few = (1, 4, 8, HEADER // 2, HEADER - 1, HEADER, HEADER + 1)
    many = (size * part // CUTS for part in range(1, CUTS))
    for length in sorted({length for length in (*few, *many, size - 8, size - 1) if 0 < length < size}):
        yield Forged("truncated", f"the first {length} of {size} bytes", good[:length])
    for at in range(min(HEADER, size)):
        yield Forged("header", f"byte {at} is {good[at] ^ 0xFF}, not {good[at]}", changed((at, 0xFF)))
    for _ in range(FLIPS):
        at, bit = draw.randrange(size), draw.randrange(8)
        yield Forged("bit", f"bit {bit} of byte {at}", changed((at, 1 << bit)))
    for place, length in list(_found(good, weights))[:WEIGHTS]:
        at = place + draw.randrange(length)
        yield Forged("weights", f"a bit of byte {at}, in a weight", changed((at, 1 << 4)), runs=True)
    for kind, places in _numbers(good, version).items():
        for at in places:
            yield Forged(kind, f"one more in byte {at}", changed((at, int(good[at]) ^ (int(good[at]) + 1) & 0xFF)))
    for what, data in _foreign(good):
        yield of("another backend's", what, data)
    yield of("text", "a sentence", b"This is no plan at all.\n" * 100)
    yield Forged("onnx", "the model itself", np.fromfile(model, np.uint8))
    zeros = folder / "zeros.plan"
    with zeros.open("wb") as file:
        file.truncate(GIGABYTE)  # takes no room on the disk
    yield Forged("zeros", "a gigabyte of zeros", zeros)


def damaged(whole: Array, good: Array, forged: Iterable[Forged]) -> Iterator[Forged]:
    """What a file that holds ``good`` behind a head of ours may have become of ``whole``.

    Each byte before the plan changed, each of ``forged`` where the plan was, and each by itself.
    """
    import numpy as np

    before = whole.nbytes - good.nbytes
    for at in range(before):
        copy = whole.copy()
        copy[at] ^= 0xFF
        yield Forged("head", f"byte {at} of {before}", copy)
    for one in forged:
        if not isinstance(one.plan, Path):
            yield Forged(one.kind, f"{one.what}, behind its head", np.concatenate((whole[:before], one.plan)))
        yield Forged(one.kind, f"{one.what}, without a head", one.plan)


def _numbers(good: Array, version: str) -> dict[str, range]:
    """Where a plan of a TensorRT's says by numbers who can read it: its "format", and the library's "version"."""
    header = good[:HEADER].tobytes()
    if not header.startswith(TAGS):
        return {}
    # The patch is left out: a plan may be of another one than the library names.
    wanted = bytes(int(number) & 0xFF for number in re.findall(r"\d+", version)[:2])
    at = VERSION.start
    there = len(wanted) == 2 and header[at : at + 2] == wanted
    return {"format": FORMAT, **({"version": VERSION} if there else {})}


def _found(good: Array, weights: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Places and lengths of ``weights`` that stand in the plan as they are; a builder may have laid them out anew."""
    whole = good.tobytes()
    for data in sorted(weights, key=len, reverse=True):
        at = whole.find(data) if len(data) >= 16 else -1
        if at >= 0:
            yield at, len(data)


def _foreign(good: Array) -> Iterator[tuple[str, bytes]]:
    """Plans as other backends begin them."""
    from harness.runtime.backend.fake import _MAGIC
    from harness.runtime.backend.onnxruntime import FORMAT

    whole = good.tobytes()
    for magic in (*TAGS, _MAGIC):
        if not whole.startswith(magic):
            yield f"it begins with {magic!r}", magic + whole[len(magic) :]
    if not whole.startswith(b"{"):
        yield "a plan of onnxruntime's", f'{{"format": "{FORMAT}", "model": "absent.onnx"}}'.encode()


@dataclass(eq=False)
class Trial:
    """Loads forged plans in a process of its own, and keeps what became of each kind.

    ``good`` is loaded before all others, and again after a crash, to know what a host takes of itself; None
    where not even that can be.
    """

    backend: HostedBackend
    good: Array | None
    inputs: Arrays
    plugins: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    slowest: float = 0.0  # seconds of a load
    largest: int = 0  # bytes that a host grew by, beyond what a good plan makes it take
    over: bool = False  # it hung, or takes memory without bounds: more of the same would cost more of the same
    _generation: int = -1
    _before: int | None = None

    def __call__(self, forged: Forged) -> None:
        tally = self.kinds.setdefault(forged.kind, Counter())
        tally["tried"] += 1
        if tally["crashed"] >= CRASHES:
            tally["left out"] += 1
            return
        self._ready()
        started = time.perf_counter()
        try:
            outcome = self._loaded(forged)
        except DeserializeError as error:
            outcome = self._refused(forged, error)
        except HarnessError as error:  # of the host, which caught what nobody raised on purpose
            outcome = "uncaught"
            self.problems.append(f"{forged.kind}: {forged.what}: {str(error).partition(chr(10))[0]}")
        self.slowest = max(self.slowest, time.perf_counter() - started)
        tally[outcome] += 1
        self._weigh(forged)

    def _loaded(self, forged: Forged) -> str:
        """It was taken for a plan. Nothing of it is run but where only weights have changed."""
        engine = self.backend.load(forged.plan, self.plugins)
        if forged.runs:
            with contextlib.suppress(RunError):
                engine.session().run(self.inputs)
        with contextlib.suppress(StageError):
            engine.close()
        return "accepted"

    def _refused(self, forged: Forged, error: DeserializeError) -> str:
        first = error.message.strip().partition("\n")[0]
        kept = self.words.setdefault(forged.kind, [])
        told = re.sub(r"0x[0-9a-f]+|\d+", "#", first)[:LENGTH]  # one message a cause, not one a place
        if told not in kept and len(kept) < WORDS:
            kept.append(told)
        if not first:
            self.problems.append(f"{forged.kind}: {forged.what}: refused without a word")
        if error.crash is None:
            return "refused"
        if error.crash.startswith(HANG):
            self.problems.append(f"{forged.kind}: {forged.what}: {error.crash}")
            self.over = True
            return "hung"
        return "crashed"

    def _ready(self) -> None:
        """A host that has loaded a good plan, and what it takes then."""
        if self.backend.client.alive(self._generation):
            return
        if self.good is not None:
            self.backend.load(self.good, self.plugins).close()
        else:
            self.backend.residue()
            with contextlib.suppress(DeserializeError):
                self.backend.load(Path("/absent.plan"))
        self._generation = self.backend.client.generation
        self._before = peak(int(self.backend.client.facts["pid"]))

    def _weigh(self, forged: Forged) -> None:
        if self._before is None or not self.backend.client.alive(self._generation):
            return
        grown = (peak(int(self.backend.client.facts["pid"])) or 0) - self._before
        self.largest = max(self.largest, grown)
        own = 0 if isinstance(forged.plan, Path) else 4 * forged.plan.nbytes
        if grown > MEMORY + own:
            self.problems.append(f"{forged.kind}: {forged.what}: the host grew by {grown >> 20} MiB")
            self.over = True

    @property
    def table(self) -> dict[str, dict[str, Any]]:
        """By kind how many were tried, refused, accepted, and so on, and in which words."""
        return {kind: {**tally, "words": self.words.get(kind, [])} for kind, tally in self.kinds.items()}


def peak(pid: int) -> int | None:
    """The most memory that a process has had, in bytes; None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) << 10 if found else None
