"""Bad input: one clear message with the fix, the right exit code, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Trt
from tests.spec.onnx_files import edit, linear, move_external

PROFILE = ("--profile", "batch=1:2:4")
ORT = ("--backend", "onnxruntime")


def truncated(folder: Path) -> Path:
    path = linear(folder / "a.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    return path


def text(folder: Path) -> Path:
    (folder / "a.onnx").write_text("<html>404</html>")
    return folder / "a.onnx"


def dangling(folder: Path) -> Path:
    return edit(linear(folder / "a.onnx"), lambda model: model.graph.input.pop())


def escaping(folder: Path) -> Path:
    path = linear(folder / "m" / "a.onnx", external="weights.bin")
    (folder / "m" / "weights.bin").rename(folder / "weights.bin")
    return move_external(path, "../weights.bin")


def missing_data(folder: Path) -> Path:
    path = linear(folder / "a.onnx", external="weights.bin")
    (folder / "weights.bin").unlink()
    return path


def fixed(folder: Path) -> Path:
    return linear(folder / "a.onnx", shape=(1, 4))


def toml(content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        linear(folder / "a.onnx")
        (folder / "a.toml").write_text(content)
        return folder / "a.toml"

    return write


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (text, "a.onnx: not an ONNX model, or cut short"),
        (truncated, "a.onnx: not an ONNX model, or cut short"),
        (dangling, "a.onnx: not a valid ONNX model: "),
        (escaping, "the external data of 'w' lies outside the model's folder: '../weights.bin': move the data"),
        (missing_data, "the external data of 'w' is missing: 'weights.bin' is not beside the model: copy it there"),
        (fixed, "exported with fixed sizes: x [1, 4]: to vary them, export again with dynamic axes"),
        (toml("modle = 'a.onnx'"), "a.toml: unknown key 'modle': did you mean 'model'? known keys: "),
        (toml("model = 'b.onnx'"), "a.toml: model = 'b.onnx': no such file: "),
        (toml("model = "), "a.toml: not TOML: "),
        (lambda folder: folder / "b.onnx", "b.onnx: no such file or folder"),
        (lambda folder: folder / "b.plan", "b.plan: no such file or folder"),
        (lambda folder: folder, "is a folder"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("command", ["check", "build"])
def test_files(trt: Trt, tmp_path: Path, command: str, file: Callable[[Path], Path], message: str) -> None:
    done = trt(command, file(tmp_path), *PROFILE, *ORT)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert message in done.err
    assert "Traceback" not in done.err + done.out
    assert len(done.err.splitlines()) <= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "batch"], "--profile 'batch': write DIMENSION=MIN:OPT:MAX"),
        (["--profile", "batch=1:2"], "--profile 'batch=1:2': '1:2' is not a range"),
        (["--profile", "batch=8:8:1"], "a: dimension 'batch': empty range: min 8 is above max 1"),
        (["--profile", "batch=1:9:4"], "a: dimension 'batch': opt 9 lies outside 1 to 4"),
        (["--profile", "batch=1", "--profile", "batch=2"], "--profile: 'batch' is given twice"),
        (
            ["--profile", "bach=1:2:4"],
            "a: no input has a dimension 'bach': did you mean 'batch'? dynamic dimensions: batch",
        ),
        (["--profile", "x:1=1:4:8"], "a: input 'x', axis 1: exported with this dimension fixed to 4, but the profile"),
        ([], "a: input 'x' [batch, 4] has no range for 'batch': give one, as in --profile batch=1:8:32 of"),
        ([*PROFILE, "--precision", "fp17"], "--precision: unknown 'fp17': did you mean 'fp16'? choose from fp32"),
        ([*PROFILE, "--backend", "tensorrtx"], "--backend: unknown 'tensorrtx': did you mean 'tensorrt"),
        ([*PROFILE, "--point", "mid"], "--point: unknown 'mid': "),
        ([*PROFILE, "--seed", "x"], "--seed: 'x' is not a whole number"),
        ([*PROFILE, "--build-timeout", "-1"], "--build-timeout: '-1' is not a time"),
        ([*PROFILE, "--build-option", "workspace=2XB"], "--build-option: '2XB' is not a size"),
        (
            [*PROFILE, "--build-option", "worksp=2"],
            "--build-option: unknown build option 'worksp': did you mean 'works",
        ),
        ([*PROFILE, "--outputs", "o.npz"], "--outputs needs --inputs"),
        ([*PROFILE, "--inputs", "no.npz"], "no.npz: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(trt: Trt, tmp_path: Path, arguments: list[str], message: str) -> None:
    where = [] if "--backend" in arguments else ORT
    done = trt("check", linear(tmp_path / "a.onnx"), *arguments, *where)
    assert (done.code, done.out) == (2, "")
    assert f"error: {message}" in done.err
    assert "Traceback" not in done.err


def test_a_network_that_nobody_can_judge(trt: Trt, tmp_path: Path) -> None:
    done = trt("check", toml("callable = 'nets:build'")(tmp_path), *PROFILE, "--backend", "fake")
    assert done.code == 2
    assert "a network has no ONNX to run as an oracle: give --inputs and --outputs (in a TOML file: golden)" in done.err


def test_an_option_that_does_not_exist(trt: Trt) -> None:
    done = trt("check", "mlp", "--presicion", "fp16")
    assert done.code == 2
    assert "No such option" in done.err
    assert "--precision" in done.err


def test_an_absent_backend_covers_nothing(trt: Trt, tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx")
    for arguments in (["check", path, *PROFILE], ["build", path, *PROFILE]):
        done = trt(*arguments, "--backend", "fake:absent")
        assert done.code == 3
        assert "No module named 'fake' (to cover it: pip install fake)" in done.err + done.out
        assert "Traceback" not in done.err


def test_an_unsupported_operator_is_a_failure_that_names_it(trt: Trt, tmp_path: Path) -> None:
    path = linear(tmp_path / "a.onnx", operator="Frobnicate")
    for arguments in (["check", path, *PROFILE], ["build", path, *PROFILE]):
        done = trt(*arguments, "--backend", "fake")
        assert done.code == 1
        assert "parse: " in done.err + done.out
        assert "Frobnicate" in done.err + done.out
        assert "Traceback" not in done.err


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


class TestNpz:
    def test_pickled_objects_are_refused(self, trt: Trt, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

        path = npz(tmp_path / "in.npz", x=np.array([Bomb()], dtype=object))
        done = trt("check", linear(tmp_path / "a.onnx"), *PROFILE, *ORT, "--inputs", path)
        assert done.code == 2
        assert "in.npz: not an .npz of plain arrays" in done.err
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("content", [b"", b"no zip", b"\x80\x04N.", None], ids=["empty", "text", "pickle", "cut"])
    def test_what_is_no_npz(self, trt: Trt, tmp_path: Path, content: bytes | None) -> None:
        path = npz(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
        path.write_bytes(path.read_bytes()[:-30] if content is None else content)
        done = trt("check", linear(tmp_path / "a.onnx"), *PROFILE, *ORT, "--inputs", path)
        assert done.code == 2
        assert "in.npz: not an .npz" in done.err
        assert "allow_pickle" not in done.err, "numpy's advice to load it all the same"

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"y": np.ones((2, 4), np.float32)}, "the given inputs lack 'x'; they are 'y': save with"),
            ({"x": np.ones((2, 4), np.float32), "z": np.ones(1)}, "holds 'z', which the model does not have: x"),
            ({"x": np.ones((2, 4))}, "'x' is float64, the model takes float32"),
            (
                {"x": np.ones((5, 4), np.float32)},
                "the given inputs have batch 5, which no profile admits (batch=1:2:4)",
            ),
            ({"x": np.ones((2, 3), np.float32)}, "'x' is [2, 3], this point takes [2, 4]"),
        ],
        ids=["other name", "extra", "type", "outside", "shape"],
    )
    def test_arrays_that_do_not_fit(
        self, trt: Trt, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
    ) -> None:
        path = npz(tmp_path / "in.npz", **arrays)
        done = trt("check", linear(tmp_path / "a.onnx"), *PROFILE, *ORT, "--inputs", path)
        assert done.code == 2
        assert message in done.err

    def test_golden_outputs_that_do_not_fit(self, trt: Trt, tmp_path: Path) -> None:
        given = npz(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
        wanted = npz(tmp_path / "out.npz", z=np.ones((2, 3), np.float32))
        model = linear(tmp_path / "a.onnx")
        done = trt("check", model, *PROFILE, *ORT, "--inputs", given, "--outputs", wanted)
        assert done.code == 2
        assert "out.npz holds 'z', the model gives 'y': save each output by its name" in done.err


def test_a_bad_file_among_models_does_not_stop_the_list(trt: Trt, tmp_path: Path) -> None:
    linear(tmp_path / "mine" / "good.onnx")
    (tmp_path / "mine" / "bad.toml").write_text("modle = 1")
    done = trt("models", "--models", tmp_path / "mine")
    assert done.code == 1
    assert "good" in done.out
    assert "failed: " in done.err
    assert "did you mean 'model'" in done.err


def test_a_model_without_outputs(trt: Trt, tmp_path: Path) -> None:
    """A graph without outputs is valid for nobody."""
    path = edit(linear(tmp_path / "a.onnx"), lambda model: model.graph.output.pop())
    done = trt("check", path, *PROFILE, *ORT)
    assert done.code == 2
    assert "no outputs" in done.err
