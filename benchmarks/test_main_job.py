"""How long the main job takes from cold plans, and how much of its workers' time is work on models.

All time counts that a worker's process lives, from its start to its exit: the interpreter, imports,
collecting, probing, pytest's own work on every cell, waiting for another worker, the end. Work is
what cells record by stage, each measured around that work alone:

- ``export``: a model is built, written, read and digested, its interface read, or converted to a recipe;
- ``inputs``, of the comparison and the oracle: made, related to others, or read together with golden outputs;
- ``oracle``: the unoptimized run that gives the reference;
- ``parse``, ``build``, ``deserialize``, ``context``, ``run``: as the backend reports them, or until it fails;
- ``serialize``, ``refit``, ``inspect``: what else an engine is asked for;
- ``transfer``: what asking an engine host for a plan took beyond its parse and build: a builder made and
  configured, the plan carried between processes (not measured where the host had to be started for it);
- ``compare``.

``drawing`` is Hypothesis's own time: examples and sequences of steps are chosen. It is no work on a model, and
it is what tests of shapes consist of beside that: so it is a kind of its own, and the share is told with it and
without. Modules that a kind is the first to need are imported within it. Reading and writing the plan
cache, records and reports count as neither.
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
SHARE = 0.90  # of the time that the workers live: for work and drawing
MOST = 300.0  # seconds, on two cores
DRAWING = "drawing"
WORK = {
    *("export", "inputs", "oracle", "parse", "build", "transfer", "deserialize", "context", "run", "compare"),
    *("serialize", "refit", "inspect"),
}


def test_the_main_job_spends_its_time_on_models(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-n", "auto", "--trt-effort", "ci"]
    plugins = ["-p", "no:cacheprovider", "-p", lifetimes.__name__]
    folders = ["--trt-cache", str(tmp_path / "plans"), "--trt-output", str(tmp_path / "runs")]
    # Whoever runs it keeps bytecode, as Python does by itself: else every host compiles the harness anew.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    ran = subprocess.run(
        [*command, *plugins, *folders],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT), lifetimes.FOLDER: str(tmp_path)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    wall = time.perf_counter() - start
    (run,) = (tmp_path / "runs").iterdir()
    lives = {file.stem: float(file.read_text()) for file in tmp_path.glob("*.seconds")}
    cells = [record for record in read_run(run).records if record.duration]
    spent = Counter[str]()
    for record in cells:
        spent.update(record.seconds)
    total = sum(lives.values())
    drawing, work = spent[DRAWING], sum(seconds for kind, seconds in spent.items() if kind != DRAWING)
    on_cells = sum(record.duration for record in cells)
    kinds = [*spent.most_common(), ("rest of cells", on_cells - work - drawing), ("beside cells", total - on_cells)]
    print(f"\n{len(cells)} cells in {wall:.0f} s; {len(lives)} workers live {total:.1f} s")
    for kind, seconds in kinds:
        print(f"  {kind:<13} {seconds:6.1f} s  {seconds / total:6.1%}")
    print(f"at work on models {work / total:.1%}, with drawing {(work + drawing) / total:.1%}")
    assert ran.returncode == 0
    assert lives.keys() == {record.worker for record in cells}  # none that crashed goes uncounted
    assert spent.keys() <= {*WORK, DRAWING}
    assert wall < MOST
    assert work + drawing >= SHARE * total
