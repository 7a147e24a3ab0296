"""What both sides computed: each against the oracle, and B against A."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import UnsupportedError
from harness.judge.compare import Comparison
from harness.judge.metamorphic import judge_alike
from harness.judge.oracle import Reference
from harness.judge.provenance import Kind, Origin
from harness.measure.finding import Finding, Said
from harness.measure.runner import Runner
from harness.measure.side import Side, coarser

Arrays = Mapping[str, npt.NDArray[Any]]


def answers(runner: Runner) -> Iterator[Finding]:
    """Of everything that the runs of each side gave. SpecError for a model's own arrays that do not fit."""
    for side in runner.sides:
        yield _against_oracle(runner, side)
    if len(runner.sides) == 2:
        yield _against_each_other(runner)


def _against_oracle(runner: Runner, side: Side) -> Finding:
    metric = f"numerics of {side.name}"
    inputs = runner.inputs(side)
    if inputs is None:
        return Finding(runner.name, metric, Said.NOT_COVERED, "nothing was run")
    try:
        reference = side.reference(inputs)
    except UnsupportedError as error:
        return Finding(runner.name, metric, Said.NOT_COVERED, f"{error.capability}: {error.evidence}")
    return _told(runner.name, metric, [side.judged(outputs, reference) for outputs in runner.outputs(side)])


def _against_each_other(runner: Runner) -> Finding:
    metric = "numerics, B against A"
    a, b = runner.sides
    mine, yours = runner.inputs(a), runner.inputs(b)
    if mine is None or yours is None:
        return Finding(runner.name, metric, Said.NOT_COVERED, "nothing was run")
    if not _equal(mine, yours):
        return Finding(runner.name, metric, Said.NOT_COVERED, "A and B take different inputs")
    want = next(runner.outputs(a))
    try:
        reference = a.reference(mine)
    except UnsupportedError:
        origins = {name: Origin(Kind.FLOAT if one.dtype.kind in "fV" else Kind.EXACT) for name, one in want.items()}
        reference = Reference(runner.name, "A", want, origins)
    recipe = coarser(a.recipe, b.recipe)
    return _told(runner.name, metric, [judge_alike(got, want, reference, recipe, "A") for got in runner.outputs(b)])


def _told(subject: str, metric: str, found: Sequence[Comparison]) -> Finding:
    wrong = [one for one in found if not one.passed]
    several = f"; {len(found)} different results in all" if len(found) > 1 else ""
    if wrong:
        first, *rest = wrong[0].message(f"{subject}: {metric}", "").splitlines()[:-1]  # the last one repeats it
        words = first.removeprefix(f"{subject}: {metric}: ") + several
        return Finding(subject, metric, Said.FAILED, words, detail="\n".join(rest))
    worst = found[0].worst
    error = f"max error {worst.figures.max_abs:.3g}" if worst.figures else "equal as far as looked at"
    return Finding(subject, metric, Said.PASS, f"{worst.name}: {error}, {worst.tolerance or 'exact'}{several}")


def _equal(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
