"""How often an honest engine turns a step of a Q/DQ grid, and whether the judge sees that it is no more than that.

onnxruntime's optimized run is judged by its own, unoptimized one, in fp32, at shapes drawn from all over the
profiles: by the tolerance alone, and with the values on an edge moved (`harness.judge.edges`). What is left has to
come of the one thing that onnxruntime rounds beside: the bias of a convolution, to the int32 grid of its products.
"""

from __future__ import annotations

from dataclasses import replace

import onnxruntime
import pytest

from harness.judge.compare import NUDGED, Comparison, compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Array, Oracle, Reference
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend, reference_name, reference_runner, run
from harness.runtime.request import resolve
from harness.spec import EngineSpec, Example, ModelSpec, interface, recipe
from harness.strategies import examples_of, explore
from models.quantized import MODELS

SHAPES = 3000
FP32 = recipe("fp32")


def judged(got: dict[str, Array], reference: Reference) -> Comparison:
    return compare(got, reference, FP32, weak="ignore", brief=True)


@pytest.mark.parametrize("model", [model for model in MODELS if model.size == "tiny"], ids=lambda model: model.id)
def test_turned_steps(model: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    oracle, backend = Oracle(reference_runner(), reference_name()), OnnxRuntimeBackend()
    session = backend.load(backend.build(resolve(EngineSpec.of(model, FP32))).data).session(0)
    exact = onnxruntime.InferenceSession(
        str(model.source.path()), providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
    )
    declared = interface(model.source.path())
    turned, biased, unexplained = list[Example](), list[Example](), list[Example]()

    def check(example: Example) -> None:
        inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
        got, reference = session.run(inputs), oracle.reference(model, inputs)
        if judged(got, replace(reference, nudged=None)).passed:
            return
        found = judged(got, reference)
        if found.passed and NUDGED in found.worst.note:
            turned.append(example)
        elif judged(run(exact, inputs), reference).passed:
            biased.append(example)
        else:
            unexplained.append(example)

    done = explore(examples_of(model), check, effort="nightly", seed=0, examples=SHAPES)
    assert done.failure is None
    assert done.tried == SHAPES
    with capsys.disabled():
        print(f"\n{model.id}: of {SHAPES} shapes {len(turned)} turn a step, {len(biased)} by a rounded bias")
    assert not unexplained, "\n".join(map(str, unexplained))
