"""One process of a live measurement, run in an engine host: a frozen plan, and behind each run a kernel that waits.

The kernel spins for a stated number of the device's clock cycles. Both arms of a comparison have it, and a dose is
the difference in cycles: a slower model of exactly known slowness.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart

from benchmarks.spin import kernel, launch
from harness.runtime.backend.nv.backend import NvBackend
from harness.runtime.backend.nv.measure import measured
from harness.runtime.sampling import GPU, Sampling

BARE = 1000  # runs of the bare loop
WARM = 200  # before them


def process(plan: str, inputs: str, cycles: int, seconds: float) -> dict[str, Any]:
    """What one process measures of ``plan`` on ``inputs`` (.npz) with ``cycles`` behind each run.

    ``median`` in seconds by the harness, ``bare`` by a loop of events that knows nothing of it, ``samples`` of the
    first, and why they ended.
    """
    backend = NvBackend("tensorrt")
    session = backend.load(Path(plan)).session()
    with np.load(inputs) as arrays, session.logger.listen() as heard:
        lane = session._lane(dict(arrays), heard, graph=False)
    spin = kernel()

    def enqueue() -> None:
        lane.enqueue()
        launch(spin, cycles, lane.stream.handle)

    with lane.stream.capture(enqueue) as graph:
        sampling = Sampling(graph=True, replays=1, precision=0.0005, least=300, warmup_most=2.0, seconds=seconds)
        samples = measured([replace(lane, enqueue=enqueue, graph=graph)], sampling)
        bare = float(np.median(events(graph._run, lane.stream.handle)))
    return {
        "median": float(np.median(samples.seconds[GPU])),
        "bare": bare,
        "samples": int(samples.taken[GPU]),
        "stopped": samples.stopped.value,
        "flat": samples.flat,
    }


def events(graph: Any, stream: int) -> list[float]:
    """Seconds of `BARE` launches of ``graph``, each between two events: a dozen lines, and nothing of the harness."""
    pairs = [(cudart.cudaEventCreate()[1], cudart.cudaEventCreate()[1]) for _ in range(BARE)]
    for _ in range(WARM):
        cudart.cudaGraphLaunch(graph, stream)
    for start, end in pairs:
        cudart.cudaEventRecord(start, stream)
        cudart.cudaGraphLaunch(graph, stream)
        cudart.cudaEventRecord(end, stream)
    cudart.cudaStreamSynchronize(stream)
    seconds = [cudart.cudaEventElapsedTime(start, end)[1] / 1e3 for start, end in pairs]
    for pair in pairs:
        for event in pair:
            cudart.cudaEventDestroy(event)
    return seconds


def rate(cycles: int = 2_000_000) -> float:
    """The device's cycles a second while it spins, from the difference of two spins, of which launching is no part."""
    cudart.cudaFree(0)  # makes the context
    spin, stream = kernel(), int(cudart.cudaStreamCreate()[1])
    start, end = cudart.cudaEventCreate()[1], cudart.cudaEventCreate()[1]

    def seconds(count: int) -> float:
        found = []
        for _ in range(20):
            cudart.cudaEventRecord(start, stream)
            launch(spin, count, stream)
            cudart.cudaEventRecord(end, stream)
            cudart.cudaStreamSynchronize(stream)
            found.append(cudart.cudaEventElapsedTime(start, end)[1] / 1e3)
        return float(np.median(found))

    return cycles / (seconds(2 * cycles) - seconds(cycles))
