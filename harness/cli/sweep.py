"""One model over the sizes of its profiles: which shapes are asked, and how far each comes out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import SpecError, StageError
from harness.judge.compare import NARROWER, compare
from harness.judge.comparison import Failure
from harness.judge.inputs import make_inputs
from harness.report.shape_map import Axis, ShapeMap, Spot, sized
from harness.runtime.backend.protocol import Progress
from harness.runtime.pool import Handle, PooledSession
from harness.runtime.workbench import Workbench
from harness.spec import EngineSpec, ModelSpec, Profile, Range, interface
from harness.spec.example import Example
from harness.spec.model import admit
from harness.spec.names import suggestion
from harness.spec.space import Space

DEATHS = 8  # crashes or hangs of a host after which the rest of a map is left out


@dataclass(frozen=True)
class Plot:
    """A map to be made: a profile by number, its axes, and the sizes of all other dimensions."""

    profile: int
    x: Axis
    y: Axis | None
    fixed: Mapping[str, int]

    @property
    def bindings(self) -> Iterator[dict[str, int]]:
        """Every shape of it, the smallest sizes first."""
        for pair in itertools.product(*(axis.sizes for axis in (self.y, self.x) if axis)):
            symbols = [axis.symbol for axis in (self.y, self.x) if axis]
            yield {**self.fixed, **dict(zip(symbols, pair, strict=True))}


def plots(model: ModelSpec, over: Sequence[str], at: Mapping[str, int], cells: int) -> list[Plot]:
    """What to draw of ``model``: for each profile a map over ``over``, or one for every two dimensions that vary.

    A dimension on no axis has the size that ``at`` gives it, else that of opt; a profile that does not admit
    ``at`` is left out. All maps together have
    at most ``cells`` shapes; every axis has both bounds, and opt where there is room.

    SpecError when a dimension is none of the model's, a size lies outside a profile, nothing varies, or
    ``cells`` does not reach for the corners.
    """
    declared = interface(model.source.path())
    profiles = [admit(model.id, profile, declared) for profile in model.profiles]
    wanted: list[tuple[int, Profile, tuple[str, ...]]] = []
    for number, profile in enumerate(profiles):
        ranges = dict(profile.ranges)
        for symbol in (*over, *at):
            if symbol not in ranges:
                raise SpecError(
                    f"{model.id}: no dimension {symbol!r} in profile {number}: {suggestion(symbol, sorted(ranges))}"
                    f"dimensions: {', '.join(sorted(ranges)) or 'none'}"
                )
        if not all(ranges[symbol].min <= size <= ranges[symbol].max for symbol, size in at.items()):
            continue
        varying = [symbol for symbol, sizes in profile.ranges if sizes.min < sizes.max and symbol not in at]
        if over:
            wanted.append((number, profile, tuple(over)))
        elif len(varying) > 1:
            varying.sort(key=lambda symbol: ranges[symbol].min - ranges[symbol].max)  # the longer one lies
            wanted += [(number, profile, pair) for pair in itertools.combinations(varying, 2)]
        elif varying or at:
            wanted.append((number, profile, tuple(varying or list(at)[:1])))
    if not wanted and at:
        given, known = sized(at), " | ".join(map(str, profiles))
        raise SpecError(f"{model.id}: --at {given} lies outside every profile: {known}")
    if not wanted:
        raise SpecError(f"{model.id}: no dimension varies, so that there is one shape: `trt-harness check` judges it")
    share = cells // len(wanted)
    return [_plot(model, number, profile, axes, at, share) for number, profile, axes in wanted]


def _plot(
    model: ModelSpec, number: int, profile: Profile, symbols: tuple[str, ...], at: Mapping[str, int], cells: int
) -> Plot:
    ranges = {
        symbol: Range(at[symbol], at[symbol], at[symbol]) if symbol in at else dict(profile.ranges)[symbol]
        for symbol in symbols
    }
    counts = dict(zip(symbols, _counts([sizes.max - sizes.min + 1 for sizes in ranges.values()], cells), strict=True))
    if any(counts[symbol] < min(2, sizes.max - sizes.min + 1) for symbol, sizes in ranges.items()):
        raise SpecError(
            f"{model.id}: --cells leaves {cells} for a map of {' and '.join(symbols)}: its corners are four"
        )
    x, *rest = (Axis(symbol, spread(ranges[symbol], counts[symbol])) for symbol in symbols)
    others = {symbol: at.get(symbol, sizes.opt) for symbol, sizes in profile.ranges if symbol not in symbols}
    return Plot(number, x, rest[0] if rest else None, others)


def _counts(lengths: Sequence[int], cells: int) -> list[int]:
    """How many sizes each axis gets: alike many, but what a short one does not need goes to the other."""
    if len(lengths) == 1:
        return [min(lengths[0], cells)]
    first, second = lengths
    side = math.isqrt(cells)
    a = min(first, max(side, cells // min(second, side) if side else 0))
    return [a, min(second, cells // a if a else 0)]


def spread(sizes: Range, count: int) -> tuple[int, ...]:
    """``count`` sizes of a range, or all if it has no more: both bounds, opt, and others evenly between.

    Every second one is moved by one where that makes it of another parity than the one before, since
    kernels are chosen by what a size can be divided by.
    """
    length = sizes.max - sizes.min
    if count > length:
        return tuple(range(sizes.min, sizes.max + 1))
    if count < 3:
        return (sizes.min, sizes.max)[:count]
    found = [sizes.min + round(length * step / (count - 1)) for step in range(count)]
    for place in range(1, count - 1):
        if found[place] % 2 == found[place - 1] % 2 and found[place] + 1 < found[place + 1]:
            found[place] += 1
    inner = min(range(1, count - 1), key=lambda place: abs(found[place] - sizes.opt))
    if sizes.opt not in found:
        found[inner] = sizes.opt
    return tuple(sorted(set(found)))


@dataclass(eq=False)
class Sweep:
    """Runs the shapes of one engine and judges each by the oracle."""

    bench: Workbench
    spec: EngineSpec
    backend: str
    seed: int
    again: str  # the command that asks one shape; its sizes follow
    progress: Progress | None = None

    def maps(self, wanted: Sequence[Plot]) -> Iterator[ShapeMap]:
        """A map for each plot. UnsupportedError, ParseError, BuildError or DeserializeError without an engine."""
        title = f"{self.spec.model.id} at {self.spec.precision.name} on {self.backend}"
        with self.bench.pool.engine(self.spec, self.backend, progress=self.progress) as handle:
            for plot in wanted:
                spots = tuple(self._spots(handle, plot))
                yield ShapeMap(title, plot.profile, plot.x, plot.y, plot.fixed, spots)

    def _spots(self, handle: Handle, plot: Plot) -> Iterator[Spot]:
        session = None
        deaths = 0
        bindings = list(plot.bindings)
        for number, binding in enumerate(bindings, 1):
            if self.progress:
                self.progress("shapes", number, len(bindings))
            if deaths == DEATHS:
                yield Spot(binding, "not asked", why=f"after {DEATHS} crashes or hangs")
                continue
            try:
                session = session or handle.session(plot.profile)
                yield self._spot(session, plot.profile, binding)
            except StageError as error:
                if error.crash is not None:
                    session, deaths = None, deaths + 1
                why = str(error).partition("\n")[0]
                yield Spot(
                    binding, "wrong", math.inf, why=why, message=f"{error}\n  repeat       {self._repeat(binding)}"
                )

    def _spot(self, session: PooledSession, profile: int, binding: Mapping[str, int]) -> Spot:
        """StageError from the run; what can't be asked, since there is no reference, is said so."""
        model = self.spec.model
        declared = interface(model.source.path())
        example = Example.of(binding, model.profiles[profile].contents("opt"), profile=profile, seed=self.seed)
        space = Space(admit(model.id, model.profiles[profile], declared), model.relations, number=profile)
        if not space.admits(space.sizes_of(example)):
            return Spot(binding, "not asked", why=f"against {' and '.join(model.relations)}")
        inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
        try:
            reference = self.bench.oracle.reference(model, inputs)
        except SpecError as error:
            return Spot(binding, "not asked", why=str(error).partition(". ")[0])
        got = session.run(inputs)
        found = compare(got, reference, self.spec.precision, narrower=NARROWER.get(self.backend), weak="ignore")
        worst = found.worst
        spot = Spot(binding, "within", worst.excess, worst.name, worst.figures.max_abs if worst.figures else None)
        if found.passed:
            return spot
        where = f"{model.id} at {self.spec.precision.name} on {self.backend}, {sized(binding)}"
        message = found.message(where, self._repeat(binding))
        if worst.failure is Failure.MISMATCH and math.isfinite(worst.excess):
            return dataclasses.replace(spot, verdict="off", why=worst.failure.value, message=message)
        why = ": ".join(filter(None, (worst.failure.value if worst.failure else "", worst.detail)))
        return dataclasses.replace(spot, verdict="wrong", excess=math.inf, why=why, message=message)

    def _repeat(self, binding: Mapping[str, int]) -> str:
        return " ".join([self.again, *(f"--at {symbol}={size}" for symbol, size in sorted(binding.items()))])
