"""A cell: one test on one model at one precision, point and backend. What is judged, recorded and excused."""

from __future__ import annotations

from dataclasses import dataclass

# "tensorrt" is the beginning of "tensorrt_rtx": as ids, one would be selected with the other.
BACKEND_IDS = {"tensorrt_rtx": "rtx"}


@dataclass(frozen=True)
class Cell:
    """Parts that do not apply are empty. Made from what was asked alone, so that all workers agree."""

    test: str  # the test function
    model: str
    precision: str = ""
    variant: str = ""  # what else a test runs over, such as a special value
    point: str = ""  # min, opt or max; with several profiles "opt_p1" for the second
    backend: str = ""

    @property
    def params(self) -> str:
        """``bert-fp16-opt-tensorrt``: the part of a pytest id in brackets."""
        parts = (self.model, self.precision, self.variant, self.point, BACKEND_IDS.get(self.backend, self.backend))
        return "-".join(part for part in parts if part)

    @property
    def id(self) -> str:
        """``test_matches_oracle[bert-fp16-opt-tensorrt]``."""
        return f"{self.test}[{self.params}]"
