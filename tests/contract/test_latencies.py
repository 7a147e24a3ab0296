"""The promises about measuring, against what needs no device; and what only doubles can show of one that does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend
from harness.runtime.backend.protocol import BuildRequest, ShapeRange
from harness.runtime.client import HostClient
from harness.spec import RECIPES, BuildConfig
from tests.contract.latencies import PROMISES, Measurable
from tests.runtime import models

TIMEOUTS = Timeouts(build=60, run=60, probe=60)
BACKENDS = {
    "onnxruntime": OnnxRuntimeBackend,
    "fake": FakeBackend,
    "hosted-onnxruntime": lambda: HostedBackend("onnxruntime", HostClient("onnxruntime"), TIMEOUTS),
    "hosted-fake": lambda: HostedBackend("fake", HostClient("fake"), TIMEOUTS),
}


@pytest.fixture(params=BACKENDS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Measurable]:
    with contextlib.ExitStack() as opened:
        backend: Any = BACKENDS[request.param]()
        opened.callback(backend.close)
        model = models.relu(tmp_path).source.path()
        shapes = {"x": ShapeRange((1, 2), (3, 2), (4, 2))}
        asked = BuildRequest("relu", RECIPES["fp32"], BuildConfig(), (shapes,), ({},), model=str(model))
        engine = backend.load(backend.build(asked).data)
        opened.callback(engine.close)
        session = engine.session()
        opened.callback(session.close)
        hosted = request.param.startswith("hosted")
        yield Measurable(session, backend.residue, device="fake" in request.param, hosted=hosted)


@pytest.mark.parametrize("name", PROMISES)
def test_promise(subject: Measurable, name: str) -> None:
    PROMISES[name](subject)
