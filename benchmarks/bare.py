"""A loop of onnxruntime alone: a session of the model in a file is made, run once and dropped, over and over.

``python benchmarks/bare.py MODEL ROUNDS`` writes as JSON what C's heap has in bytes after each round.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime

from harness.runtime.footprint import footprint


def main(model: str, rounds: int) -> list[int | None]:
    held = []
    for _ in range(rounds):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        asked = {
            one.name: np.ones([size if isinstance(size, int) else 1 for size in one.shape], np.float32)
            for one in session.get_inputs()
        }
        session.run(None, asked)
        del session
        held.append(footprint().heap)
    return held


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
