"""Strategies for shapes inside optimization profiles.

Each public function checks what it is given and names what is wrong with it (SpecError); its
docstring says what is drawn, and towards what it shrinks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from harness.errors import SpecError
from harness.spec.example import Example
from harness.spec.model import ModelSpec, admit
from harness.spec.onnx_model import Interface, interface
from harness.spec.profile import Profile, Range, Values
from harness.spec.space import Affordable, Space, checked_range, element_ranges, spaces
from harness.strategies.affordable import Bounds

ELEMENTS = 1 << 22  # of all inputs and outputs of an example: 16 MiB of float32
SEEDS = 1 << 16
_SEEDS = st.integers(0, SEEDS - 1)
_Shapes = tuple[Space, SearchStrategy[dict[str, int]]]


def sizes(range: Range) -> SearchStrategy[int]:
    """A size in ``range``, its bounds and opt drawn often, and one where that is inside; shrinks to ``range.min``.

    Half of the sizes come evenly from the whole range, so that what is true from some size on shrinks
    to that size; of a range that begins with zero, one size in eight is zero.
    """
    return _sizes(checked_range("range", range, low=None))


def bindings(
    profile: Profile, *, relations: Iterable[str] = (), affordable: Affordable | None = None
) -> SearchStrategy[dict[str, int]]:
    """A size for each symbol of ``profile``, drawn once, so that linked dimensions stay linked.

    Each is drawn as by `sizes`, within what the symbols before it and ``relations`` (see
    `harness.spec.space`) leave it, so that no draw is thrown away. ``affordable`` takes a binding, and
    must take every smaller one too. Shrinks each symbol towards its minimum, earlier ones first.
    """
    if not isinstance(profile, Profile):
        raise SpecError(f"profile: expected a Profile, got {profile!r}")
    return _drawn(Space(Profile(profile.ranges), relations, affordable))


def contents(values: Values) -> SearchStrategy[tuple[int, ...]]:
    """What a shape tensor holds: each element drawn as by `sizes`; shrinks to ``values.min``."""
    if not isinstance(values, Values):
        raise SpecError(f"values: expected Values, got {values!r}")
    return st.tuples(*map(_sizes, element_ranges("values", values)))


def seeds() -> SearchStrategy[int]:
    """A seed for the data of an example, which `harness.judge.inputs.make_inputs` makes; shrinks to 0.

    The data themselves are never drawn: element by element that takes longer than running the model.
    """
    return _SEEDS


def examples(
    profiles: Sequence[Profile], *, relations: Iterable[str] = (), affordable: Affordable | None = None
) -> SearchStrategy[Example]:
    """An `Example`: a profile, a size for each of its symbols, contents for its shape tensors, and a seed.

    Profiles are drawn alike; sizes and contents as by `bindings` and `contents`. ``relations`` may name
    the elements of shape tensors, ``shape[0]``. Shrinks to the first profile, then to the smallest
    sizes and contents, then to seed 0.
    """
    return _examples(spaces(profiles, relations, affordable))


def examples_of(
    model: ModelSpec,
    *,
    relations: Iterable[str] | None = None,
    elements: int | None = ELEMENTS,
    memory: int | None = None,
    interface: Interface | None = None,
) -> SearchStrategy[Example]:
    """Examples of ``model``, within its profiles and, unless told otherwise, the relations that it declares::

        @given(examples_of(MY_MODEL))
        def test_my_model(example): ...

    All inputs and outputs together have at most ``elements`` elements and ``memory`` bytes (None: any
    number). ``interface`` says what a model takes that is no ONNX. The model is built when the first
    example is drawn, not here. Shrinks as `examples` does.
    """
    if not isinstance(model, ModelSpec):
        raise SpecError(f"model: expected a ModelSpec, got {model!r}")
    for name, bound in (("elements", elements), ("memory", memory)):
        if bound is not None and (type(bound) is not int or bound < 1):
            raise SpecError(f"{name}: expected a number above 0, or None, got {bound!r}")
    if model.data is not None:
        raise SpecError(f"model: {model.id} brings its own inputs ({model.data.name}), so there is nothing to draw")
    if interface is None and model.source.kind != "onnx":
        raise SpecError(f"interface: {model.id} is a {model.source.kind}, which does not say what it takes: give it")
    texts = model.relations if relations is None else relations
    return st.deferred(
        lambda: _examples(spaces_of(model, texts, elements=elements, memory=memory, interface=interface))
    )


def examples_in(space: Space) -> SearchStrategy[Example]:
    """Examples of one profile, such as one of `spaces_of`. Shrinks as `examples` does."""
    return _examples((space,))


def spaces_of(
    model: ModelSpec,
    relations: Iterable[str] | None = None,
    *,
    elements: int | None = ELEMENTS,
    memory: int | None = None,
    interface: Interface | None = None,
) -> tuple[Space, ...]:
    """Where `examples_of` draws from: a space a profile, by the symbols that stand in the model."""
    declared = _interface(model) if interface is None else interface
    profiles = [admit(model.id, profile, declared) for profile in model.profiles]
    return spaces(profiles, model.relations if relations is None else relations, Bounds(declared, elements, memory))


def _interface(model: ModelSpec) -> Interface:
    return interface(model.source.path())


@functools.lru_cache(maxsize=1 << 14)
def _sizes(range: Range) -> SearchStrategy[int]:
    if range.min == range.max:
        # Two choices, as for every range: Hypothesis takes the example of fewer choices for the smaller one.
        always = [st.integers(0, 1).map(lambda _: range.min) for _ in "ab"]
        return st.one_of(always)
    # Those few after all of them: what fails from some size on then shrinks to it, and not to one of these.
    often = dict.fromkeys((range.max, range.opt, range.min, *([1] if range.min < 1 < range.max else [])))
    return st.integers(range.min, range.max) | st.sampled_from(list(often))


@st.composite
def _drawn(draw: DrawFn, space: Space) -> dict[str, int]:
    chosen: tuple[int, ...] = ()
    for name in space.variables:
        size = draw(_sizes(space.range_of(chosen)), label=name)
        chosen = (*chosen, space.nearest(chosen, size))
    return dict(zip(space.variables, chosen, strict=True))


def _examples(spaces: Sequence[Space]) -> SearchStrategy[Example]:
    """With all strategies made, for making one takes longer than drawing from it."""
    shapes = [(space, _drawn(space)) for space in spaces]
    return _placed(shapes, st.sampled_from(shapes))


@st.composite
def _placed(draw: DrawFn, shapes: Sequence[_Shapes], any_of_them: SearchStrategy[_Shapes]) -> Example:
    space, sizes = draw(any_of_them, label="profile") if len(shapes) > 1 else shapes[0]
    return space.example(draw(sizes), draw(_SEEDS, label="seed"))
