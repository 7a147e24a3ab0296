"""Whether measuring on a real GPU finds what is there, and only that: A against A, and against A with a known dose.

Frozen plans of TensorRT under graph replay. Every process is an engine host of its own, and processes of a
comparison are interleaved; comparisons have no process in common. A dose is a spin kernel, longer by a stated share of
the model's own time (`benchmarks.live`). Judged as strictly as by a gate that may raise one false alarm in four hundred
sessions.

It needs a GPU and the backend ``tensorrt``. What it measured is kept in the folder that $TRT_HARNESS_LIVE names, plans
included, so that a second run is a second session over the same plans, and its processes count beside the first's.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.judge.inputs import make_inputs
from harness.measure import protocol
from harness.measure.interleave import interleaved
from harness.measure.metric import Metric
from harness.measure.protocol import Stages
from harness.measure.verdict import Outcome, judge
from harness.pytest_plugin.scheduling import devices
from harness.runtime.backend.registry import HostSettings
from harness.runtime.client import HostClient
from harness.runtime.workbench import Workbench
from harness.settings import Settings
from harness.spec import EngineSpec, interface, recipe
from harness.spec.catalog import load

ROOT = Path(__file__).parents[1]
SUBJECTS = (("resnet_full", "fp32"), ("bert_full", "fp16"), ("gpt_full", "fp16"))
DOSES = (0.01, 0.02, 0.05)
BLOCKS = 4  # of a comparison: sixteen processes
AGAINST_ITSELF = 3  # comparisons of A with A, of each model: 144 processes
BUILDS = 3
SECONDS = 1.0  # of sampling a process, at most
BASE = 0.1  # of a model's time, that both arms spin
NEAR = 0.003  # how far the harness's median may be from the bare loop's
LATENCY = Metric("gpu time")
GATE = Stages().alpha
FEW = Stages(looks=(4, 8), shares=(0.3, 0.7))  # what twelve blocks are enough for
PERMUTATIONS = 200


@dataclass
class Live:
    """What is measured with, and all that was: by what was asked, processes in the order of `by_arm`."""

    settings: Settings
    folder: Path
    numbers: Sequence[int]
    cycles_a_second: float = 0.0
    plans: dict[tuple[str, int], Path] = field(default_factory=dict)  # by subject and number of the build
    spent: dict[str, list[float]] = field(default_factory=dict)  # seconds of every process, by subject

    def prepare(self, builds: int = 1) -> None:
        """Builds, and the inputs at the optimum, from the folder or made now; one builder a device."""
        asked = [(subject, build) for build in range(builds) for subject in SUBJECTS]
        share = [asked[number :: len(self.numbers)] for number in range(len(self.numbers))]
        with ThreadPoolExecutor(len(self.numbers)) as threads:
            list(threads.map(self._build, self.numbers, share))
        self.cycles_a_second = float(self.ask(self.numbers[0], "rate", {}))

    def _build(self, number: int, asked: Sequence[tuple[tuple[str, str], int]]) -> None:
        models = load()
        with Workbench(self.settings, device=lambda: number) as bench:
            for (name, precision), build in asked:
                model = models[name]
                spec = EngineSpec.of(
                    model, recipe(precision), model.config.with_options(dict(self.settings.build_option))
                )
                plan = self.folder / f"{name}-{precision}-{build}.plan"
                if not plan.exists():
                    plan.write_bytes(bench.pool.plan(spec, "tensorrt", build=build).data.tobytes())
                profile, declared = model.profiles[0], interface(model.source.path())
                inputs = make_inputs(model, declared, profile.binding("opt"), profile.contents("opt"), 0)
                np.savez(self.inputs(name), **inputs)  # type: ignore[arg-type]  # numpy takes a name for an option
                self.plans[f"{name}-{precision}", build] = plan

    def inputs(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def ask(self, number: int, function: str, arguments: dict[str, Any]) -> Any:
        """What ``benchmarks.live:<function>`` gives, in a host of its own."""
        python = HostSettings.of(self.settings).interpreter("tensorrt")
        client = HostClient("tensorrt", number, python=python)
        body = {"target": f"benchmarks.live:{function}", "arguments": arguments, "folder": str(ROOT)}
        try:
            return client.request("invoke", body, stage="run", timeout=120, summary=function)
        finally:
            client.close()

    def process(self, number: int, subject: str, cycles: int = 0, build: int = 0) -> dict[str, Any]:
        started = time.perf_counter()
        plan = self.plans[subject, build]
        inputs = self.inputs(subject.rpartition("-")[0])
        asked = {"plan": str(plan), "inputs": str(inputs), "cycles": cycles, "seconds": SECONDS}
        told: dict[str, Any] = self.ask(number, "process", asked)
        self.spent.setdefault(subject, []).append(time.perf_counter() - started)
        return told

    def everywhere(self, work: Sequence[Callable[[int], Any]]) -> list[Any]:
        """The results of ``work``, each done on one device, by itself on it."""
        waiting: queue.SimpleQueue[tuple[int, Callable[[int], Any]]] = queue.SimpleQueue()
        for place, one in enumerate(work):
            waiting.put((place, one))
        found: dict[int, Any] = {}
        lock = threading.Lock()

        def serve(number: int) -> None:
            while True:
                with lock:
                    if waiting.empty():
                        return
                    place, one = waiting.get()
                found[place] = one(number)

        with ThreadPoolExecutor(len(self.numbers)) as threads:
            list(threads.map(serve, self.numbers))
        return [found[place] for place in range(len(work))]

    def comparison(self, number: int, subject: str, base: int, more: int, seed: int) -> list[list[dict[str, Any]]]:
        """`BLOCKS` blocks of four processes in the order of arms: A spins ``base`` cycles, B ``more`` beside them."""
        arms = interleaved(BLOCKS, np.random.default_rng(seed))
        told = [[self.process(number, subject, base + more * int(arm)) for arm in block] for block in arms]
        return [[told[b][place] for place in np.argsort(arms[b], kind="stable")] for b in range(BLOCKS)]

    def keep(self, name: str, what: Any) -> None:
        file = self.folder / f"{name}-{time.time_ns()}.json"
        file.write_text(json.dumps(what))

    def kept(self, name: str) -> list[Any]:
        """Of every session over these plans, in order."""
        return [json.loads(file.read_text()) for file in sorted(self.folder.glob(f"{name}-*.json"))]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    settings = Settings.read({})
    numbers = devices()
    if not numbers:
        pytest.skip("no GPU is seen here: latency on a device can't be measured")
    with Workbench(settings) as bench:
        probe = bench.probe("tensorrt")
        if not probe.has("run"):
            pytest.skip(f"tensorrt can't run here: {probe.find('run').evidence}")
    folder = Path(os.environ.get("TRT_HARNESS_LIVE") or tmp_path_factory.mktemp("live"))
    folder.mkdir(parents=True, exist_ok=True)
    made = Live(settings, folder, numbers)
    made.prepare()
    return made


def medians(comparison: Sequence[Sequence[dict[str, Any]]]) -> Any:
    """(blocks, 2, 2), as `harness.measure` takes them."""
    flat = np.array([[one["median"] for one in block] for block in comparison])
    return flat.reshape(len(comparison), 2, 2)


@pytest.fixture(scope="module")
def base(live: Live) -> dict[str, float]:
    """Seconds of a run of each subject, without any spin."""
    subjects = [f"{name}-{precision}" for name, precision in SUBJECTS]
    told = live.everywhere([functools.partial(live.process, subject=subject) for subject in subjects])
    return {subject: one["median"] for subject, one in zip(subjects, told, strict=True)}


def test_a_against_a(live: Live, base: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """No false regression, of disjoint comparisons and of permuted labels; medians as a bare loop has them."""
    asked = [(subject, seed) for seed in range(AGAINST_ITSELF) for subject in base]

    def comparing(subject: str, seed: int) -> Callable[[int], Any]:
        cycles = round(BASE * base[subject] * live.cycles_a_second)
        return lambda number: live.comparison(number, subject, cycles, 0, seed)

    began = time.perf_counter()
    found = live.everywhere([comparing(*one) for one in asked])
    took = time.perf_counter() - began
    live.keep("aa", {subject: [c for (s, _), c in zip(asked, found, strict=True) if s == subject] for subject in base})
    lines, false = [], 0
    for subject in base:
        mine = [c for (s, _), c in zip(asked, found, strict=True) if s == subject]
        verdicts = [judge(medians(comparison), LATENCY, worse=GATE, better=GATE) for comparison in mine]
        false += sum(verdict.outcome is Outcome.REGRESSION for verdict in verdicts)
        every = [one for comparison in mine for block in comparison for one in block]
        off = np.array([one["median"] / one["bare"] - 1 for one in every])
        lines.append((subject, every, verdicts, off))
    permuted = permutations({subject: np.concatenate([medians(c) for c in mine]) for subject, mine in by(asked, found)})
    with capsys.disabled():
        processes, rate = sum(len(every) for _, every, _, _ in lines), live.cycles_a_second
        print(f"\n{processes} processes in {took:.0f} s on {len(live.numbers)} devices, {rate:.4g} cycles/s")
        for subject, every, verdicts, off in lines:
            logs = np.log([one["median"] for one in every])
            samples = np.median([one["samples"] for one in every])
            print(f"{subject}: {1e6 * np.exp(np.median(logs)):.1f} us, CV of processes {100 * logs.std(ddof=1):.3f} %")
            print(f"    {samples:.0f} samples and {np.mean(live.spent[subject]):.1f} s a process")
            print(f"    off the bare loop by {100 * np.median(off):+.3f} %, {100 * np.abs(off).max():.3f} % at most")
            for verdict in verdicts:
                print(f"    {verdict}")
        print(f"permuted labels: {permuted} of {PERMUTATIONS} sessions with a false regression")
    assert false == 0
    assert permuted == 0
    for subject, _, _, off in lines:
        assert abs(float(np.median(off))) < NEAR, subject


def by(asked: Sequence[tuple[str, int]], found: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    subjects = dict.fromkeys(subject for subject, _ in asked)
    return [(one, [c for (s, _), c in zip(asked, found, strict=True) if s == one]) for one in subjects]


def permutations(pools: dict[str, Any]) -> int:
    """Sessions with a false regression, where which two of a block's four processes are A's is drawn anew."""
    rng = np.random.default_rng(0)
    return sum(bool(protocol.run(*_relabelled(pools, rng), FEW).regressions) for _ in range(PERMUTATIONS))


def _relabelled(pools: dict[str, Any], rng: np.random.Generator) -> tuple[Any, ...]:
    """Cells, metric, what measures and canaries of a session over ``pools`` whose labels are drawn."""
    drawn = {subject: rng.permuted(pool.reshape(-1, 4), axis=1).reshape(-1, 2, 2) for subject, pool in pools.items()}
    places = dict.fromkeys(drawn, 0)

    def measure(cell: str, blocks: int) -> Any:
        start = places[cell]
        places[cell] += blocks
        return drawn[cell][None, start : start + blocks]

    return tuple(drawn), (LATENCY,), measure, lambda: {"still": [1.0, 1.0]}


def test_doses(live: Live, base: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """What is 2 or 5 % slower is found in every comparison."""
    asked = [(subject, dose) for dose in DOSES for subject in base]

    def comparing(subject: str, dose: float, seed: int) -> Callable[[int], Any]:
        cycles = round(BASE * base[subject] * live.cycles_a_second)
        more = round(dose * (1 + BASE) * base[subject] * live.cycles_a_second)
        return lambda number: live.comparison(number, subject, cycles, more, seed)

    found = live.everywhere([comparing(*one, seed) for seed, one in enumerate(asked)])
    live.keep("doses", [[*one, comparison] for one, comparison in zip(asked, found, strict=True)])
    verdicts = [judge(medians(comparison), LATENCY, worse=GATE, better=GATE) for comparison in found]
    caught = {dose: [] for dose in DOSES}  # type: dict[float, list[bool]]
    for (_, dose), verdict in zip(asked, verdicts, strict=True):
        caught[dose].append(verdict.outcome is Outcome.REGRESSION)
    with capsys.disabled():
        print(f"\n{sum(len(block) for comparison in found for block in comparison)} processes")
        for (subject, dose), verdict in zip(asked, verdicts, strict=True):
            print(f"{subject} +{100 * dose:g} %: {verdict}")
        print({f"{100 * dose:g} %": f"{sum(hits)} of {len(hits)}" for dose, hits in caught.items()})
    assert all(caught[0.02])
    assert all(caught[0.05])


def test_spread(live: Live, base: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """How far builds of one spec are apart, and sessions over the same plans: for the record."""
    live.prepare(BUILDS)
    asked = [(subject, build) for subject in base for build in range(BUILDS) for _ in range(4)]
    found = live.everywhere([functools.partial(live.process, subject=s, build=b) for s, b in asked])
    sessions = live.kept("aa")
    with capsys.disabled():
        print()
        for subject in base:
            builds = [
                float(
                    np.median([f["median"] for (s, n), f in zip(asked, found, strict=True) if (s, n) == (subject, b)])
                )
                for b in range(BUILDS)
            ]
            sizes = [live.plans[subject, b].stat().st_size for b in range(BUILDS)]
            middles = [float(np.median([medians(c) for c in one[subject]])) for one in sessions if subject in one]
            print(f"{subject}: builds {[f'{1e6 * b:.1f} us' for b in builds]} of {sizes} bytes", end="; ")
            print(f"sessions {[f'{1e6 * m:.1f} us' for m in middles]}")
    assert all(one["median"] > 0 for one in found)
