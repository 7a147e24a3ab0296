"""Where the time of a search goes."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Stopwatch:
    """Seconds by stage, each counted once: what happens in a stage within another is the inner one's."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stages: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """The time inside goes to ``stage``."""
        self._turn()
        self._stages.append(stage)
        try:
            yield
        finally:
            self._turn()
            self._stages.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._stages:
            self.seconds[self._stages[-1]] += now - self._since
        self._since = now
