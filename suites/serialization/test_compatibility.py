"""Plans for other versions, in every runtime that there is, each in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import StageError
from suites.serialization.which import AXES

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Compare, Hosts, Plans
    from harness.spec import EngineSpec

PLANS = {
    "plain": (),
    "compatible": ("VERSION_COMPATIBLE",),
    "excluded": ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"),  # the lean runtime is not in the plan
}
RUNTIMES = ("full", "lean", "dispatch")
# What must go well; the others may be refused, in words.
RIGHT = {("plain", "full"), *(("compatible", runtime) for runtime in RUNTIMES)}


@pytest.mark.trt(
    models="conv",
    precisions="fp32",
    variants=[f"{plan}_{runtime}" for plan in PLANS for runtime in RUNTIMES],
    needs=("run", "version_compatible"),
    over=AXES,
)
def test_version_compatibility(
    trt_variant: str,
    trt_spec: EngineSpec,
    trt_backend: str,
    trt_plans: Plans,
    trt_hosts: Hosts,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_record: dict[str, Any],
) -> None:
    """The right result, or a clean refusal; that a plan is refused where it need not be loaded is no failure."""
    kind, _, runtime = trt_variant.partition("_")
    config = replace(trt_spec.config, flags=(*trt_spec.config.flags, *PLANS[kind]))
    host = trt_hosts("" if runtime == "full" else beside(trt_backend, runtime))
    plan = trt_plans(config=config).data
    outputs: Arrays = {}
    try:
        engine = host.load(plan, config.plugins, host_code=config.carries_code)
        outputs = engine.session().run(trt_inputs)
    except StageError as error:
        trt_record["refused"] = error.message
        if error.crash is not None or (kind, runtime) in RIGHT or not error.message.strip():
            raise
    if outputs:
        trt_compare(outputs, trt_oracle(trt_inputs))


def beside(backend: str, runtime: str) -> str:
    """The name of the runtime of this kind that goes with ``backend``, which may have a fault after it."""
    base, colon, fault = backend.partition(":")
    return f"{base}_{runtime}{colon}{fault}"
