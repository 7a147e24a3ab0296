"""``inspect`` and ``diff``: what is shown of engines, and when two are the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.cli.output import shown
from tests.cli.conftest import Trt

FAKE = ("--in-process", "--backend", "fake")
ORT = ("--backend", "onnxruntime")
EVIL = "evil [bold red]\x1b[31m\nname"  # markup, a terminal's command, and another line


def model(path: Path, *, name: str = "relu", nodes: int = 1, wide: int = 4, operator: str = "Relu") -> Path:
    """``y = relu(x @ w + b)``, x [batch, 4], with ``nodes`` times ``operator`` behind it."""
    x, y = (
        helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", size])
        for tensor, size in (("x", 4), ("y", wide))
    )
    ends = ["s", *(f"r{number}" for number in range(nodes - 1)), "y"]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "b"], ["s"], name="bias"),
            *(
                helper.make_node(operator, [before], [after], name=f"{name}{number or ''}")
                for number, (before, after) in enumerate(itertools.pairwise(ends))
            ),
        ],
        "g",
        [x],
        [y],
        [
            numpy_helper.from_array(np.ones((4, wide), np.float32), "w"),
            numpy_helper.from_array(np.ones(wide, np.float32), "b"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


PROFILE = ("--profile", "batch=1:2:8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return model(tmp_path / "own.onnx")


def plan(trt: Trt, model: Path, name: str, *options: str) -> Path:
    done = trt("build", model, "-o", name, *PROFILE, *FAKE, *options)
    assert done.code == 0, done.err
    return Path(name)


class TestInspect:
    def test_a_model_on_onnxruntime(self, trt: Trt, own: Path) -> None:
        done = trt("inspect", own, *PROFILE, *ORT)
        assert done.code == 0
        (row,) = [line.split("  ") for line in done.out.splitlines() if "product, bias, relu" in line]
        cells = [cell.strip() for cell in row if cell.strip()]
        assert cells[1:7] == ["FusedGemm", "com.microsoft.FusedGemm", "float32", "float32[2, 4]", "float32[2, 4]", "80"]
        assert "own at fp32 on onnxruntime" in done.out
        for name, figure in (("layers", "1"), ("fused", "1"), ("reformats", "0"), ("weights", "80 bytes")):
            assert any(line.split() == [name, *figure.split()] for line in done.out.splitlines()), name
        assert "tactic" not in done.out, "a column that nobody fills"
        assert "plan" not in done.out, "its plans hold no engine"

    def test_json(self, trt: Trt, own: Path) -> None:
        done = trt("inspect", own, *PROFILE, *FAKE, "--json")
        found = done.json
        assert (found["exit_code"], found["engine"], found["detailed"]) == (0, "own at fp32 on fake", True)
        assert [layer["name"] for layer in found["layers"]] == ["product", "bias", "relu"]
        assert found["layers"][0].pop("tactic").startswith("0x")
        assert found["layers"][0] == {
            "name": "product",
            "kind": "MatMul",
            "implementation": "MatMul",
            "precision": "float32",
            "inputs": [{"name": "x", "dtype": "float32", "shape": [2, 4], "format": ""}],
            "outputs": [{"name": "p", "dtype": "float32", "shape": [2, 4], "format": ""}],
            "weights": 64,
            "origins": ["product"],
            "traced": True,
            "reformat": False,
            "profile": 0,
            "fused": False,
        }
        assert found["counts"] == {"layers": 3, "fused": 0, "reformats": 0, "float32": 3}
        assert found["memory"]["weights"] == 80
        assert found["memory"]["plan"] > 80
        assert {kind["name"]: kind["weights"] for kind in found["kinds"]} == {"MatMul": 64, "Add": 16, "Relu": 0}
        assert [tensor["name"] for tensor in found["tensors"]] == ["x", "y"]

    def test_a_choice_of_layers_in_another_order(self, trt: Trt, tmp_path: Path) -> None:
        own = model(tmp_path / "own.onnx", nodes=3)
        ask = ("inspect", own, *PROFILE, *FAKE, "--json")

        def names(*options: str) -> list[str]:
            return [layer["name"] for layer in trt(*ask, *options).json["layers"]]

        assert names("--sort", "weights")[:2] == ["product", "bias"]
        assert names("--sort", "name") == ["bias", "product", "relu", "relu1", "relu2"]
        assert names("--layer", "relu?") == ["relu1", "relu2"]
        assert names("--layer", "prod", "--layer", "bias", "--sort", "name") == ["bias", "product"]
        found = trt(*ask, "--layer", "relu").json
        assert found["counts"]["layers"] == 5, "totals are the engine's"
        done = trt(*ask, "--layer", "conv")
        assert done.code == 2
        assert "none of the 5 layers has 'conv' in a name" in done.err
        done = trt(*ask, "--sort", "speed")
        assert done.code == 2
        assert "choose from order, name, kind" in done.err

    def test_a_plan_of_names_says_how_to_get_more(self, trt: Trt, own: Path) -> None:
        file = plan(trt, own, "names.plan")
        done = trt("inspect", file, *FAKE)
        assert done.code == 0
        assert [line.strip() for line in done.out.splitlines() if "product" in line] == ["product"]
        assert "names.plan on fake: tells no more of its layers than their names" in done.err
        assert "--build-option profiling_verbosity=DETAILED" in done.err
        told = trt("inspect", plan(trt, own, "all.plan", "--build-option", "profiling_verbosity=DETAILED"), *FAKE)
        assert "MatMul" in told.out
        assert "profiling_verbosity" not in told.err

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--precision", "fp16"),
            ("--precision", "fp32"),
            ("--build-option", "optimization_level=1"),
            ("--build-option", "flags=FP16"),
            ("--profile", "batch=1:2:8"),
        ],
    )
    def test_how_to_build_is_nothing_to_say_of_a_plan(self, trt: Trt, own: Path, option: str, value: str) -> None:
        done = trt("inspect", plan(trt, own, "a.plan"), *FAKE, option, value)
        assert done.code == 2
        assert f"a.plan: is a plan, which was built before: {option} {value} can't change it" in done.err

    def test_what_a_plan_is_loaded_with_is(self, trt: Trt, own: Path, tmp_path: Path) -> None:
        file = plan(trt, own, "a.plan", "--build-option", "flags=VERSION_COMPATIBLE")
        (tmp_path / "libmine.so").touch()
        loading = ("--build-option", "flags=VERSION_COMPATIBLE", "--build-option", "plugins=libmine.so")
        assert trt("inspect", file, *FAKE, *loading).code == 0
        assert trt("inspect", file, *FAKE).code == 1, "it brings code, and nobody has said that it may"

    def test_what_tells_of_no_layer_is_not_covered(self, trt: Trt, own: Path) -> None:
        done = trt("inspect", own, *PROFILE, *FAKE, "--build-option", "profiling_verbosity=NONE")
        assert done.code == 3
        assert "tells nothing of its layers" in done.err

    def test_where_it_can_not_be_loaded(self, trt: Trt, own: Path) -> None:
        done = trt("inspect", own, *PROFILE, "--in-process", "--backend", "fake:needs_gpu")
        assert done.code == 3
        assert "not covered here: fake deserialize: needs-gpu" in done.err
        done = trt("inspect", own, *PROFILE, "--in-process", "--backend", "fake:gibberish")
        assert done.code == 1
        assert "can't be read" in done.err

    def test_the_inspectors_own_words(self, trt: Trt, own: Path) -> None:
        assert trt("inspect", own, *PROFILE, *FAKE, "--raw", "to/raw.json").code == 0
        raw = json.loads(Path("to/raw.json").read_text())
        assert [layer["Metadata"] for layer in raw["Layers"]] == [
            f"[ONNX Layer: {name}]" for name in ("product", "bias", "relu")
        ]

    def test_names_do_nothing_to_the_terminal_and_are_whole(self, trt: Trt, tmp_path: Path) -> None:
        own = model(tmp_path / "own.onnx", name=EVIL + "x" * 300)
        done = trt("inspect", own, *PROFILE, *FAKE)
        assert done.code == 0
        assert "\x1b" not in done.out
        (row,) = [line for line in done.out.splitlines() if "evil" in line]
        assert r"evil [bold red]\x1b[31m\nname" + "x" * 300 + " " in row
        assert shown("é\u202e") == r"é\u202e"


class TestDiff:
    def test_an_engine_and_its_rebuild(self, trt: Trt, own: Path) -> None:
        done = trt("diff", own, *PROFILE, *ORT, "--rebuild")
        assert done.code == 0
        assert "they are the same" in done.out
        assert trt("diff", own, own, *PROFILE, *FAKE, "--rebuild", "--json").json["same"] is True

    def test_one_engine_is_no_pair(self, trt: Trt, own: Path) -> None:
        for command in (("diff", own), ("diff", own, own), ("diff", own, "--a-precision", "fp32")):
            done = trt(*command, *PROFILE, *ORT)
            assert done.code == 2
            assert "A and B are one engine" in done.err

    def test_two_models(self, trt: Trt, own: Path, tmp_path: Path) -> None:
        other = model(tmp_path / "other.onnx", wide=8, nodes=2)
        done = trt("diff", own, other, *PROFILE, *FAKE)
        assert done.code == 1
        assert "A: own at fp32 on fake\nB: other at fp32 on fake" in done.out
        assert done.out.rstrip().endswith("they differ: tactic 1, tensors 3, weights 2, only in B 1")
        rows = [line.split() for line in done.out.splitlines()]
        assert ["layers", "3", "4", "+1", "(+33.3%)"] in rows
        assert ["weights,", "bytes", "80", "160", "+80", "(+100.0%)"] in rows
        assert any(row[:2] == ["product", "weights"] and row[-3:] == ["bytes", "128", "bytes"] for row in rows)
        assert any(row[:4] == ["only", "in", "B", "relu1"] for row in rows)

    def test_two_precisions_of_one_model(self, trt: Trt, own: Path) -> None:
        done = trt("diff", own, *PROFILE, *ORT, "--b-precision", "fp16", "--json")
        assert (done.code, done.json["same"]) == (1, False)
        assert done.json["a"]["engine"] == "own at fp32 on onnxruntime"
        assert done.json["b"]["engine"] == "own at fp16 on onnxruntime"
        assert done.json["differences"]["fusion"] >= 1

    def test_two_backends(self, trt: Trt, own: Path) -> None:
        """Matched by origin: what is fused on one side is in parts on the other."""
        done = trt("diff", own, *PROFILE, "--in-process", "--a-backend", "onnxruntime", "--b-backend", "fake", "--json")
        (changed,) = done.json["changed"]
        assert changed["by"] == "origin"
        (fusion,) = [change for change in changed["changes"] if change["what"] == "fusion"]
        assert (fusion["before"], fusion["after"]) == ("product + bias + relu", "product | bias | relu")
        assert (done.code, done.json["only_a"], done.json["only_b"]) == (1, [], [])

    @pytest.mark.parametrize(
        "option", [("--precision", "fp16"), ("--build-option", "aux_streams=1"), ("--profile", "batch=1:2:3")]
    )
    def test_a_plan_is_what_it_was_built(self, trt: Trt, own: Path, option: tuple[str, str]) -> None:
        """What can't change it is refused, but for what is said of both sides where the other one is built."""
        file = plan(trt, own, "old.plan")
        own_side = (f"--a{option[0][1:]}", option[1])
        refused = [("inspect", file, *option), ("diff", file, file, "--rebuild", *option)]
        if option[0] != "--profile":
            refused.append(("diff", file, own, *PROFILE, *own_side))
        for command in refused:
            done = trt(*command, *FAKE)
            assert done.code == 2, command
            assert f"old.plan: is a plan, which was built before: {' '.join(command[-2:])} can't change it" in done.err
        told = trt("diff", file, own, *(() if option[0] in PROFILE else PROFILE), *option, *FAKE)
        assert told.code in (0, 1), told.err

    def test_a_plan_with_what_would_be_built_now(self, trt: Trt, own: Path, tmp_path: Path) -> None:
        file = plan(trt, own, "old.plan", "--build-option", "profiling_verbosity=DETAILED")
        assert trt("diff", file, own, *PROFILE, *FAKE).code == 0
        model(tmp_path / "own.onnx", operator="Sigmoid")
        done = trt("diff", file, own, *PROFILE, *FAKE)
        assert done.code == 1
        assert "they differ: kind 1" in done.out

    def test_how_to_build_is_nothing_to_say_of_a_plan(self, trt: Trt, own: Path) -> None:
        one, other = (plan(trt, own, name) for name in ("one.plan", "other.plan"))
        for said, wrong in (
            (
                (one, own, *PROFILE, "--a-precision", "fp16"),
                "one.plan: is a plan, which was built before: --a-precision fp16",
            ),
            (
                (own, one, *PROFILE, "--b-build-option", "workspace=1MiB"),
                "one.plan: is a plan, which was built before: --b-build-option workspace=1MiB",
            ),
            ((one, other, "--precision", "fp16"), "one.plan: is a plan, which was built before: --precision fp16"),
            ((one, other, *PROFILE), "one.plan: is a plan, which was built before: --profile batch=1:2:8"),
            ((one, "--rebuild"), "one.plan: is a plan, which was built before: --rebuild"),
        ):
            done = trt("diff", *said, *FAKE)
            assert (done.code, f"{wrong} can't change it" in done.err) == (2, True), done.err
        assert trt("diff", one, own, *PROFILE, *FAKE, "--precision", "fp32").code == 0, (
            "it is for the one that is built"
        )
        assert trt("diff", one, other, *FAKE).code == 0

    def test_options_of_both_and_of_one(self, trt: Trt, own: Path) -> None:
        """B's own option holds, and the one of both where it has none."""
        ask = ("diff", own, *PROFILE, *FAKE, "--build-option", "profiling_verbosity=LAYER_NAMES_ONLY")
        done = trt(*ask, "--b-build-option", "profiling_verbosity=DETAILED", "--json")
        assert (done.json["a"]["detailed"], done.json["b"]["detailed"]) == (False, True)
        assert (done.code, done.json["same"]) == (0, True), "what one does not tell is no difference"
        shown_ = trt(*ask, "--b-build-option", "profiling_verbosity=DETAILED")
        assert "they are the same as far as they are told" in shown_.out
        assert "tells no more of its layers than their names" in shown_.err
        done = trt(*ask, "--a-build-option", "no_such=1")
        assert done.code == 2
        assert "no_such" in done.err

    def test_nothing_is_told(self, trt: Trt, own: Path) -> None:
        done = trt("diff", own, *PROFILE, *FAKE, "--b-build-option", "profiling_verbosity=NONE")
        assert done.code == 3
        assert "tells nothing of its layers" in done.err

    def test_names_do_nothing_to_the_terminal(self, trt: Trt, tmp_path: Path) -> None:
        one, other = (
            model(tmp_path / "one.onnx", name=EVIL),
            model(tmp_path / "other.onnx", name=f"{EVIL}2", operator="Exp"),
        )
        done = trt("diff", one, other, *PROFILE, *FAKE)
        assert done.code == 1
        assert "\x1b" not in done.out
        assert r"evil [bold red]\x1b[31m\nname" in done.out
