"""What a cell is held against: a baseline refers to sessions whose plan is kept, and never moves by itself.

A baseline is no number that somebody once typed. It names the sessions that it rests on, what each of them measured,
and the plans that were measured, which are kept, so that they can be measured again beside a candidate. It
is proposed, then accepted or rejected by somebody with a reason; the one before is superseded. At most one a cell is
pinned: the release that drift is counted from.
"""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.ledger.policy import RECENT, Policy
from harness.measure.stats import usual

Array = npt.NDArray[np.float64]

LEAST_SESSIONS = 2  # of a baseline: a single one may be an accident
HISTORY = 5  # days of sessions of a baseline from which on history alone may decide


class State(str, enum.Enum):
    """Where a baseline is in its life."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Known:
    """What is known of one metric of a cell.

    ``values`` are the medians of the sessions, the oldest first, in ``unit``; ``spread`` the relative standard
    deviation between the processes of one; ``tolerance`` the loss up to which the cell passes, as it was when the
    baseline was made.
    """

    unit: str
    values: tuple[float, ...]
    spread: float
    tolerance: float

    def __post_init__(self) -> None:
        if len(self.values) < LEAST_SESSIONS or not all(0 < value < math.inf for value in self.values):
            least = f"a baseline takes {LEAST_SESSIONS}, since a single one may be an accident, and values above 0"
            raise SpecError(f"values of {len(self.values)} sessions: {least}")
        if not (0 <= self.spread < math.inf and 0 < self.tolerance < math.inf):
            given = f"spread {self.spread}, tolerance {self.tolerance}"
            raise SpecError(f"{given}: expected 0 <= spread, and 0 < tolerance")

    @property
    def usual(self) -> Array:
        """``values`` without those of flaky sessions: one night that went wrong must not widen what is allowed."""
        return np.exp(usual(np.log(self.values)))

    @property
    def level(self) -> float:
        """What it comes to: the geometric mean of `usual`, in ``unit``."""
        return float(np.exp(np.log(self.usual).mean()))

    @classmethod
    def of(cls, unit: str, values: Sequence[float], spread: float, policy: Policy) -> Known:
        """Of the latest sessions. SpecError for fewer than `LEAST_SESSIONS`."""
        recent = tuple(values[-RECENT:])
        return cls(unit, recent, spread, policy.tolerated(recent))


@dataclass(frozen=True)
class Baseline:
    """Of the cell with this ``key``, which people call ``cell``.

    ``plans`` are SHA-256 of plans that are kept: one, or several builds of one spec. ``environment`` is that of the
    last session. ``at`` is when it was accepted, with ``reason`` and ``actor``. ``release`` is what it is pinned as, or
    "". ``model`` is the digest of the model, "" where that was not recorded. ``days`` is of how many the sessions are,
    0 where that was not recorded.
    """

    key: str
    cell: str
    plans: tuple[str, ...]
    sessions: tuple[str, ...]
    metrics: Mapping[str, Known]
    environment: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    actor: str = ""
    at: datetime.datetime | None = None
    release: str = ""
    model: str = ""
    days: int = 0

    @property
    def pinned(self) -> bool:
        return bool(self.release)

    def accepted(self, reason: str, actor: str, at: datetime.datetime) -> Baseline:
        """SpecError without a reason, or without anybody whose reason it is."""
        if not reason.strip() or not actor.strip():
            done = "accepted, rejected and pinned with a reason and by somebody"
            raise SpecError(f"{self.cell}: a baseline is {done}: --reason, --actor")
        return replace(self, reason=reason, actor=actor, at=at)


@dataclass(frozen=True)
class Quarantine:
    """Cells, by a glob, that fail nothing up to the day ``until``; they are measured and shown all the same."""

    cell: str
    owner: str
    reason: str
    until: datetime.date


@dataclass(frozen=True)
class Baselines:
    """The policies and what is accepted: what one reviewable file holds."""

    policies: Mapping[str, Policy]
    active: Mapping[str, Baseline] = field(default_factory=dict)  # by key
    releases: Mapping[str, Baseline] = field(default_factory=dict)  # by key: what is pinned
    quarantines: tuple[Quarantine, ...] = ()

    def namesake(self, key: str, cell: str) -> Baseline | None:
        """Where none has this ``key``, the last accepted one that people call ``cell`` likewise: of another model."""
        if key in self.active:
            return None
        alike = [one for one in self.active.values() if one.cell == cell]
        return max(alike, key=lambda one: one.at.timestamp() if one.at else 0.0, default=None)

    def with_accepted(self, baseline: Baseline) -> Baselines:
        """``baseline`` in place of what was active. The pinned one stays where it is."""
        return replace(self, active={**self.active, baseline.key: baseline})

    def with_release(self, key: str, release: str) -> Baselines:
        """The active baseline of ``key`` pinned as ``release``. SpecError where there is none."""
        found = self.active.get(key)
        if found is None:
            raise SpecError(f"no active baseline with key {key[:12]}: accept one before it is pinned")
        if not release.strip():
            raise SpecError(f"{found.cell}: a release has a name")
        return replace(self, releases={**self.releases, key: replace(found, release=release)})
