"""What it costs to check a thousand shapes of BERT-tiny: two executions each, and what the harness adds.

The optimized onnxruntime is judged by the oracle. Time is told by who spends it: executions, drawing
(Hypothesis's own), and the rest: inputs, the reference beyond its execution, the comparison.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.judge.compare import compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Array, Oracle
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend, reference_name, reference_runner
from harness.runtime.request import resolve
from harness.spec import EngineSpec, Example, interface, recipe
from harness.strategies import examples_of, explore
from models.bert import MODELS

SHAPES = 1000
LIMIT = 15.0  # seconds
SHARE = 0.20  # of all time, at most, for what is neither an execution nor drawing
# The median counts: other work on the machine, or a full pass of the garbage collector, weighs on one part or another.
ROUNDS = 9


def explored() -> Counter[str]:
    """Seconds by who spent them."""
    model, precision, spent = MODELS[0], recipe("fp32"), Counter[str]()
    runner = reference_runner()

    def reference(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
        started = time.perf_counter()
        outputs = runner(path, inputs)
        spent["oracle runs"] += time.perf_counter() - started
        return outputs

    oracle, backend = Oracle(reference, reference_name()), OnnxRuntimeBackend()
    session = backend.load(backend.build(resolve(EngineSpec.of(model, precision))).data).session(0)
    declared = interface(model.source.path())

    def check(example: Example) -> None:
        started = time.perf_counter()
        inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
        made = time.perf_counter()
        got = session.run(inputs)
        ran = time.perf_counter()
        before = spent["oracle runs"]
        want = oracle.reference(model, inputs)
        known = time.perf_counter()
        comparison = compare(got, want, precision, brief=True)
        comparison.require(model.id, "benchmarks/test_thousand_shapes.py")
        spent["inputs"] += made - started
        spent["engine runs"] += ran - made
        spent["reference"] += known - ran - (spent["oracle runs"] - before)
        spent["compare"] += time.perf_counter() - known

    check(Example.of({"batch": 1, "seq": 4}, seed=1))  # what is done once a model
    spent.clear()
    done = explore(examples_of(model), check, effort="nightly", seed=0, examples=SHAPES)
    assert done.failure is None
    assert done.tried == SHAPES
    spent["drawing"] = done.drawing
    spent["total"] = done.seconds + done.drawing
    return spent


def beside(spent: Counter[str]) -> float:
    """The share of the total that is neither an execution nor drawing."""
    own = spent["oracle runs"] + spent["engine runs"] + spent["drawing"]
    return 1 - own / spent["total"]


def test_a_thousand_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    rounds = sorted((explored() for _ in range(ROUNDS)), key=beside)
    middle = rounds[ROUNDS // 2]
    with capsys.disabled():
        told = ", ".join(f"{name} {1000 * spent / SHAPES:.2f}" for name, spent in middle.items() if name != "total")
        print(f"\n{SHAPES} shapes of BERT-tiny in {middle['total']:.1f} s; ms an example: {told}")
        print(f"beside executions and drawing: {', '.join(f'{beside(spent):.1%}' for spent in rounds)}")
    assert middle["total"] < LIMIT
    assert beside(middle) < SHARE
