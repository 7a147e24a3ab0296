"""How long the main job takes from cold plans, and how much of that is work on models."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from harness.ledger.records import read_run

ROOT = Path(__file__).parents[1]
WORK = 0.90  # of the time that the workers spend on cells
MOST = 300.0  # seconds, on two cores


def test_the_main_job_spends_its_time_on_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-n", "auto", "-p", "no:cacheprovider"]
    folders = ["--trt-cache", str(tmp_path / "plans"), "--trt-output", str(tmp_path / "runs")]
    start = time.perf_counter()
    ran = subprocess.run(
        [*command, *folders],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    wall = time.perf_counter() - start
    assert ran.returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    cells = [record for record in read_run(run).records if record.duration]
    stages = Counter[str]()
    for record in cells:
        stages.update(record.seconds)
    work, total = sum(stages.values()), sum(record.duration for record in cells)
    print(f"\n{len(cells)} cells in {wall:.0f} s; {total:.1f} s on cells, {work / total:.1%} of it:")
    for stage, seconds in stages.most_common():
        print(f"  {stage:<12} {seconds:6.1f} s  {seconds / total:6.1%}")
    assert wall < MOST
    assert work > WORK * total
