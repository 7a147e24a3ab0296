"""Latency on the device: events around runs that follow one another without a pause.

What is between two events is what the device does. The host runs ahead of it and waits only at the
end of a chunk, so that the device never waits for the host. Beside the runs there is what it takes the device to
begin with a launch, some microseconds of a graph: so as many runs go between two events as take `LASTING`, and with
a graph those are one launch. How many is a power of two that the time of a run decides, and the host's only where it
takes a tenth of `LASTING` and more to hand them over: so one session finds the same as another, unless a run takes
about a power of two, where what is shared out differs by .2 % at most.

Copies and the latency that a caller sees have passes of their own behind that, a quarter as many: copies between
runs would change what lies in the caches, and waiting leaves the device idle.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.runtime.backend.nv.memory import Memory
from harness.runtime.backend.protocol import Array
from harness.runtime.device import Buffer, Event, Graph, Pinned, Stream, l2_cache
from harness.runtime.sampling import (
    CHUNK,
    D2H,
    END_TO_END,
    ENQUEUE,
    GPU,
    H2D,
    THROUGHPUT,
    Chunk,
    Samples,
    Sampling,
    sample,
)

LEAD = 2  # runs before the first that is timed in a chunk, which would meet an idle device
TRIAL = 20  # samples that decide how many runs go between two events
LASTING = 1e-3  # seconds between two events: of which a launch's 4 us, as H100 and H200 have it, are less than .4 %
BUSY = 10  # and so many times as long as the host takes to hand it over
MOST_REPLAYS = 128
SELDOM = 4  # one pass of copies for so many runs
BATCH_SECONDS = 0.005  # of runs on several streams that one sample of their throughput is made of
MOST_ROUNDS = 200  # of them


@dataclass(frozen=True)
class Lane:
    """One context ready to run: its stream, its memory, and what is copied there and back for a run, in bytes."""

    stream: Stream
    memory: Memory
    enqueue: Callable[[], None]
    graph: Graph | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, int]

    def launch(self) -> None:
        if self.graph is not None:
            self.graph.launch(self.stream)
        else:
            self.enqueue()


def measured(lanes: Sequence[Lane], plan: Sampling) -> Samples:
    """What ``plan`` asks for, of one lane, or of several at once. All that is made for it is given back."""
    with contextlib.ExitStack() as resources:
        try:
            if len(lanes) > 1:
                crowd = Crowd([Copies(lane, resources) for lane in lanes])
                return sample(crowd.take, plan, THROUGHPUT, replays=crowd.replays)
            meter = Meter(Copies(lanes[0], resources), plan, resources)
            return sample(meter.take, plan, GPU, replays=meter.replays)
        finally:  # what an error left under way still uses what is given back
            for lane in lanes:
                lane.stream.synchronize()


def replays_for(run: float, host: float) -> int:
    """How many runs of ``run`` seconds go between two events.

    ``host`` are the seconds that the host takes to hand over as many as one launch has: all of a graph, else one run.
    """
    wanted = max(LASTING, BUSY * host) / max(run, 1e-9)
    return int(min(2 ** math.ceil(math.log2(max(wanted, 1))), MOST_REPLAYS))


class Copies:
    """The copies of one lane, from and to memory of the host that the device reaches by itself."""

    def __init__(self, lane: Lane, resources: contextlib.ExitStack) -> None:
        self.lane = lane
        self._inputs: list[tuple[Pinned, Buffer]] = []
        self._outputs: list[tuple[Buffer, Pinned]] = []
        for name, array in lane.inputs.items():
            if array.nbytes:
                pinned = resources.enter_context(Pinned(array.nbytes))
                pinned.array[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                self._inputs.append((pinned, lane.memory.buffer(name)))
        for name, nbytes in lane.outputs.items():
            if nbytes:
                self._outputs.append((lane.memory.buffer(name), resources.enter_context(Pinned(nbytes))))

    def upload(self) -> None:
        for pinned, buffer in self._inputs:
            self.lane.stream.send(pinned, buffer)

    def download(self) -> None:
        for buffer, pinned in self._outputs:
            self.lane.stream.fetch(buffer, pinned)


class Meter:
    """Takes all metrics of one lane."""

    def __init__(self, copies: Copies, plan: Sampling, resources: contextlib.ExitStack) -> None:
        self._copies, self._lane = copies, copies.lane
        self._stream = self._lane.stream
        self._starts = [resources.enter_context(Event()) for _ in range(CHUNK)]
        self._ends = [resources.enter_context(Event()) for _ in range(CHUNK)]
        self._flushed = resources.enter_context(Buffer())
        if plan.cold:
            self._flushed.reserve(l2_cache())
        self._launch = self._lane.launch
        self.replays = 1
        if not plan.cold:  # of several in a row only the first would be cold
            self.replays = plan.replays or self._chosen()
            self._launch = self._several(self.replays, resources)

    def take(self, count: int) -> Mapping[str, Chunk]:
        """``count`` samples of the device, `CHUNK` at most, and of the other metrics a `SELDOM`-th."""
        seldom = max(count // SELDOM, 1)
        runs = self._between_events(count, self._launch, flush=True)
        copied = {
            H2D: self._between_events(seldom, self._copies.upload),
            D2H: self._between_events(seldom, self._copies.download),
        }
        return {GPU: Chunk(runs.seconds / self.replays, runs.at), **copied, **self._end_to_end(seldom)}

    def _between_events(self, count: int, act: Callable[[], None], *, flush: bool = False) -> Chunk:
        at = np.empty(count)
        stream, flushed = self._stream, self._flushed
        for _ in range(LEAD):
            act()
        for index, (start, end) in enumerate(zip(self._starts[:count], self._ends, strict=False)):
            at[index] = time.perf_counter()
            if flush:
                stream.fill(flushed, 0, flushed.nbytes)
            start.record(stream)
            act()
            end.record(stream)
        self._stream.synchronize()
        pairs = zip(self._starts[:count], self._ends, strict=False)
        return Chunk(np.array([end.since(start) for start, end in pairs]), at)

    def _end_to_end(self, count: int) -> dict[str, Chunk]:
        ticks = np.empty((4, count), np.int64)
        lane, upload, download, clock = self._lane, self._copies.upload, self._copies.download, time.perf_counter_ns
        for index in range(count):
            ticks[0, index] = clock()
            upload()
            ticks[1, index] = clock()
            lane.launch()
            ticks[2, index] = clock()
            download()
            lane.stream.synchronize()
            ticks[3, index] = clock()
        return {
            ENQUEUE: Chunk((ticks[2] - ticks[1]) / 1e9, ticks[1] / 1e9),
            END_TO_END: Chunk((ticks[3] - ticks[0]) / 1e9, ticks[0] / 1e9),
        }

    def _chosen(self) -> int:
        """By a trial of a run each, which tells its time and what begins it, and by one of several."""
        count = 1
        for _ in range(2):
            with contextlib.ExitStack() as resources:
                launch = self._several(count, resources)
                self._between_events(TRIAL, launch)
                trial = self._between_events(TRIAL, launch)
                host = float(np.median(np.diff(trial.at)))
                count = replays_for(
                    float(np.median(trial.seconds)) / count, host if self._lane.graph is not None else host / count
                )
        return count

    def _several(self, count: int, resources: contextlib.ExitStack) -> Callable[[], None]:
        """Launches ``count`` runs: of a graph as one, in which they follow each other without the host."""
        lane = self._lane
        if count == 1:
            return lane.launch

        def enqueue() -> None:
            for _ in range(count):
                lane.enqueue()

        if lane.graph is None:
            return enqueue
        graph = resources.enter_context(lane.stream.capture(enqueue))
        return lambda: graph.launch(lane.stream)


class Crowd:
    """Takes the throughput of several lanes, each of which copies, runs and copies back while the others do."""

    def __init__(self, all_copies: Sequence[Copies]) -> None:
        self._all = all_copies
        self._rounds = 1
        self._batch()
        self._rounds = max(1, min(int(BATCH_SECONDS / self._batch()), MOST_ROUNDS))

    @property
    def replays(self) -> int:
        """Runs of one sample."""
        return self._rounds * len(self._all)

    def take(self, count: int) -> Mapping[str, Chunk]:
        at, seconds = np.empty(count), np.empty(count)
        for index in range(count):
            at[index] = time.perf_counter()
            seconds[index] = self._batch()
        return {THROUGHPUT: Chunk(seconds / self.replays, at)}

    def _batch(self) -> float:
        began = time.perf_counter()
        for _ in range(self._rounds):
            for copies in self._all:
                copies.upload()
                copies.lane.launch()
                copies.download()
        for copies in self._all:
            copies.lane.stream.synchronize()
        return time.perf_counter() - began
