"""What leaving flaky sessions out of a baseline costs where there are none: sessions lost, and losses seen falsely.

Sessions of a cell differ by 1 %, so that `APART` hides nothing; of quieter cells none is left out without reason.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import noise
from benchmarks.noise import Noise
from benchmarks.test_statistics import percent, table
from harness.ledger.baselines import Known
from harness.ledger.gate import ALARM, against_history
from harness.measure.metric import Metric

BASELINES = 10_000
SPREAD = 0.01


@pytest.mark.parametrize("sessions", [5, 6, 12, 30])
@pytest.mark.parametrize("kind", [noise.WHITE, noise.T3], ids=lambda kind: kind.name)
def test_flaky_sessions(kind: Noise, sessions: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng([sessions, *kind.name.encode()])
    values = np.exp(kind.logs(rng, (BASELINES, sessions + 1), SPREAD))
    left_out = alarms = 0
    for row in values:
        known = Known("s", tuple(row[:-1]), 1e-9, 0.01)
        left_out += known.usual.size < sessions
        alarms += against_history(known, row[-1:], Metric("latency")).p < ALARM
    table(capsys, [(kind.name, str(sessions), percent(left_out / BASELINES), percent(alarms / BASELINES, 2))])
    assert alarms <= (0.008 if kind is noise.WHITE else 0.02) * BASELINES
