"""How nights are correlated on a host, from all of its cells: one alone says too little of it.

A hundred nights tell a correlation of .5 to within .1, and taken for more than it is, it hides steps. Cells of a
host have its weather in common, so each is held to be like the others, as far as those are alike (random effects,
DerSimonian and Laird 1986). Cells that move together are no independent witnesses, and count for fewer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.measure.history import History
from harness.measure.stats import ROUNDING
from harness.measure.steps import CAUTION, MOST, Belief, around, spread

Array = npt.NDArray[np.float64]

CELLS, NIGHTS = 5, 20  # so many cells at least, of so many nights each


def pooled(found: Sequence[History]) -> Belief | None:
    """What the cells of a host, each searched by itself, say together of the correlation of one.

    None of fewer than `CELLS` that have `NIGHTS`, and noise. The error is what cells differ by, other than by
    chance, and that of their mean; what they differ by is taken for `CAUTION` standard errors more than it seems,
    which matters where they are few. Cells in which a step was not found are correlated by that, and so are few that
    are unlike the rest: the median and a trimmed variance leave them out.
    """
    asked = [one for one in found if len(one.nights) >= NIGHTS and spread(np.diff(one.held)) > ROUNDING]
    if len(asked) < CELLS:
        return None
    count = len(asked)
    own, errors = np.transpose([around(one.held, one.edges) for one in asked])
    median, chance = float(np.median(own)), float(np.mean(np.square(errors)))
    seen = spread(own - median) ** 2 * count / (count - 1)
    alike = together(asked) ** 2  # of what two cells say of their correlations
    differ = max(seen * (1 + CAUTION * (2 / (count - 1)) ** 0.5) - chance * (1 - alike), 0.0)
    of_median = (np.pi / 2) * (chance * (1 + (count - 1) * alike) + differ) / count
    return Belief(min(max(median, 0.0), MOST), (differ + of_median) ** 0.5)


def together(found: Sequence[History]) -> float:
    """How far cells are correlated with each other, on average, by how they moved from one night to the next: 0 to 1.

    The mean of m numbers with a variance of 1 and a correlation of r has one of (1 + (m - 1) r) / m.
    """
    moves: dict[object, list[float]] = defaultdict(list)
    for one in found:
        steps = np.diff(one.held)
        usual = spread(steps)
        for night, move in zip(one.nights[1:], steps, strict=True):
            moves[night.session or night.at].append(float(move / usual) if usual else 0.0)
    shared = [np.array(night) for night in moves.values() if len(night) > 1]
    if not shared:
        return 0.0
    count = len(shared) / sum(1 / night.size for night in shared)
    variance = spread(np.array([night.mean() for night in shared])) ** 2
    return float(np.clip((variance * count - 1) / (count - 1), 0.0, 1.0))
