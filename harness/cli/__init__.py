"""The command line.

``trt-harness doctor | models | build | check | shapes | inspect | diff | expectations | report | cache``.

Exit codes: 0 passed, 1 failed, 2 the request can't be met as written, 3 nothing was covered, 70 a
fault of this program.
"""

from __future__ import annotations

from harness.cli.app import main

__all__ = ["main"]
