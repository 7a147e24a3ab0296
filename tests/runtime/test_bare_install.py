"""What an installation without cuda-python and without any TensorRT is told: what is missing, and no fault of ours."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.pytest_plugin.parts import ROOT

BARE = """
import json, sys
for name in ("cuda", "tensorrt", "tensorrt_rtx"):
    sys.modules[name] = None  # not installed
from harness.runtime.backend.registry import make
told = {}
for name in ("tensorrt", "tensorrt_rtx"):
    probe = make(name).probe()
    told[name] = [probe.find("import").state.value, probe.find("import").fix, probe.has("build"), probe.has("run")]
print(json.dumps(told))
"""


def test_what_is_missing_is_told_with_what_brings_it() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "tensorrt": ["absent", "pip install 'trt-harness[trt]'", False, False],
        "tensorrt_rtx": ["absent", "pip install 'trt-harness[rtx]'", False, False],
    }
