"""How far an honest engine is off, in the units of `harness.judge.tolerance`, over shapes from all over the zoo.

onnxruntime's optimized run of the converted model is judged by the oracle. The table's factors have to hold for
it, and where they don't, the size of the terms (`harness.judge.terms`) has to say why. Q/DQ is left to
`benchmarks/test_turned_steps.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.judge.compare import Comparison, OutputComparison, compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Oracle
from harness.judge.tolerance import TABLE
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend, reference_name, reference_runner
from harness.runtime.request import resolve
from harness.spec import EngineSpec, Example, ModelSpec, interface, recipe
from harness.strategies import examples_of, explore
from models import WRITTEN

SHAPES = 1000  # of each model
PATIENCE = 15.0  # seconds for each model, at most

MODELS = [model for model in WRITTEN if model.size == "tiny" and "qdq" not in model.tags]


def units(output: OutputComparison, precision: str) -> float:
    """The factor that this output needs: how far the worst element is off beside the relative part."""
    bounds = output.tolerance
    if bounds is None or not bounds.magnitude or not output.worst or output.kind != "float":
        return 0.0
    worst = output.worst[0]
    return (worst.error - bounds.rtol * abs(worst.want)) / (bounds.atol / TABLE[precision].factor)


def compared(model: ModelSpec, precision: str) -> Iterator[tuple[Example, Comparison]]:
    """The comparison with the oracle at each shape."""
    oracle, backend = Oracle(reference_runner(), reference_name()), OnnxRuntimeBackend()
    asked, declared = recipe(precision), interface(model.source.path())
    engine = backend.load(backend.build(resolve(EngineSpec.of(model, asked))).data)
    sessions = [engine.session(profile) for profile in range(len(model.profiles))]
    found: list[tuple[Example, Comparison]] = []
    end = time.monotonic() + PATIENCE

    def check(example: Example) -> None:
        if time.monotonic() > end:
            return
        inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
        got = sessions[example.profile].run(inputs)
        found.append((example, compare(got, oracle.reference(model, inputs), asked, weak="ignore", brief=True)))

    assert explore(examples_of(model), check, effort="nightly", seed=0, examples=SHAPES).failure is None
    yield from found


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_table_holds_for_an_honest_engine(precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = outputs = by_terms = 0
    most, where, wrong = 0.0, "", list[str]()
    for model in MODELS:
        for example, comparison in compared(model, precision):
            shapes += 1
            for output in comparison.outputs:
                outputs += 1
                if output.failure is not None:
                    wrong.append(f"{model.id} {output.name} at {example}: {output.detail}")
                elif "size of their terms" in output.note:
                    by_terms += 1
                elif (needed := units(output, precision)) > most:
                    most, where = needed, f"{model.id} {output.name} at {example}"
    with capsys.disabled():
        print(f"\n{precision}: {outputs} outputs at {shapes} shapes of {len(MODELS)} models; {len(wrong)} fail")
        print(f"  {by_terms} pass by the size of their terms; of the rest the furthest needs {most:.2f}, {where}")
    assert not wrong, "\n".join(wrong)
