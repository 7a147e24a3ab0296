"""What is asked: keys, admission of profiles, canonical JSON, model files good and bad."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import SpecError
from harness.spec import (
    BuildConfig,
    EngineSpec,
    InputRule,
    Interface,
    ModelSpec,
    NetworkFunction,
    OnnxFile,
    OnnxFunction,
    PlanFile,
    Profile,
    Range,
    TensorSpec,
    Values,
    admit,
    interface,
    recipe,
)
from harness.spec.canonical import canonical_json, digest
from harness.spec.cell import Cell
from harness.spec.onnx_model import files_of, load, save, validate
from harness.spec.size import parse_size
from harness.spec.source import _source, exported, producer
from tests.spec.onnx_files import edit, linear, move_external

PROFILE = Profile.of({"batch": (1, 2, 4)})


def spec_of(path: Path, **changes: object) -> EngineSpec:
    model = ModelSpec("linear", OnnxFile(path), (PROFILE,))
    return dataclasses.replace(EngineSpec.of(model, recipe("fp32")), **changes)  # type: ignore[arg-type]


class TestKey:
    def test_weights_alone_change_it(self, tmp_path: Path) -> None:
        weights = np.ones((4, 3), np.float32)
        first = linear(tmp_path / "a.onnx", weights=weights)
        weights[0, 0] = np.nextafter(np.float32(1), np.float32(2))
        second = linear(tmp_path / "b.onnx", weights=weights)
        assert first.stat().st_size == second.stat().st_size
        assert spec_of(first).key != spec_of(second).key

    def test_external_data_alone_changes_it(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", external="weights.bin")
        before = spec_of(path).key
        data = tmp_path / "weights.bin"
        data.write_bytes(b"\x01" + data.read_bytes()[1:])
        assert spec_of(path).key != before

    def test_a_file_that_changes_within_a_tick_of_the_clock_is_read_again(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        now = time.time_ns() + 10**9  # which it will be for a while
        keys = set()
        for byte in (b"\x01", b"\x02"):
            path.write_bytes(path.read_bytes()[:-1] + byte)
            os.utime(path, ns=(now, now))
            keys.add(OnnxFile(path).digest())
        assert len(keys) == 2

    def test_moving_and_naming_do_not_change_it(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", external="weights.bin")
        spec = spec_of(path)
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        shutil.copy(path, folder / "other.onnx")
        shutil.copy(tmp_path / "weights.bin", folder)
        model = ModelSpec(
            "renamed",
            OnnxFile(folder / "other.onnx"),
            (PROFILE,),
            inputs=(InputRule("x", "uniform", -1, 1),),
            size="full",
            tags=("moved",),
            batch="batch",
            origin="a.toml",
        )
        assert EngineSpec.of(model, recipe("fp32")).key == spec.key

    @pytest.mark.parametrize(
        "changes",
        [
            {"precision": recipe("fp16")},
            {"precision": recipe("fp16-weak")},
            {"profiles": (Profile.of({"batch": (1, 2, 5)}),)},
            {"profiles": (Profile.of({"batch": (1, 3, 4)}),)},
            {"profiles": (PROFILE, PROFILE)},
            {"config": BuildConfig(flags=("TF32",))},
            {"config": BuildConfig(workspace=1 << 20)},
            {"config": BuildConfig(optimization_level=0)},
            {"config": BuildConfig(tactic_sources=())},
            {"config": BuildConfig(aux_streams=0)},
            {"config": BuildConfig(hardware_compatibility="AMPERE_PLUS")},
            {"config": BuildConfig(profiling_verbosity="DETAILED")},
            {"config": BuildConfig(targets=("SM89",))},
        ],
        ids=str,
    )
    def test_everything_asked_of_the_builder_changes_it(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        path = linear(tmp_path / "a.onnx")
        assert spec_of(path, **changes).key != spec_of(path).key

    def test_every_build_option_counts(self, tmp_path: Path) -> None:
        """A field added to BuildConfig that did not reach the key would serve stale plans."""
        (tmp_path / "lib.so").write_bytes(b"1")
        other: dict[str, Any] = {"plugins": (str(tmp_path / "lib.so"),), "tactic_sources": ("X",), "workspace": 1}
        path = linear(tmp_path / "a.onnx")
        keys = {spec_of(path).key}
        fields = dataclasses.fields(BuildConfig)
        for field in fields:
            value = other.get(field.name, ("X",) if field.default == () else "X")
            keys.add(spec_of(path, config=dataclasses.replace(BuildConfig(), **{field.name: value})).key)
        assert len(keys) == 1 + len(fields)

    def test_plugin_library_counts_by_its_bytes(self, tmp_path: Path) -> None:
        path, library = linear(tmp_path / "a.onnx"), tmp_path / "lib.so"
        library.write_bytes(b"old")
        config = BuildConfig(plugins=(str(library),))
        before = spec_of(path, config=config).key
        library.write_bytes(b"new")
        assert spec_of(path, config=config).key != before
        library.unlink()
        with pytest.raises(SpecError, match=r"plugin library '.*lib\.so': no such file"):
            spec_of(path, config=config).key  # noqa: B018

    def test_network_counts_by_target_version_and_source(self, tmp_path: Path) -> None:
        (tmp_path / "nets.py").write_text("def f(network, logger): ...\n")
        source = NetworkFunction("nets:f", tmp_path)
        before = {source.digest(), NetworkFunction("nets:g", tmp_path).digest()}
        before.add(NetworkFunction("nets:f", tmp_path, version="2").digest())
        assert len(before) == 3
        (tmp_path / "nets.py").write_text("def f(network, logger): return None\n")
        assert source.digest() not in before

    def test_plan_and_model_of_equal_bytes_differ(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        plan = ModelSpec("linear", PlanFile(path), (PROFILE,))
        assert EngineSpec.of(plan, recipe("fp32")).key != spec_of(path).key

    def test_plan_key_depends_on_both(self, tmp_path: Path) -> None:
        spec, other = spec_of(linear(tmp_path / "a.onnx")), spec_of(tmp_path / "a.onnx", precision=recipe("tf32"))
        assert len({spec.plan_key("a"), spec.plan_key("b"), other.plan_key("a"), spec.key}) == 4

    def test_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        spec = spec_of(linear(tmp_path / "a.onnx"))
        program = (
            "from pathlib import Path; from harness.spec import *;"
            f"m = ModelSpec('linear', OnnxFile(Path({str(tmp_path / 'a.onnx')!r})), "
            "(Profile.of({'batch': (1, 2, 4)}),)); print(EngineSpec.of(m, recipe('fp32')).key)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == spec.key

    def test_specs_are_hashable_and_equal_by_value(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        assert len({spec_of(path), spec_of(path)}) == 1


class TestCanonical:
    def test_order_and_containers_do_not_matter(self) -> None:
        assert canonical_json({"b": (1, 2), "a": {3, 1}}) == canonical_json({"a": [1, 3], "b": [1, 2]})
        assert canonical_json({"b": 1, "a": None}) == '{"a":null,"b":1}'

    def test_fields_that_are_no_identity_are_left_out(self) -> None:
        source = OnnxFunction("m", onnx.ModelProto)
        assert digest(ModelSpec("m", source, origin="x")) == digest(ModelSpec("m", source, origin="y"))

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_what_json_cannot_spell_is_refused(self, number: float) -> None:
        with pytest.raises(ValueError, match="JSON"):
            canonical_json({"a": number})


class TestRange:
    def test_parse(self) -> None:
        assert Range.parse("1:8:32") == Range(1, 8, 32)
        assert Range.parse("8") == Range(8, 8, 8)

    @pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "a", "-1", "1:x:3", "²", "1.5"])
    def test_parse_refuses(self, text: str) -> None:
        with pytest.raises(SpecError, match="is not a range: write min:opt:max"):
            Range.parse(text)

    def test_profile_of_refuses_a_pair(self) -> None:
        with pytest.raises(SpecError, match=r"'batch': \(1, 2\) is not \(min, opt, max\)"):
            Profile.of({"batch": (1, 2)})  # type: ignore[dict-item]

    def test_profile_points(self) -> None:
        profile = Profile.of({"batch": (1, 8, 32), "seq": 16}, {"size": Values((1,), (2,), (3,))})
        assert profile.binding("opt") == {"batch": 8, "seq": 16}
        assert profile.contents("max") == {"size": (3,)}
        assert profile.admits({"batch": 32, "seq": 16})
        assert not profile.admits({"batch": 33, "seq": 16})
        assert not profile.admits({"batch": 8})
        assert not profile.is_static
        assert Profile.of({"seq": 16}).is_static


BERT = Interface(
    (
        TensorSpec("ids", "int64", ("batch", "seq")),
        TensorSpec("mask", "float32", ("batch", "past+seq")),
        TensorSpec("image", "float32", (1, 3, "image:2", 224)),
        TensorSpec("size", "int64", (2,)),
    ),
    (),
)
FULL: dict[str, tuple[int, int, int]] = {
    "batch": (1, 2, 4),
    "seq": (1, 8, 16),
    "past": (0, 8, 16),
    "image:2": (8, 16, 32),
}


class TestAdmit:
    def test_axis_becomes_the_symbol_that_stands_there(self) -> None:
        ranges: dict[str, Any] = {
            "ids:0": (1, 2, 4),
            "ids:-1": (1, 8, 16),
            "past": (0, 8, 16),
            "image:2": (8, 16, 32),
            "image:3": 224,
        }
        assert admit("bert", Profile.of(ranges), BERT) == Profile.of(FULL)

    @pytest.mark.parametrize(
        ("changes", "parts"),
        [
            ({"batch": (8, 8, 1)}, ("bert", "'batch'", "empty range", "8", "1")),
            ({"batch": (1, 40, 32)}, ("bert", "'batch'", "opt 40", "1 to 32")),
            ({"batch": (-1, 1, 1)}, ("bert", "'batch'", "min -1", "below 0")),
            ({"batch": None}, ("bert", "'ids'", "[batch, seq]", "no range for 'batch'", "--profile batch=1:8:32")),
            (
                {"image:2": None},
                ("'image'", "give one", "--profile image:2=1:8:32 of", 'dims = { "image:2" = "1:8:32" }'),
            ),
            (
                {"batch": None, "seq": None},
                ("no range for 'batch', 'seq'", "give each one", 'dims = { batch = "1:8:32", seq = "1:8:32" }'),
            ),
            ({"past": None}, ("bert", "'mask'", "[batch, past+seq]", "no range for 'past'")),
            ({"bach": 1}, ("bert", "'bach'", "dynamic dimensions: batch, image:2, past, seq")),
            (
                {"image:0": (1, 8, 32)},
                ("bert", "'image'", "axis 0", "fixed to 1", "1:8:32", "export again with dynamic axes"),
            ),
            ({"image:7": 1}, ("bert", "'image'", "[1, 3, image:2, 224]", "no axis 7")),
            ({"mask:1": 4}, ("bert", "'mask'", "'past+seq'", "each of its symbols")),
            ({"ids:0": (1, 2, 8)}, ("bert", "'batch'", "1:2:4", "1:2:8")),
            ({"ids:--1": 1}, ("bert", "'ids:--1'")),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_refusals_name_model_tensor_dimension_values_and_fix(
        self, changes: dict[str, tuple[int, int, int] | None], parts: tuple[str, ...]
    ) -> None:
        ranges: dict[str, Any] = {key: value for key, value in {**FULL, **changes}.items() if value is not None}
        with pytest.raises(SpecError) as caught:
            admit("bert", Profile.of(ranges), BERT)
        for part in parts:
            assert part in str(caught.value)

    def test_exported_without_dynamic_dimensions(self) -> None:
        fixed = Interface((TensorSpec("x", "float32", (1, 4)),), ())
        with pytest.raises(SpecError, match=r"no input has a dimension 'batch': .*x \[1, 4\].*export again"):
            admit("linear", PROFILE, fixed)

    @pytest.mark.parametrize(
        ("tensor", "values", "message"),
        [
            ("sizes", Values((1,), (1,), (1,)), "'sizes', which is no input; inputs: ids, mask, image, size"),
            ("size", Values((1, 1), (2,), (3, 3)), "'size' .* hold 2, 1, 2 numbers: give 2 to each"),
            ("size", Values((1,), (2,), (3,)), "'size' .* hold 1, 1, 1 numbers: give 2 to each"),
            ("size", Values((1, 9), (2, 2), (3, 3)), r"'size\[1\]': empty range: min 9 is above max 3"),
            ("size", Values((1, 1), (2, 9), (3, 3)), r"'size\[1\]': opt 9 lies outside 1 to 3"),
            ("mask", Values((1,), (2,), (3,)), "'mask' .*only a scalar or a vector of integers"),
        ],
        ids=["unknown", "uneven", "count", "empty", "opt", "type"],
    )
    def test_values_of_shape_tensors(self, tensor: str, values: Values, message: str) -> None:
        with pytest.raises(SpecError, match=f"^bert: .*{message}"):
            admit("bert", Profile.of(FULL, {tensor: values}), BERT)

    def test_values_may_be_negative(self) -> None:
        profile = Profile.of(FULL, {"size": Values((-1, 1), (-1, 2), (-1, 3))})
        assert admit("bert", profile, BERT) == profile


class TestFiles:
    def test_interface(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", shape=("batch", None, 4))
        assert interface(path) == Interface(
            (TensorSpec("x", "float32", ("batch", "x:1", 4)),), (TensorSpec("y", "float32", ("batch", "y:1", 3)),)
        )

    def test_sums_and_negative_sizes_are_dynamic(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", shape=(-1, "past + seq", 4))
        (tensor,) = interface(path).inputs
        assert tensor.shape == ("x:0", "past+seq", 4)
        assert tensor.resolve({"x:0": 2, "past": 3, "seq": 5}) == (2, 8, 4)

    def test_weights_listed_as_inputs_are_none(self, tmp_path: Path) -> None:
        def list_weights(model: onnx.ModelProto) -> None:
            model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))

        path = edit(linear(tmp_path / "a.onnx"), list_weights)
        assert [tensor.name for tensor in interface(path).inputs] == ["x"]

    def test_interface_follows_the_file(self, tmp_path: Path) -> None:
        assert interface(linear(tmp_path / "a.onnx")).inputs[0].shape == ("batch", 4)
        assert interface(linear(tmp_path / "a.onnx", shape=(7, 4))).inputs[0].shape == (7, 4)

    @pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04" + bytes(100), bytes(64)], ids=repr)
    def test_not_onnx(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.onnx"
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"a\.onnx: not an ONNX model"):
            load(path)

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            with pytest.raises(SpecError, match="not an ONNX model"):
                load(path)

    def test_missing_and_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"b\.onnx: no such file"):
            load(tmp_path / "b.onnx")
        with pytest.raises(SpecError, match=r"b\.onnx: no such file"):
            OnnxFile(tmp_path / "b.onnx").digest()
        with pytest.raises(SpecError, match="can't be read: Is a directory"):
            load(tmp_path)

    @pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin"])
    def test_escaping_external_data(self, tmp_path: Path, location: str) -> None:
        path = linear(tmp_path / "m" / "a.onnx", external="weights.bin")
        (tmp_path / "weights.bin").write_bytes((tmp_path / "m" / "weights.bin").read_bytes())
        with pytest.raises(SpecError, match="external data of 'w' lies outside the model's folder"):
            load(move_external(path, location))

    def test_symlink_out_of_the_folder_escapes_too(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "m" / "a.onnx", external="weights.bin")
        (tmp_path / "m" / "weights.bin").rename(tmp_path / "weights.bin")
        (tmp_path / "m" / "weights.bin").symlink_to(tmp_path / "weights.bin")
        with pytest.raises(SpecError, match="lies outside the model's folder"):
            load(path)

    def test_missing_and_short_external_data(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", external="weights.bin")
        data = tmp_path / "weights.bin"
        data.write_bytes(data.read_bytes()[:-1])
        with pytest.raises(SpecError, match=r"'w' is cut short: 'weights\.bin' holds 47 bytes, the model needs 48"):
            load(path)
        data.unlink()
        with pytest.raises(SpecError, match=r"'w' is missing: 'weights\.bin' is not beside the model"):
            load(path)

    def test_external_data_inside_subgraphs_is_seen(self, tmp_path: Path) -> None:
        def bury(model: onnx.ModelProto) -> None:
            inner = helper.make_graph([], "inner", [], [], [model.graph.initializer[0]])
            model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
            del model.graph.initializer[:]

        path = edit(linear(tmp_path / "a.onnx", external="weights.bin"), bury)
        assert files_of(path) == [path, tmp_path / "weights.bin"]

    def test_weights_are_loaded_when_asked(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx", external="weights.bin")
        weights = numpy_helper.to_array(load(path, weights=True).graph.initializer[0])
        assert weights.shape == (4, 3)

    def test_validate(self, tmp_path: Path) -> None:
        validate(linear(tmp_path / "good.onnx", external="good.bin"))
        validate(linear(tmp_path / "plugin.onnx", operator="MyPlugin_TRT"))
        dangling = edit(linear(tmp_path / "a.onnx"), lambda model: model.graph.input.pop())
        with pytest.raises(SpecError, match=r"a\.onnx: not a valid ONNX model: .*\bx\b"):
            validate(dangling)

        silent = edit(linear(tmp_path / "b.onnx"), lambda model: model.graph.output.pop())
        with pytest.raises(SpecError, match="it declares no outputs"):
            validate(silent)

    def test_rankless_input_and_other_types(self, tmp_path: Path) -> None:
        path = edit(
            linear(tmp_path / "a.onnx"), lambda model: model.graph.input[0].type.tensor_type.ClearField("shape")
        )
        with pytest.raises(SpecError, match="input 'x' is declared without a rank"):
            interface(path)
        sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1])
        path = edit(linear(tmp_path / "b.onnx"), lambda model: model.graph.input[0].CopyFrom(sequence))
        with pytest.raises(SpecError, match=r"'x' must be a tensor .* declared as sequence_type"):
            interface(path)

    def test_large_models_keep_their_weights_beside_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        big = onnx.load(str(linear(tmp_path / "small.onnx", weights=np.ones((4, 300), np.float32))))
        monkeypatch.setattr("harness.spec.onnx_model.EXTERNAL_FROM", 1024)
        save(big, tmp_path / "big.onnx")
        assert files_of(tmp_path / "big.onnx") == [tmp_path / "big.onnx", tmp_path / "big.onnx.data"]


class TestExport:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.spec.source.export_folder", lambda: tmp_path)

    def test_is_built_once(self, tmp_path: Path) -> None:
        model = onnx.load(str(linear(tmp_path / "seed.onnx")))
        calls: list[int] = []

        def build() -> onnx.ModelProto:
            calls.append(1)
            return model

        assert exported("m", build) == exported("m", build) == tmp_path / "m" / "model.onnx"
        assert len(calls) == 1

    def test_a_kept_folder_does_not_serve_what_another_source_built(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = onnx.load(str(linear(tmp_path / "first.onnx")))
        second = onnx.load(str(linear(tmp_path / "second.onnx", weights=np.ones((4, 3), np.float32))))
        package = tmp_path / "zoo"
        package.mkdir()
        for name in ("__init__", "blocks", "net"):
            (package / f"{name}.py").write_text("def build(made):\n    return made\n")
        monkeypatch.syspath_prepend(tmp_path)

        def path(made: onnx.ModelProto) -> Path:
            for name in [name for name in sys.modules if name.partition(".")[0] == "zoo"]:
                monkeypatch.delitem(sys.modules, name)
            _source.cache_clear()  # as in a new process
            build = importlib.import_module("zoo.net").build
            return OnnxFunction("m", functools.partial(build, made)).path()

        before = path(first)
        assert path(second) == before, "the same source is taken to build the same"
        (package / "blocks.py").write_text("def build(made):\n    return None\n")
        after = path(second)
        assert after != before
        assert after.read_bytes() == second.SerializeToString()
        assert before.parent.parent == after.parent.parent == tmp_path

    def test_what_a_function_is_bound_to_is_part_of_it(self) -> None:
        def build(width: int) -> Callable[[], onnx.ModelProto]:
            def again() -> onnx.ModelProto:
                assert width
                return again()

            return again

        assert producer(build(2)) == producer(build(2))
        assert producer(build(2)) != producer(build(3))
        assert producer(functools.partial(build, 2)) != producer(functools.partial(build, width=3))

    def test_the_loser_of_a_race_takes_the_winners(self, tmp_path: Path) -> None:
        model = onnx.load(str(linear(tmp_path / "seed.onnx")))
        winner: list[Path] = []

        def build() -> onnx.ModelProto:
            if not winner:
                winner.append(tmp_path)  # another process finishes while this one builds
                exported("m", build)
            return model

        assert exported("m", build).read_bytes() == (tmp_path / "seed.onnx").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "seed.onnx"]

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path) -> None:
        def build() -> onnx.ModelProto:
            raise ArithmeticError

        with pytest.raises(ArithmeticError):
            exported("m", build)
        assert list(tmp_path.iterdir()) == []


class TestNames:
    @pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "ä"])
    def test_models_have_names_that_ids_can_hold(self, name: str) -> None:
        with pytest.raises(SpecError, match="letters, digits and '_'"):
            ModelSpec(name, OnnxFile(Path("a")))
        with pytest.raises(SpecError, match="letters, digits and '_'"):
            ModelSpec("a", OnnxFile(Path("a")), size=name)

    def test_a_model_has_a_profile(self) -> None:
        with pytest.raises(SpecError, match="no profile"):
            ModelSpec("a", OnnxFile(Path("a")), profiles=())

    def test_cell_ids(self) -> None:
        cell = Cell("test_matches_oracle", "bert", "fp16", "", "opt", "tensorrt")
        assert cell.id == "test_matches_oracle[bert-fp16-opt-tensorrt]"
        assert not dataclasses.replace(cell, backend="tensorrt_rtx").params.startswith(cell.params)

    def test_recipes(self) -> None:
        with pytest.raises(SpecError, match="unknown precision 'fp15': choose from fp32, tf32, fp16, fp16-weak"):
            recipe("fp15")

    @pytest.mark.parametrize(
        ("text", "size"), [("2 GiB", 2 << 30), ("512mib", 512 << 20), ("1.5KB", 1500), (77, 77), ("8", 8)]
    )
    def test_sizes(self, text: str | int, size: int) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "GiB", "2 GB/s", "-1", "1e3", "2 XB", True, "٣"])
    def test_bad_sizes(self, text: str) -> None:
        with pytest.raises(SpecError, match="is not a size"):
            parse_size(text)


def test_import_is_light() -> None:
    """`harness.spec` and the catalog load no numpy and no onnx: thousands of cells are collected without."""
    program = "import sys, harness.spec, harness.spec.catalog_file; print({'numpy', 'onnx'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
