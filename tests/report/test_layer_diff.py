"""Which layers of two engines correspond, and what differs between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.engine_report import EngineDiff, EngineReport
from harness.report.layer_diff import ONLY_A, ONLY_B, Change, LayerDiff, Match, changes, diff, match
from harness.report.layers import Layer, Layers, Tensor, read
from tests.report.test_layers import told


def layer(name: str, *origins: str, kind: str = "Convolution", precision: str = "float32", **fields: object) -> Layer:
    made = Layer(name, kind, precision=precision, origins=origins or (name,), traced=True, weights=0)
    return replace(made, **fields)  # type: ignore[arg-type]


def pairs(found: list[Match]) -> list[tuple[str, str, str]]:
    """Names of A, names of B, and how they were found."""
    return [("|".join(m.name for m in one.a), "|".join(m.name for m in one.b), one.by) for one in found]


def what(a: list[Layer], b: list[Layer]) -> list[str]:
    return [change.what for change in changes(a, b)]


class TestMatching:
    def test_by_name(self) -> None:
        a, b = [layer("x"), layer("y")], [layer("y"), layer("x")]
        assert pairs(match(a, b)) == [("x", "x", "name"), ("y", "y", "name")]

    def test_names_that_come_twice_in_their_order(self) -> None:
        first, second, *more = (layer("x", weights=weights, origins=()) for weights in range(5))
        found = match([first, second], more)
        assert [(one.a, one.b) for one in found] == [((first,), (more[0],)), ((second,), (more[1],)), ((), (more[2],))]

    def test_a_name_that_origins_contradict_is_none(self) -> None:
        """Compilers number what they make."""
        a = [layer("__myl_0", "a"), layer("__myl_1", "b")]
        b = [layer("__myl_0", "b"), layer("__myl_1", "a")]
        assert pairs(match(a, b)) == [("__myl_0", "__myl_1", "origin"), ("__myl_1", "__myl_0", "origin")]

    def test_by_the_origins_that_most_are_shared_of(self) -> None:
        a = [layer("one", "a", "b", "c")]
        b = [layer("first", "a"), layer("second", "b", "c")]
        assert pairs(match(a, b)) == [("one", "first|second", "origin")]
        assert pairs(match(b, a)) == [("first|second", "one", "origin")]

    def test_what_a_layer_with_the_same_name_took_in(self) -> None:
        a = [layer("conv"), layer("relu", kind="Activation")]
        b = [layer("conv", "conv", "relu")]
        assert pairs(match(a, b)) == [("conv|relu", "conv", "name")]

    def test_an_operator_that_is_many_layers_on_both_sides(self) -> None:
        a = [layer(f"a{number}", "norm") for number in range(3)]
        b = [layer(f"b{number}", "norm") for number in range(3)]
        assert pairs(match(a, b)) == [(f"a{n}", f"b{n}", "origin") for n in range(3)]

    def test_profiles_do_not_mix(self) -> None:
        a = [layer("x", "x"), layer("y [profile 1]", "y", profile=1), layer("r 1", kind="r", origins=(), profile=1)]
        b = [layer("y", "y"), layer("z [profile 1]", "x", profile=1), layer("r 2", kind="r", origins=())]
        assert all(not one.a or not one.b for one in match(a, b))

    def test_by_kind_and_order_where_nothing_is_known(self) -> None:
        first, second, third, fourth = (
            layer(name, kind="Reformat", origins=()) for name in ("Reformat 1", "Reformat 2", "copy 1", "copy 2")
        )
        assert pairs(match([first, layer("c", "c"), second], [third, fourth, layer("d", "d")])) == [
            ("Reformat 1", "copy 1", "order"),
            ("c", "", ""),
            ("Reformat 2", "copy 2", "order"),
            ("", "d", ""),
        ]

    def test_nothing_is_lost_or_taken_twice(self) -> None:
        a, b = read(told("8.6-detailed")).layers, read(told("8.6-names")).layers
        for one, other in ((a, b), (b, a), (a, a), (a, ()), ((), b), (a * 3, a + b)):
            found = match(one, other)
            assert sorted(held.name for m in found for held in m.a) == sorted(held.name for held in one)
            assert sorted(held.name for m in found for held in m.b) == sorted(held.name for held in other)

    def test_names_alone_against_all(self) -> None:
        """Of the layers that both tell of, by name; of what was compiled as one, too."""
        found = match(read(told("8.6-names")).layers, read(told("8.6-detailed")).layers)
        assert {one.by for one in found if one.a and one.b} == {"name"}
        assert sum(bool(one.a and one.b) for one in found) == 4


class TestChanges:
    def test_none(self) -> None:
        assert what([layer("x")], [layer("x")]) == []

    @pytest.mark.parametrize(
        ("before", "after", "kinds"),
        [
            ({}, {"precision": "float16"}, ["precision"]),
            ({"tactic": "sm80_a"}, {"tactic": "sm80_b"}, ["tactic"]),
            ({}, {"kind": "MatrixMultiply"}, ["kind"]),
            ({"implementation": "CaskConvolution"}, {"implementation": "CaskGemmConvolution"}, ["kind"]),
            ({"weights": 8}, {"weights": 4}, ["weights"]),
            ({}, {"origins": ("x", "relu")}, ["fusion"]),
            ({"inputs": (Tensor("t", "float32", (2,)),)}, {"inputs": (Tensor("t", "float32", (3,)),)}, ["tensors"]),
            ({"inputs": (Tensor("t", "float16"),)}, {"inputs": (Tensor("t", "float16", None, "HWC8"),)}, ["tensors"]),
            ({"inputs": (Tensor("t"),)}, {"inputs": (Tensor("t"), Tensor("u"))}, ["tensors"]),
        ],
    )
    def test_one_of_each(self, before: dict[str, object], after: dict[str, object], kinds: list[str]) -> None:
        assert what([layer("x", **before)], [layer("x", **after)]) == kinds  # type: ignore[arg-type]
        assert what([layer("x", **after)], [layer("x", **before)]) == kinds  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({}, {"precision": ""}),
            ({"tactic": "sm80_a"}, {"tactic": ""}),
            ({"weights": 8}, {"weights": None}),
            ({}, {"origins": ()}),
            ({}, {"origins": ("x", "relu"), "traced": False}),
            ({"inputs": (Tensor("t", "float32", (-1, 2)),)}, {"inputs": (Tensor("u", "", (8, 2)),)}),
            ({"inputs": (Tensor("t", "float32", (2,)),)}, {"inputs": (Tensor("t", "float32", None),)}),
            ({"inputs": (Tensor("t"),)}, {"kind": ""}),
        ],
    )
    def test_what_is_not_told_is_no_change(self, before: dict[str, object], after: dict[str, object]) -> None:
        assert what([layer("x", **before)], [layer("x", **after)]) == []  # type: ignore[arg-type]
        assert what([layer("x", **after)], [layer("x", **before)]) == []  # type: ignore[arg-type]

    def test_one_layer_more_of_the_same_origin(self) -> None:
        assert changes([layer("x")], [layer("x"), layer("y", "x")]) == [Change("fusion", "1 layer", "2 layers")]
        a, b = Layers((layer("x"),)), Layers((layer("x"), layer("y", "x")))
        assert dict(diff(a, b).counts) == {"fusion": 1}

    def test_words(self) -> None:
        separate = [layer("conv", weights=1000), layer("relu", kind="Activation")]
        fused = [layer("conv + relu", "conv", "relu", precision="float16", weights=2000)]
        assert changes(separate, fused) == [
            Change("precision", "float32", "float16"),
            Change("fusion", "conv | relu", "conv + relu"),
            Change("weights", "1,000 bytes", "2,000 bytes"),
        ]


class TestDiff:
    def test_an_engine_is_as_itself(self) -> None:
        for name in ("8.6-detailed", "8.6-names", "10-detailed", "11-detailed"):
            found = diff(read(told(name)), read(told(name)))
            assert found.same
            assert len(found.matches) == len(read(told(name)).layers)
            assert {one.by for one in found.matches} == {"name"}

    def test_counts(self) -> None:
        a = Layers((layer("x"), layer("y"), layer("z"), layer("old", kind="Pooling")), detailed=True)
        b = Layers(
            (layer("x", precision="float16", tactic="t"), layer("y", precision="float16"), layer("z"), layer("new")),
            detailed=True,
        )
        found = diff(a, b)
        assert dict(found.counts) == {"precision": 2, ONLY_A: 1, ONLY_B: 1}
        assert not found.same
        assert [one.name for one in found.changed] == ["x", "y"]
        assert ([one.name for one in found.only_a], [one.name for one in found.only_b]) == (["old"], ["new"])

    def test_reformats_that_one_side_has(self) -> None:
        """What a plan in mixed precision pays for."""
        detailed = read(told("8.6-detailed"))
        without = replace(detailed, layers=tuple(one for one in detailed.layers if not one.reformat))
        found = EngineDiff.of(EngineReport("a", without), EngineReport("b", detailed))
        assert found.figures["reformats"] == (0, 1)
        assert dict(found.layers.counts) == {ONLY_B: 1}
        assert not found.same


class TestEngineDiff:
    def test_figures(self) -> None:
        a = EngineReport("a", read(told("8.6-detailed")), {"device_memory": 100}, plan=1000)
        names = EngineReport("b", read(told("8.6-names")), {"device_memory": 100, "device_memory_by_profile": [9, 8]})
        figures = EngineDiff.of(a, names).figures
        assert figures["layers"] == (6, 5)
        assert figures["float16"] == (4, None), "which names do not tell"
        assert figures["plan"] == (1000, None)
        assert figures["device memory, profile 1"] == (None, 8)
        half = replace(a, layers=replace(a.layers, layers=a.layers.layers[1:2]))
        assert EngineDiff.of(a, half).figures["tf32"] == (1, 0)

    @pytest.mark.parametrize(
        ("memory", "plan", "same"), [(100, 1000, True), (100, 1004, True), (101, 1000, False), (None, 1000, True)]
    )
    def test_same(self, memory: int | None, plan: int, same: bool) -> None:
        """Of what is told; a plan of another size is what every rebuild has."""
        layers = read(told("8.6-detailed"))
        a = EngineReport("a", layers, {"device_memory": 100}, plan=1000)
        b = EngineReport("b", layers, {"device_memory": memory} if memory else {}, plan=plan)
        assert EngineDiff.of(a, b).same is same

    def test_hint(self) -> None:
        assert EngineReport("a", read(told("8.6-detailed"))).hint == ""
        facts = {"profiling_verbosity": "LAYER_NAMES_ONLY"}
        hint = EngineReport("m.plan", read(told("8.6-names")), facts).hint
        assert "m.plan: tells no more of its layers than their names" in hint
        assert "--build-option profiling_verbosity=DETAILED" in hint
        assert "tells nothing of its layers" in EngineReport("m.plan", Layers(), {"profiling_verbosity": "NONE"}).hint

    def test_json(self) -> None:
        a = EngineReport("a", read(told("8.6-detailed")))
        layers = (replace(a.layers.layers[1], precision="int8"),)
        b = EngineReport("b", replace(a.layers, layers=layers))
        document = EngineDiff.of(a, b).as_json()
        assert (document["same"], document["differences"]) == (False, {"precision": 1, ONLY_A: 5})
        (changed,) = document["changed"]
        assert changed["changes"] == [{"what": "precision", "before": "float16", "after": "int8"}]
        assert changed["a"][0]["fused"] is True
        assert len(document["only_a"]) == 5
        assert LayerDiff(()).same
