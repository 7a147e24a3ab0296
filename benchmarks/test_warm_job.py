"""How long the main job takes when its engines are cached, and that it builds none of them again.

Three times with one cache: cold, then warm twice, of which the faster counts: other work on the machine can only
slow it down. What a test asks to be built anew (a rebuild whose numbers are
compared) is built in both, and counted apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.ledger.records import Record, read_run

ROOT = Path(__file__).parents[1]
MOST = 60.0  # seconds for the warm run, on two cores
PASSED = ("passed", "cached", "known_failure", "not_covered")


@dataclass(frozen=True)
class Ran:
    """One run: seconds, and the records of the cells that were run."""

    seconds: float
    records: tuple[Record, ...]

    def count(self, fact: str) -> int:
        return sum(int(record.facts.get(fact, 0)) for record in self.records)

    @property
    def cells(self) -> list[Record]:
        return [record for record in self.records if record.duration]

    def __str__(self) -> str:
        verdicts = Counter(record.verdict for record in self.cells)
        engines = len({record.plan_key for record in self.records if record.plan_key})
        shares = Counter[str]()
        for record in self.cells:
            shares.update(record.seconds)
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in shares.most_common())
        return (
            f"{self.seconds:.0f} s, {len(self.cells)} cells run ({dict(verdicts)}), {engines} engines, "
            f"{self.count('builds')} built, {self.count('rebuilds')} built anew by tests that ask for it\n  {stages}"
        )


def run(folder: Path, name: str) -> Ran:
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-n", "auto", "-p", "no:cacheprovider"]
    places = ["--trt-cache", str(folder / "cache"), "--trt-output", str(folder / name)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, *places],
        cwd=ROOT,
        env={"TRT_HARNESS_EFFORT": "ci", **os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, name
    (recorded,) = (folder / name).iterdir()
    return Ran(seconds, read_run(recorded).records)


def test_a_warm_main_job_builds_nothing(tmp_path: Path) -> None:
    cold, *warm_ones = (run(tmp_path, name) for name in ("cold", "warm", "warm_again"))
    print("".join(f"\n{name}: {ran}" for name, ran in zip(("cold", "warm", "warm"), (cold, *warm_ones), strict=True)))
    assert cold.count("builds") > 0
    assert [warm.count("builds") for warm in warm_ones] == [0, 0]
    warm = min(warm_ones, key=lambda ran: ran.seconds)
    assert {record.verdict for record in warm.records} <= set(PASSED)
    # What the cold run could only build, the warm one can only have cached.
    loads = {record.backend for record in warm.records if "deserialize" in record.seconds}
    built = [record for record in warm.cells if record.cell.test == "test_builds" and record.verdict in PASSED[:2]]
    assert {(record.backend in loads, record.verdict) for record in built} == {(True, "passed"), (False, "cached")}
    assert warm.seconds < MOST
