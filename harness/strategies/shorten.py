"""A failing sequence of steps brought to its shortest.

Hypothesis shrinks the draws behind the steps, where what one step leaves decides what the next may be; here the
steps themselves are known, which takes a tenth of the runs and does not get stuck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.spec.example import Example
from harness.spec.profile import Profile
from harness.spec.space import Space, spaces
from harness.strategies.minimize import minimize
from harness.strategies.sequence import SHAPED, Step, applicable
from harness.strategies.subject import SEEDS

Steps = tuple[Step, ...]
Fails = Callable[[Steps], bool]


def shortened(steps: Steps, fails: Fails, profiles: Sequence[Profile], relations: Iterable[str] = ()) -> Steps:
    """``steps``, which fail, without all that it does not take, at the smallest shapes, on the first data and weights.

    No step can be left out of the result, nor put into the one before it. ``fails`` is asked once a sequence,
    and only for those that are `applicable`.
    """
    known: dict[Steps, bool] = {steps: True}

    def asked(tried: Steps) -> bool:
        if tried not in known:
            known[tried] = applicable(tried) and fails(tried)
        return known[tried]

    inside = spaces(profiles, relations)
    before = None
    while steps != before:
        before = steps
        steps = _without(steps, asked)
        steps = next(filter(asked, _merged(steps)), steps)
        for place, step in enumerate(steps):
            if step.kind in SHAPED:
                steps = _at_smallest(steps, place, asked, profiles, relations)
        steps = next(filter(asked, (*_on_earlier_profile(steps, inside), *_plainer(steps))), steps)
    return steps


def _without(steps: Steps, fails: Fails) -> Steps:
    """Without runs of steps: halves are tried first, then ever shorter ones, down to single steps."""
    length = len(steps) // 2
    while length:
        found = next(filter(fails, (steps[:at] + steps[at + length :] for at in range(len(steps) - length + 1))), None)
        if found is None:
            length = length // 2 if length > 4 else length - 1
        else:
            steps, length = found, min(length, len(found) - 1)
    return steps


def _merged(steps: Steps) -> Iterator[Steps]:
    """With what a step changes put into the step before it that said shapes of the same context."""
    for place, step in enumerate(steps):
        if step.kind not in ("set shape", "switch", "write"):
            continue
        earlier = [at for at in range(place) if steps[at].context == step.context and steps[at].kind in SHAPED]
        if earlier:
            old = steps[earlier[-1]].example
            new = step.example if step.kind != "write" else dataclasses.replace(old, seed=step.example.seed)
            changed = _put(steps, earlier[-1], example=new)
            yield changed[:place] + changed[place + 1 :]


def _plainer(steps: Steps) -> Iterator[Steps]:
    """With one thing plainer: a run without a graph, the first of other weights, a small seed, the first context."""
    for place, step in enumerate(steps):
        if step.kind == "run by graph":
            yield _put(steps, place, kind="run")
        if step.kind == "refit" and step.seed != SEEDS[0]:
            yield _put(steps, place, seed=SEEDS[0])
        if step.kind in ("set shape", "switch"):
            yield _put(steps, place, kind="write", example=Example(seed=step.example.seed))
        if step.kind == "write":
            yield from (_put(steps, place, example=Example(seed=seed)) for seed in range(min(2, step.example.seed)))
    if steps and steps[0].context:
        yield tuple(dataclasses.replace(step, context=1 - step.context) for step in steps)


def _on_earlier_profile(steps: Steps, inside: Sequence[Space]) -> Iterator[Steps]:
    """With all shapes of a later profile as near to them as an earlier one comes, together: one alone does not fit."""

    def moved(step: Step, to: Space) -> Step:
        sizes = inside[step.example.profile].sizes_of(step.example)
        if step.kind not in SHAPED or step.example.profile <= to.number or sizes.keys() != to.ranges.keys():
            return step
        near = {name: min(max(sizes[name], range.min), range.max) for name, range in to.ranges.items()}
        return dataclasses.replace(step, example=to.example(near, step.example.seed)) if to.admits(near) else step

    together = (tuple(moved(step, space) for step in steps) for space in inside)
    return (other for other in together if other != steps)


def _at_smallest(
    steps: Steps, place: int, fails: Fails, profiles: Sequence[Profile], relations: Iterable[str]
) -> Steps:
    smallest = minimize(
        steps[place].example, lambda example: fails(_put(steps, place, example=example)), profiles, relations=relations
    )
    return _put(steps, place, example=smallest)


def _put(steps: Steps, place: int, **changes: Any) -> Steps:
    return (*steps[:place], dataclasses.replace(steps[place], **changes), *steps[place + 1 :])
