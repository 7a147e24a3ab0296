"""How long the main job takes from cold plans, and how much of its workers' time is work on models.

All time counts that a worker's process lives, from its start to its exit: the interpreter, imports,
collecting, probing, pytest's own work on every cell, waiting for another worker, the end. Work is
what cells record by stage, each measured around that work alone:

- ``export``: a model is built, written, read and digested, its interface read, or converted to a recipe;
- ``inputs``, of the comparison and the oracle: made, or read together with golden outputs;
- ``oracle``: the unoptimized run that gives the reference;
- ``parse``, ``build``, ``deserialize``, ``context``, ``run``: as the backend reports them;
- ``transfer``: what asking an engine host for a plan took beyond its parse and build: a builder made and
  configured, the plan carried between processes (not measured where the host had to be started for it);
- ``compare``.

Modules that a stage is the first to need are imported within it. Reading and writing the plan cache,
records and reports count as no work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks import lifetimes
from harness.ledger.records import read_run

ROOT = Path(__file__).parents[1]
WORK = 0.90  # of the time that the workers live
MOST = 300.0  # seconds, on two cores
STAGES = {"export", "inputs", "oracle", "parse", "build", "transfer", "deserialize", "context", "run", "compare"}


def test_the_main_job_spends_its_time_on_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-n", "auto"]
    plugins = ["-p", "no:cacheprovider", "-p", lifetimes.__name__]
    folders = ["--trt-cache", str(tmp_path / "plans"), "--trt-output", str(tmp_path / "runs")]
    start = time.perf_counter()
    ran = subprocess.run(
        [*command, *plugins, *folders],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), lifetimes.FOLDER: str(tmp_path)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    wall = time.perf_counter() - start
    assert ran.returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    lives = {file.stem: float(file.read_text()) for file in tmp_path.glob("*.seconds")}
    cells = [record for record in read_run(run).records if record.duration]
    assert lives.keys() == {record.worker for record in cells}  # none that crashed goes uncounted
    stages = Counter[str]()
    for record in cells:
        stages.update(record.seconds)
    assert stages.keys() <= STAGES
    work, total = sum(stages.values()), sum(lives.values())
    on_cells = sum(record.duration for record in cells)
    print(f"\n{len(cells)} cells in {wall:.0f} s; {len(lives)} workers live {total:.1f} s, {work / total:.1%} at work:")
    for stage, seconds in stages.most_common():
        print(f"  {stage:<12} {seconds:6.1f} s  {seconds / total:6.1%}")
    for rest, seconds in {"rest of cells": on_cells - work, "beside cells": total - on_cells}.items():
        print(f"  {rest:<13} {seconds:5.1f} s  {seconds / total:6.1%}")
    assert wall < MOST
    assert work >= WORK * total
