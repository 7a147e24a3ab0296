"""The inspector's JSON in the forms of all versions, read into values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.report.layers import ORDERS, Layer, Layers, Tensor, matching, read, totals

STRIDED = "Row major INT8 format where column stride % 64 == 0"  # for which TensorFormat has no name
DATA = Path(__file__).parents[1] / "data" / "inspector"


def told(name: str) -> dict[str, Any]:
    """An example, as the backend reads it."""
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(), strict=False)
    return found


def layers(name: str) -> dict[str, Layer]:
    return {layer.name: layer for layer in read(told(name)).layers}


class TestDetailed86:
    def test_a_fused_convolution(self) -> None:
        layer = layers("8.6-detailed")["stem/Conv + stem/Relu"]
        assert (layer.kind, layer.implementation, layer.precision) == ("Convolution", "CaskConvolution", "float16")
        assert layer.tactic.startswith("sm80_xmma_fprop_implicit_gemm_f16f16")
        assert layer.weights == 432 * 2 + 16 * 4
        assert (layer.origins, layer.traced, layer.fused) == (("stem/Conv", "stem/Relu"), True, True)
        assert layer.outputs == (Tensor("stem/Relu_out", "float16", (8, 16, 16, 16), "HWC8"),)
        assert str(layer.outputs[0]) == "float16[8, 16, 16, 16] HWC8"

    def test_what_the_engine_takes_and_gives(self) -> None:
        found = read(told("8.6-detailed"))
        assert found.detailed
        assert found.tensors[:2] == (Tensor("image"), Tensor("probabilities"))
        assert found.weights == 432 * 2 + 16 * 4 + 432 * 4

    def test_reformats_are_those_that_cost_time(self) -> None:
        found = read(told("8.6-detailed"))
        (reformat,) = found.reformats
        assert reformat.name == "Reformatting CopyNode for Input Tensor 0 to stem/Conv + stem/Relu"
        assert reformat.origins == ()
        assert (reformat.inputs[0].format, reformat.outputs[0].format) == ("", "HWC8")
        noop = layers("8.6-detailed")["Reformatting CopyNode for Input Tensor 0 to head/Flatten"]
        assert (noop.kind, noop.reformat, noop.outputs[0].format) == ("NoOp", False, "CHW2")

    def test_a_layer_without_metadata_has_the_origins_of_its_name(self) -> None:
        layer = layers("8.6-detailed")["PWN(PWN(gate/Sigmoid), gate/Mul)"]
        assert (layer.origins, layer.traced) == (("gate/Sigmoid", "gate/Mul"), False)
        assert layer.weights == 0
        assert layer.tactic == "0x0000000000000000"

    def test_what_was_compiled_as_one(self) -> None:
        layer = layers("8.6-detailed")["{ForeignNode[head/Flatten...head/Softmax]}"]
        assert layer.opaque
        assert layer.origins == ("head/Flatten", "head/MatMul", "head/Softmax")

    def test_layers_of_another_profile_and_what_varies(self) -> None:
        layer = layers("8.6-detailed")["stem/Conv + stem/Relu [profile 1]"]
        assert (layer.profile, layer.origins) == (1, ("stem/Conv", "stem/Relu"))
        assert layer.inputs == (Tensor("image [profile 1]", "", (-1, 3, 32, 32), ""),)
        assert layer.precision == "tf32", "float32 weights, and a kernel of TF32"


class TestNames:
    def test_names_alone(self) -> None:
        found = read(told("8.6-names"))
        assert not found.detailed
        assert [layer.origins for layer in found.layers] == [
            (),
            ("stem/Conv", "stem/Relu"),
            ("gate/Sigmoid", "gate/Mul"),
            (),
            ("(Unnamed Layer* 7) [Shuffle]",),
        ]
        assert [layer.reformat for layer in found.layers] == [True, False, False, False, False]
        assert {(layer.kind, layer.precision, layer.weights) for layer in found.layers} == {("", "", None)}
        assert found.weights is None

    @pytest.mark.parametrize(
        ("name", "origins"),
        [
            ("a + b [profile 2]", ("a", "b")),
            ("PWN(a, PWN(b + c, d))", ("a", "b", "c", "d")),
            ("PWN(a(1, 2), b) + c", ("a(1, 2)", "b", "c")),
            ("a + a", ("a",)),
            ("", ()),
        ],
    )
    def test_origins_in_a_name(self, name: str, origins: tuple[str, ...]) -> None:
        (layer,) = read({"Layers": [name]}).layers
        assert layer.origins == origins


class TestDetailed10:
    def test_what_a_compiler_generated(self) -> None:
        found = layers("10-detailed")
        assert [layer.kind for layer in found.values()] == ["wait", "kgen", "gemm", "kgen", "Convolution"]
        gemm = found["attn/q/MatMul_myl0_1"]
        assert gemm.origins == ("attn/q/MatMul", "attn/k/MatMul", "attn/v/MatMul")
        assert [tensor.dtype for tensor in gemm.inputs] == ["float16", "float16"]
        assert gemm.outputs[0].format == ""

    def test_metadata_without_anything_between(self) -> None:
        layer = layers("10-detailed")["_gemm_mha_v2_myl0_2"]
        assert layer.origins == ("attn/scores/MatMul", "attn/Softmax", "attn/mix/MatMul")

    def test_what_carries_no_metadata_came_from_nothing(self) -> None:
        layer = layers("10-detailed")["__mye1_wait"]
        assert (layer.origins, layer.precision, layer.weights) == ((), "", 0)

    def test_a_quantized_layer(self) -> None:
        layer = layers("10-detailed")["quantized"]
        assert (layer.precision, layer.weights) == ("int8", 1024 + 32 * 4)
        assert layer.inputs[0].format == "CHW32"
        assert layer.origins == ("conv.weight_QuantizeLinear", "/odd]name[0]")


class TestDetailed11:
    def test_inputs_and_outputs_are_objects(self) -> None:
        assert read(told("11-detailed")).tensors == (
            Tensor("image", "float16", (1, 3, 224, 224)),
            Tensor("ids", "int64", (-1,)),
            Tensor("scores", "float16", (-1, 64)),
        )

    def test_type_and_layout_are_told_apart(self) -> None:
        conv, gather = layers("11-detailed").values()
        assert conv.outputs == (Tensor("__mln_0", "float16", (1, 64, 112, 112), "HWC8"),)
        assert gather.inputs[0] == Tensor("ids", "int64", (-1,)), "whatever the phrase says"
        assert gather.precision == "float16", "indices are not what it computes with"
        assert (conv.kind, conv.weights) == ("conv", 9408 * 2)


class TestWhatIsMissingOrNew:
    @pytest.mark.parametrize(
        "form", [{}, {"Layers": None}, {"Layers": 5, "Bindings": {}}, {"Bindings": ["x"]}, {"Layers": []}]
    )
    def test_no_layers(self, form: dict[str, Any]) -> None:
        assert read(form).layers == ()
        assert not read(form).detailed

    @pytest.mark.parametrize(
        "entry",
        [
            {},
            7,
            None,
            {"Name": 3, "LayerType": ["a"], "Inputs": {"a": 1}, "Outputs": "no", "Metadata": 4},
            {
                "Inputs": [None, 4, "x", {"Dimensions": ["a"], "Format/Datatype": 9}],
                "Weights": {"Type": 1, "Count": "x"},
            },
        ],
    )
    def test_no_part_is_needed(self, entry: Any) -> None:
        (layer,) = read({"Layers": [entry]}).layers
        assert (layer.name, layer.precision, layer.origins) == ("", "", ())

    def test_weights_of_an_unknown_type_are_unknown(self) -> None:
        (layer,) = read({"Layers": [{"Name": "a", "Weights": {"Type": "Trit", "Count": 9}}]}).layers
        assert layer.weights is None

    @pytest.mark.parametrize(
        ("kind", "nbytes"), [("Int4", 5), ("FP4", 5), ("FP8", 9), ("Bool", 9), ("BFloat16", 18), ("Int64", 72)]
    )
    def test_bytes_of_weights(self, kind: str, nbytes: int) -> None:
        (layer,) = read({"Layers": [{"Name": "a", "weights": {"Type": kind, "Count": 9}}]}).layers
        assert layer.weights == nbytes

    @pytest.mark.parametrize(
        ("phrase", "dtype", "layout"),
        [
            ("Row major linear FP32", "float32", ""),
            ("Row major linear FP16 format (kLINEAR)", "float16", ""),
            ("Channel major BFloat16 format where channel % 8 == 0 with 3 spatial dimensions", "bfloat16", "DHWC8"),
            ("Thirty-two wide channel vectorized row major Int8 format with 3 spatial dimensions", "int8", "CDHW32"),
            ("Four wide channel vectorized row major Int8 format.", "int8", "CHW4"),
            ("Channel major FP16 format where channel == 4 and column stride % 32 == 0", "float16", "HWC4"),
            ("Channel major FP32 format", "float32", "HWC"),
            (
                "Row major INT8 format where column stride % 64 == 0",
                "int8",
                "Row major INT8 format where column stride % 64 == 0",
            ),
            ("UInt8", "uint8", ""),
            ("Some new FP8 layout (kHWC16)", "float8_e4m3fn", "HWC16"),
            ("Unknown format", "", ""),
            ("N/A due to dynamic shapes", "", ""),
        ],
    )
    def test_phrases(self, phrase: str, dtype: str, layout: str) -> None:
        (layer,) = read({"Layers": [{"Name": "a", "Inputs": [{"Name": "t", "Format/Datatype": phrase}]}]}).layers
        assert (layer.inputs[0].dtype, layer.inputs[0].format) == (dtype, layout)

    @pytest.mark.parametrize(
        ("tactic", "precision"),
        [
            ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n", "float16"),
            ("sm80_xmma_gemm_bf16bf16_bf16f32_f32", "bfloat16"),
            ("sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_n", "int8"),
            ("sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32", "float8_e4m3fn"),
            ("ampere_h16816cudnn_128x128_ldg8_relu", "float16"),
            ("sm80_xmma_gemm_f32f32_tf32f32_f32", "tf32"),
            ("ampere_sgemm_128x64_nn", "float32"),
            ("__myl_Move", ""),
        ],
    )
    def test_a_kernel_tells_where_nothing_else_does(self, tactic: str, precision: str) -> None:
        (layer,) = read({"Layers": [{"Name": "a", "LayerType": "gemm", "TacticName": tactic}]}).layers
        assert layer.precision == precision


class TestManyLayers:
    def test_totals(self) -> None:
        found = read(told("8.6-detailed")).layers
        kinds = [(total.name, total.layers, total.weights) for total in totals(found, "kind")]
        assert kinds[0] == ("Convolution", 2, 432 * 2 + 16 * 4 + 432 * 4)
        assert sum(count for _, count, _ in kinds) == len(found)
        precisions = {total.name: total.layers for total in totals(found, "precision")}
        assert precisions == {"float16": 4, "float32": 1, "tf32": 1}

    @pytest.mark.parametrize(
        ("patterns", "names"),
        [
            (["Conv_1"], ["Conv_1", "Conv_10", "fused"]),
            (["Conv_?0"], ["Conv_10"]),
            (["Conv*Relu"], []),
            (["[Shuffle]"], ["(Unnamed Layer* 7) [Shuffle]"]),
            (["layer* 7"], []),
            (["Layer* 7", "_10"], ["Conv_10", "(Unnamed Layer* 7) [Shuffle]"]),
        ],
    )
    def test_matching(self, patterns: list[str], names: list[str]) -> None:
        found = [
            Layer("Conv_1"),
            Layer("Conv_10"),
            Layer("fused", origins=("Conv_1", "Relu_1")),
            Layer("(Unnamed Layer* 7) [Shuffle]"),
        ]
        assert [layer.name for layer in matching(found, patterns)] == names

    def test_orders(self) -> None:
        a = Layer("a", "Conv", precision="float32", weights=1, origins=("x",))
        b = Layer("b", "Add", precision="float16", weights=2, origins=("x", "y"))
        assert {name: [layer.name for layer in sorted((a, b), key=order)] for name, order in ORDERS.items()} == {
            "name": ["a", "b"],
            "kind": ["b", "a"],
            "precision": ["b", "a"],
            "weights": ["b", "a"],
            "origins": ["b", "a"],
        }

    def test_nothing(self) -> None:
        assert (Layers().weights, Layers().fused, totals((), "kind")) == (None, (), [])
