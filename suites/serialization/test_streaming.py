"""Weights that come to the device as they are needed: the same results, in less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from suites.serialization.which import AXES, CONTRASTING

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Compare, Engines, Relation
    from harness.runtime.backend.protocol import Streaming
    from harness.spec import EngineSpec

SHARES = (1.0, 0.5, 0.25, 0.0)  # of the weights, that may stay on the device
SEEN = 4  # steps of the device's memory by which budgets must differ for the difference to be looked for


@pytest.mark.trt(models=CONTRASTING, needs=("run", "weight_streaming"), over=AXES)
def test_weight_streaming(
    trt_spec: EngineSpec,
    trt_engines: Engines,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_relation: Relation,
    trt_record: dict[str, Any],
) -> None:
    """Every budget gives every bit; the smaller it is, the less the engine takes, and its session to stream with."""
    flags = (*trt_spec.config.flags, "WEIGHT_STREAMING")
    engine = trt_engines(config=replace(trt_spec.config, flags=flags), private=True)
    streamable = engine.info.facts["streamable_weights"]
    if not streamable:
        pytest.skip("the engine has no weights that can be streamed")
    want: Arrays = {}
    found: list[Streaming] = []
    for share in SHARES:
        budget = int(share * streamable)
        asked = engine.stream(budget)
        assert asked.budget == budget, f"a budget of {budget} bytes was asked for, and {asked.budget} were set"
        session = engine.session()
        got = session.run(trt_inputs)
        found.append(engine.stream())
        session.close()
        if not want:
            want = got
            trt_compare(got, trt_oracle(trt_inputs))
        trt_relation.require_same_bits(got, want, f"all {streamable} bytes of weights on the device (now {budget})")
    trt_record["streaming"] = [[one.budget, one.scratch, one.device] for one in found]
    whole = engine.stream(streamable)
    assert whole.budget == streamable, f"of {streamable} bytes of weights {whole.budget} may come back"
    if problems := greedy(found):
        pytest.fail("\n".join(problems), pytrace=False)


def greedy(found: list[Streaming]) -> list[str]:
    """What takes more of the device than its budget allows, in words; budgets fall from the first on."""
    first, problems = found[0], []
    for one in found[1:]:
        spared = first.budget - one.budget
        least = spared / 2 - one.scratch if spared >= SEEN * one.step else -SEEN * one.step
        if first.device - one.device < least:
            problems.append(
                f"with {one.budget} of {one.streamable} bytes of weights on the device the engine takes {one.device} "
                f"there, and {first.device} with all of them"
            )
    return problems
