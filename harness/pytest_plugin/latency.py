"""Latency in pytest: what `trt_latency` gives, and how its samples come into pytest-benchmark's own table.

pytest-benchmark times a function by the host's clock. Here the samples are there already, many of them taken by the
device; so it is given a timer that replays them, round by round, and its table, JSON, save and
compare work as for anything else that it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UnsupportedError

if TYPE_CHECKING:
    from harness.pytest_plugin.story import Story
    from harness.runtime.backend.protocol import Array
    from harness.runtime.pool import PooledSession
    from harness.runtime.sampling import Samples


@dataclass(frozen=True, eq=False)
class Latency:
    """Measures the session of a cell. Calling it takes samples, once a test."""

    story: Story
    session: PooledSession
    inputs: Mapping[str, Array]
    benchmark: Any  # pytest-benchmark's fixture

    def __call__(self, inputs: Mapping[str, Array] | None = None, *, metric: str = "", **asked: Any) -> Samples:
        """Samples of runs on ``inputs``, by default those of the cell's point.

        ``asked`` goes into `Sampling`: ``graph=True``, ``cold=True``, ``precision=0.001``, ... The table shows
        ``metric``, by default the one that the sampling went by: GPU time where there is a GPU. Errors as in
        `Session.measure`.
        """
        from harness.runtime.machine import machine
        from harness.runtime.sampling import Sampling

        plan = Sampling(**asked)
        try:
            with self.story.run.alone(self.story.backend):
                samples = self.session.measure(self.inputs if inputs is None else inputs, plan)
        except UnsupportedError:
            unused(self.benchmark)
            raise
        shown = metric or samples.leading
        facts, parts = told(samples, shown), asdict(self.story.cell)
        self.story.facts.update(facts, machine=machine(str(self.story.environment.get("gpu_uuid", ""))))
        self.benchmark.extra_info.update(facts, backend=self.story.backend, key=self.story.key)
        self.benchmark.params = {name: part for name, part in parts.items() if part and name != "test"}
        replay(self.benchmark, samples.seconds[shown], shown)
        return samples


def measuring(benchmark: Any) -> None:
    """UnsupportedError where pytest-benchmark is switched off, so that nothing would be measured."""
    if benchmark.disabled:
        unused(benchmark)
        raise UnsupportedError(
            "latency",
            "pytest-benchmark is switched off: by xdist (-n), by --benchmark-disable, or for want of a module",
            "run these tests by themselves, with -p no:xdist or without -n, and without --benchmark-disable",
        )


def unused(benchmark: Any) -> None:
    """Keep it from warning that its fixture was not used: that a cell is not covered is said already."""
    benchmark._mode = "not covered"


def told(samples: Samples, metric: str) -> dict[str, Any]:
    """What a record and pytest-benchmark's JSON say beside the samples; seconds."""
    import numpy as np

    from harness.measure.samples import flaws

    seconds = samples.seconds[metric]
    quantiles = {"p50": 0.5, "p90": 0.9} | ({"p99": 0.99} if seconds.size >= 1000 else {})
    return {
        "metric": metric,
        **{name: float(np.quantile(seconds, share)) for name, share in quantiles.items()},
        "medians": {name: float(np.median(one)) for name, one in samples.seconds.items()},
        "samples": samples.taken[metric],
        "replays": samples.replays,
        "half_width": samples.half_width,
        "stopped": samples.stopped.value,
        "flaws": [str(flaw) for flaw in flaws(samples, metric)],
    }


def replay(benchmark: Any, seconds: Iterable[float], name: str) -> None:
    """Let pytest-benchmark measure nothing for as many rounds as there are ``seconds``, by a clock that says them."""
    durations = [float(one) for one in seconds]
    benchmark._timer = replaying(durations, name)
    benchmark.pedantic(lambda: None, rounds=len(durations), iterations=1, warmup_rounds=0)


def replaying(durations: Iterable[float], name: str) -> Callable[[], float]:
    """A clock, asked at the begin and at the end of each round, between which just ``durations`` pass."""
    left = iter(durations)
    running = False

    def clock() -> float:
        # From 0 each time: a sum of all durations would round each of them.
        nonlocal running
        running = not running
        return 0.0 if running else next(left)

    clock.__name__, clock.__module__ = name, "trt_latency"  # how pytest-benchmark's JSON calls it
    return clock
