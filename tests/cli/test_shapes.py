"""``shapes``: which shapes are asked, and that a wrong region is seen."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.cli.sweep import plots, spread
from harness.errors import SpecError
from harness.spec import ModelSpec, OnnxFile, Profile, Range
from tests.cli.conftest import Trt
from tests.spec.onnx_files import linear

FAKE = ("--in-process", "--backend")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``y = relu(x)`` of batch by seq by 4, by another x for every seed."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "seq", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


PROFILE = ("--profile", "batch=1:2:4", "--profile", "seq=8:16:32")


class TestSpread:
    @pytest.mark.parametrize(
        "sizes", [Range(1, 8, 32), Range(0, 1, 64), Range(1, 1, 65), Range(7, 9, 10), Range(3, 3, 3)]
    )
    @pytest.mark.parametrize("count", [2, 3, 5, 17, 100])
    def test_bounds_opt_and_both_parities(self, sizes: Range, count: int) -> None:
        found = spread(sizes, count)
        assert (found[0], found[-1]) == (sizes.min, sizes.max)
        assert len(found) <= count
        assert list(found) == sorted(set(found))
        if count > 2:
            assert sizes.opt in found
        if count >= 5 and sizes.max - sizes.min > 8:
            assert {size % 2 for size in found} == {0, 1}

    def test_all_of_a_short_range(self) -> None:
        assert spread(Range(2, 3, 6), 10) == (2, 3, 4, 5, 6)


def spec(path: Path, *profiles: Profile) -> ModelSpec:
    return ModelSpec("two", OnnxFile(path), profiles)


class TestPlots:
    def test_at_most_so_many_and_every_corner(self, model: Path) -> None:
        two = spec(model, Profile.of({"batch": (1, 8, 64), "seq": (1, 128, 512)}))
        for cells in (4, 10, 64, 100, 257):
            (plot,) = plots(two, (), {}, cells)
            bindings = list(plot.bindings)
            assert len(bindings) <= cells
            assert len(bindings) > cells // 2
            corners = [{"batch": batch, "seq": seq} for batch in (1, 64) for seq in (1, 512)]
            assert all(corner in bindings for corner in corners)
            assert plot.x.symbol == "seq"  # the longer one

    def test_a_map_for_every_two_and_profile(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", shape=("a", "b", "c", 4))
        three = spec(path, *(Profile.of({"a": (1, 2, 8), "b": (1, 3, 8), "c": (1, 4, 8)}) for _ in range(2)))
        found = plots(three, (), {}, 600)
        assert [(plot.profile, *sorted(axis.symbol for axis in (plot.x, plot.y) if axis)) for plot in found] == [
            (number, *pair) for number in (0, 1) for pair in (("a", "b"), ("a", "c"), ("b", "c"))
        ]
        assert [plot.fixed for plot in found[:3]] == [{"c": 4}, {"b": 3}, {"a": 2}]
        assert sum(len(list(plot.bindings)) for plot in found) <= 600
        (one,) = plots(three, ("b",), {"a": 5}, 8)[:1]
        assert (one.x.symbol, one.y, one.fixed) == ("b", None, {"a": 5, "c": 4})

    def test_profiles_that_do_not_admit_a_size_are_left_out(self, model: Path) -> None:
        two = spec(model, *(Profile.of({"batch": sizes, "seq": 8}) for sizes in ((1, 2, 4), (4, 8, 16))))
        assert [plot.profile for plot in plots(two, (), {"batch": 16}, 10)] == [1]
        assert [list(plot.bindings) for plot in plots(two, (), {"batch": 4}, 10)] == [[{"batch": 4, "seq": 8}]] * 2
        with pytest.raises(SpecError, match="batch=17 lies outside every profile"):
            plots(two, (), {"batch": 17}, 10)

    def test_what_is_refused(self, model: Path) -> None:
        two = spec(model, Profile.of({"batch": (1, 8, 64), "seq": (1, 128, 512)}))
        with pytest.raises(SpecError, match="no dimension 'sequence'"):
            plots(two, ("sequence",), {}, 100)
        with pytest.raises(SpecError, match="its corners are four"):
            plots(two, (), {}, 3)
        with pytest.raises(SpecError, match="no dimension varies"):
            plots(spec(model, Profile.of({"batch": 1, "seq": 8})), (), {}, 100)


class TestShapes:
    def test_an_honest_backend(self, trt: Trt, model: Path) -> None:
        done = trt("shapes", model, *PROFILE, "--backend", "onnxruntime", "--json")
        assert (done.code, done.json["exit_code"]) == (0, 0)
        (found,) = done.json["maps"]
        assert len(found["spots"]) == 4 * 25
        assert {spot["verdict"] for spot in found["spots"]} == {"within"}
        assert Path(done.json["picture"]) == Path(".trt-harness/shapes/two-fp32-onnxruntime.svg")

    def test_a_wrong_region_is_seen(self, trt: Trt, model: Path, tmp_path: Path) -> None:
        file = tmp_path / "deep" / "map.svg"
        asked = ("shapes", model, *PROFILE, *FAKE, "fake:wrong_above=seq:20", "--picture", file)
        done = trt(*asked, "--json")
        assert done.code == 1
        (found,) = done.json["maps"]
        off = {(spot["sizes"]["batch"], spot["sizes"]["seq"]) for spot in found["spots"] if spot["verdict"] == "off"}
        assert off == {(batch, seq) for batch in range(1, 5) for seq in range(21, 33)}
        assert found["region"] == {"batch": [1, 4], "seq": [21, 32]}
        picture = file.read_text()
        assert picture.count('fill="#cb181d" stroke="#bbbbbb"><title>') == len(off)
        assert "batch=1 seq=21: off, " in picture
        assert "batch=1 seq=20: within, " in picture

    def test_for_people(self, trt: Trt, model: Path) -> None:
        done = trt("shapes", model, *PROFILE, *FAKE, "fake:wrong_above=seq:20")
        assert done.code == 1
        rows = [line for line in done.out.splitlines() if "█" in line and line.strip()[0].isdigit()]
        assert [row.split()[0] for row in rows] == ["4", "3", "2", "1"]
        assert len({row.index("█") for row in rows}) == 1
        assert "48 fail: all with batch 1 to 4, seq 21 to 32" in done.out
        assert "the smallest shape that fails: two at fp32 on fake:wrong_above=seq:20, batch=1 seq=21" in done.out

    def test_the_command_that_repeats_one(self, trt: Trt, model: Path) -> None:
        done = trt("shapes", model, *PROFILE, *FAKE, "fake:wrong_above=seq:20", "--json")
        spot = next(spot for spot in done.json["maps"][0]["spots"] if spot["verdict"] == "off")
        command = shlex.split(spot["message"].splitlines()[-1].removeprefix("  repeat"))
        assert command[0] == "trt-harness"
        again = trt(*command[1:], "--json")
        assert again.code == 1
        assert [one["sizes"] for one in again.json["maps"][0]["spots"]] == [spot["sizes"]]

    def test_what_is_wrong_in_another_way(self, trt: Trt, model: Path) -> None:
        done = trt("shapes", model, *PROFILE, *FAKE, "fake:nan", "--cells", "4", "--json")
        assert done.code == 1
        assert {(s["verdict"], s["excess"]) for s in done.json["maps"][0]["spots"]} == {("wrong", "inf")}
        assert "not finite" in done.json["maps"][0]["spots"][0]["why"]

    def test_a_crash_is_one_shape(self, trt: Trt, model: Path) -> None:
        done = trt("shapes", model, *PROFILE, "--backend", "fake:crash_run", "--cells", "4", "--json")
        assert done.code == 1
        spots = done.json["maps"][0]["spots"]
        assert len(spots) == 4
        assert all("SIGSEGV" in spot["why"] + spot["message"] for spot in spots)

    def test_relations_are_kept(self, trt: Trt, model: Path, tmp_path: Path) -> None:
        (tmp_path / "own.toml").write_text(
            f'model = "{model.name}"\nrelations = ["seq >= 8 * batch"]\n'
            '[[profiles]]\ndims = { batch = "1:2:4", seq = "8:16:32" }\n'
        )
        done = trt("shapes", tmp_path / "own.toml", "--backend", "onnxruntime", "--json")
        assert done.code == 0
        for spot in done.json["maps"][0]["spots"]:
            fits = spot["sizes"]["seq"] >= 8 * spot["sizes"]["batch"]
            assert spot["verdict"] == ("within" if fits else "not asked")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--over", "batch,seq,batch"), "one dimension or two"),
            (("--over", "sq"), "did you mean 'seq'"),
            (("--at", "seq"), "write DIM=SIZE"),
            (("--at", "seq=99"), "outside every profile"),
            (("--cells", "2"), "its corners are four"),
        ],
    )
    def test_bad_requests(self, trt: Trt, model: Path, arguments: tuple[str, ...], said: str) -> None:
        done = trt("shapes", model, *PROFILE, *arguments, "--backend", "onnxruntime")
        assert done.code == 2
        assert said in done.err

    def test_not_covered(self, trt: Trt, model: Path) -> None:
        assert trt("shapes", model, *PROFILE, *FAKE, "fake:needs_gpu").code == 3

    def test_inputs_of_ones_own(self, trt: Trt, model: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", x=np.ones((2, 8, 4), np.float32))
        (tmp_path / "own.toml").write_text(
            f'model = "{model.name}"\ndata = "x.npz"\n[[profiles]]\ndims = {{ batch = "1:2:4", seq = "8:16:32" }}\n'
        )
        done = trt("shapes", tmp_path / "own.toml")
        assert done.code == 2
        assert "asked in one way only" in done.err
