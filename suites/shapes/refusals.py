"""What must be refused, and what must be so of a refusal."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import ComparisonFailure, RunError, StageError, UnsupportedError

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Arrays, Interface, Relation, Sessions
    from harness.spec.space import Space


@dataclass(eq=False)
class Refusals:
    """Asks a session on ``profile`` for what it must refuse, and after each that it is as good as before.

    ``problems`` collects what was wrong, so that one test tells of all. ``logged``: the backend has a
    logger, and its words have to come with the error.
    """

    sessions: Sessions
    relation: Relation
    profile: int
    valid: Arrays  # inputs that it takes
    logged: bool
    problems: list[str] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.want = self.sessions(self.profile).run(self.valid)

    def refused(
        self, what: str, inputs: Arrays, *, omit: str = "", ours: bool = False, lift: str = "", late: bool = False
    ) -> None:
        """``what`` says it in words; ``ours``: this project's own session refuses, which logs nothing.

        The limit on ``lift`` is lifted before the valid run. ``late``: only the run itself can tell how much
        ``lift`` needs, so that other outputs may be written by then.
        """
        self.asked += 1
        try:
            self.sessions(self.profile).run(inputs, omit=omit)
        except UnsupportedError:
            raise
        except StageError as error:
            self._judge(what, error, ours=ours, only=(lift,) if late else ())
        else:
            self.problems.append(f"{what}: it ran")
        try:
            session = self.sessions(self.profile)  # a new one if the refusal was a crash
            if lift:
                session.limit(lift, None)
            self.relation.require_same_bits(
                session.run(self.valid), self.want, "the same run before the refusal", self.valid
            )
        except (StageError, ComparisonFailure) as error:
            self.problems.append(f"{what}: the next valid run is not as before: {error}")

    def _judge(self, what: str, error: StageError, *, ours: bool, only: Collection[str]) -> None:
        """``only`` the outputs in it must be left alone, if there are any in it."""
        touched = [name for name in error.detail.get("touched") or () if not only or name in only]
        if error.crash is not None or error.detail.get("replace_host"):
            self.problems.append(f"{what}: not refused: {error.crash or error.message}")
        elif not isinstance(error, RunError):
            self.problems.append(f"{what}: refused as {type(error).__name__}, not as RunError: {error.message}")
        elif not error.message.strip() or (self.logged and not ours and not error.log):
            self.problems.append(f"{what}: refused without a word of the runtime's: {error.message!r}")
        elif touched:
            self.problems.append(f"{what}: refused, and yet written to: {', '.join(touched)}")


def beyond(space: Space, unbound: Container[str] = ()) -> Iterator[tuple[str, dict[str, int]]]:
    """Each size one below its least, the others at theirs, and one above its largest, the others at theirs.

    What the tensors in ``unbound`` hold is left out.
    """
    least, greatest = space.least() or {}, space.greatest() or {}
    for name, sizes in space.ranges.items():
        if name.partition("[")[0] in unbound:
            continue
        if sizes.min > 0 or "[" in name:  # a dimension below zero is no shape; what a shape tensor holds may be
            yield f"{name}={sizes.min - 1}, one below its least", {**least, name: sizes.min - 1}
        yield f"{name}={sizes.max + 1}, one above its largest", {**greatest, name: sizes.max + 1}


def resized(inputs: Arrays, interface: Interface, sizes: Mapping[str, int]) -> dict[str, Array]:
    """``inputs`` in the shapes that ``sizes`` give them, shape tensors with what they hold there."""
    import numpy as np

    changed = {}
    for tensor in interface.inputs:
        array = np.resize(inputs[tensor.name], tensor.resolve(sizes))
        if f"{tensor.name}[0]" in sizes:  # a shape tensor
            held = [sizes[f"{tensor.name}[{index}]"] for index in range(array.size)]
            array = np.asarray(held, array.dtype).reshape(array.shape)
        changed[tensor.name] = array
    return changed


def of_other_rank(inputs: Arrays, name: str) -> Iterator[tuple[str, dict[str, Array]]]:
    """The input ``name`` with a dimension more, and with its first one missing."""
    yield f"{name} with a dimension more", {**inputs, name: inputs[name][None]}
    yield f"{name} with a dimension missing", {**inputs, name: inputs[name][0, ...]}
