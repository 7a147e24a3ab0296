"""The order in which the processes of a comparison run: A B B A, so that what drifts hits both arms alike.

A block is four processes, A B B A or B A A B. Blocks come in twos, the second in the other order and
the first at random: A B B A B A A B, whose difference of arms is free of any drift that is linear or
quadratic over the eight, and of whatever belongs to a place inside a block (the first process after a
pause, say). With the order of every block drawn by itself such a place would by chance always meet
the same arm, once in 2^(n-1) comparisons of n blocks, and nothing in the data would show it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PROCESSES = 4  # of a block, two an arm: two pairs


def interleaved(blocks: int, rng: np.random.Generator, cells: tuple[int, ...] = ()) -> npt.NDArray[np.int8]:
    """Which arm runs, by time: ``(*cells, blocks, 4)``, 0 for A and 1 for B."""
    twos = rng.integers(0, 2, (*cells, (blocks + 1) // 2, 1), np.int8)
    first = np.concatenate([twos, 1 - twos], axis=-1).reshape(*cells, -1)[..., :blocks, None]
    return np.concatenate([first, 1 - first, 1 - first, first], axis=-1)


def by_arm(values: npt.ArrayLike, arms: npt.NDArray[np.int8]) -> npt.NDArray[Any]:
    """What was measured in the order of `interleaved`, sorted: ``(..., blocks, 4)`` to ``(..., blocks, 2, 2)``.

    The last axes are the arm (A, B) and its processes in the order of time. ``arms`` may lack leading axes.
    """
    array = np.asarray(values)
    order = np.broadcast_to(np.argsort(arms, axis=-1, kind="stable"), array.shape)
    return np.take_along_axis(array, order, axis=-1).reshape(*array.shape[:-1], 2, 2)
