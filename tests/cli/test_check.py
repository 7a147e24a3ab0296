"""``check``: every way in which a model can pass, fail, or not be covered."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from harness.ledger.records import Record
from tests.cli.conftest import Result, Trt
from tests.spec.onnx_files import linear

PROFILE = ("--profile", "batch=1:2:4")
FAKE = ("--in-process", "--backend")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "a.onnx")


def records(done: Result) -> list[Record]:
    import json

    return [Record.from_json(json.dumps(record)) for record in done.json["records"]]


def verdicts(done: Result) -> list[tuple[str, str, str]]:
    return [(record.cell.point, record.verdict, record.stage) for record in records(done)]


class TestPasses:
    def test_every_point_and_precision(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--precision", "fp32,fp16", "--json")
        assert (done.code, done.json["exit_code"]) == (0, 0)
        found = records(done)
        assert [(r.cell.precision, r.cell.point) for r in found] == [
            (precision, point) for precision in ("fp32", "fp16") for point in ("min", "opt", "max")
        ]
        assert {r.verdict for r in found} == {"passed"}
        assert [r.facts["sizes"] for r in found[:3]] == [{"batch": 1}, {"batch": 2}, {"batch": 4}]
        assert all(r.comparison and r.comparison["passed"] for r in found)
        assert {"build", "run", "oracle", "compare"} <= found[0].seconds.keys()
        assert "build" not in found[1].seconds
        assert len({r.key for r in found}) == 2
        assert all(r.plan_key for r in found)

    def test_a_table_for_people(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--point", "opt")
        assert done.code == 0
        for part in ("a: stages, in seconds", "fp32", "onnxruntime", "opt", "batch=2", "passed", "|got - want| <= "):
            assert part in done.out
        assert "optimizations off" in done.out
        assert "a at fp32: onnxruntime builds and runs" in done.err

    def test_twice_takes_the_plan_from_the_cache(self, trt: Trt, model: Path) -> None:
        for expected in ("built", "from the cache"):
            done = trt("check", model, *PROFILE, *FAKE, "fake")
            assert done.code == 0
            assert expected in done.out

    def test_onnxruntime_twice(self, trt: Trt, model: Path) -> None:
        """The converted model goes with the first process; its plan must not need it."""
        for _ in range(2):
            assert trt("check", model, *PROFILE, "--backend", "onnxruntime", "--precision", "fp16").code == 0

    def test_by_tensor_and_axis(self, trt: Trt, tmp_path: Path) -> None:
        path = linear(tmp_path / "b.onnx", shape=(None, 4))
        done = trt("check", path, "--profile", "x:0=1:2:3", "--backend", "onnxruntime", "--json")
        assert done.code == 0
        assert [r.facts["sizes"] for r in records(done)] == [{"x:0": 1}, {"x:0": 2}, {"x:0": 3}]

    def test_a_static_model_has_one_point(self, trt: Trt, tmp_path: Path) -> None:
        done = trt("check", linear(tmp_path / "b.onnx", shape=(2, 4)), "--backend", "onnxruntime", "--json")
        assert verdicts(done) == [("opt", "passed", "compare")]

    def test_a_zoo_model_on_the_best_backends(self, trt: Trt) -> None:
        done = trt("check", "mlp", "--point", "opt", "--json")
        assert done.code == 0
        assert ("opt", "passed", "compare") in verdicts(done)
        assert "mlp at fp32: " in done.err

    def test_toml_with_two_profiles(self, trt: Trt, model: Path) -> None:
        toml = model.with_suffix(".toml")
        toml.write_text('model = "a.onnx"\n[[profiles]]\ndims.batch = "1:2:4"\n[[profiles]]\ndims.batch = 8\n')
        done = trt("check", toml, "--backend", "onnxruntime", "--json")
        assert [(r.cell.point, r.facts["sizes"]["batch"]) for r in records(done)] == [
            ("min", 1), ("opt", 2), ("max", 4), ("opt_p1", 8),
        ]  # fmt: skip

    def test_a_seed_changes_the_inputs(self, trt: Trt, model: Path) -> None:
        def errors(seed: str) -> object:
            arguments = ("--backend", "onnxruntime", "--precision", "fp16", "--point", "opt", "--seed", seed, "--json")
            comparison = records(trt("check", model, *PROFILE, *arguments))[0].comparison
            assert comparison is not None
            return comparison["outputs"][0]["figures"]

        assert errors("1") == errors("1") != errors("2")


class TestFails:
    @pytest.mark.parametrize(
        ("fault", "stage", "words"),
        [
            ("wrong_rows", "compare", "values differ"),
            ("nan", "compare", "not finite where the reference is"),
            ("unwritten", "compare", "unwritten elements"),
            ("missing_output", "compare", "missing output"),
            ("reshaped_output", "compare", "wrong shape"),
            ("parse_error", "parse", "not today"),
            ("builder_none", "build", "the builder returned None"),
            ("deserialize_none", "deserialize", "deserialize: "),
            ("enqueue_false", "run", "run: "),
        ],
    )
    def test_and_says_where(self, trt: Trt, model: Path, fault: str, stage: str, words: str) -> None:
        done = trt("check", model, *PROFILE, *FAKE, f"fake:{fault}", "--point", "max", "--json")
        assert done.code == 1
        (record,) = records(done)
        assert (record.verdict, record.stage) == ("failed", stage)
        assert words in record.message
        told = trt("check", model, *PROFILE, *FAKE, f"fake:{fault}", "--point", "max")
        assert told.code == 1
        assert words in told.out
        assert "failed" in told.out
        assert "Traceback" not in told.out + told.err

    def test_a_crash_costs_one_point(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "fake:crash_run", "--json")
        assert done.code == 1
        assert verdicts(done) == [(point, "failed", "run") for point in ("min", "opt", "max")]
        assert "SIGSEGV" in records(done)[0].message

    def test_the_repeating_command_repeats_it(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, *FAKE, "fake:wrong_rows", "--precision", "fp32,fp16", "--json")
        failed = [record for record in records(done) if record.verdict == "failed"]
        assert failed
        line = next(line for line in failed[-1].message.splitlines() if line.strip().startswith("repeat "))
        words = shlex.split(line)[1:]
        assert words[0] == "trt-harness"
        again = trt(*words[1:], "--json")
        assert again.code == 1
        (record,) = records(again)
        assert (record.cell, record.verdict, record.stage) == (failed[-1].cell, "failed", "compare")

    def test_one_bad_precision_leaves_the_others(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime,fake:parse_error", "--in-process", "--json")
        assert done.code == 1
        assert {(r.cell.backend, r.verdict) for r in records(done)} == {
            ("onnxruntime", "passed"), ("fake:parse_error", "failed"),
        }  # fmt: skip


class TestGolden:
    @pytest.fixture
    def given(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "in.npz", x=np.arange(12, dtype=np.float32).reshape(3, 4))
        return tmp_path / "in.npz"

    @pytest.fixture
    def wanted(self, tmp_path: Path) -> Path:
        weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        np.savez(tmp_path / "out.npz", y=np.arange(12, dtype=np.float32).reshape(3, 4) @ weights)
        return tmp_path / "out.npz"

    def test_inputs_alone(self, trt: Trt, model: Path, given: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--inputs", given, "--json")
        (record,) = records(done)
        assert (record.cell.point, record.verdict, record.facts["sizes"]) == ("given", "passed", {"batch": 3})

    def test_outputs_that_agree_and_differ(self, trt: Trt, model: Path, given: Path, wanted: Path) -> None:
        arguments = ("check", model, *PROFILE, "--backend", "onnxruntime", "--inputs", given, "--outputs", wanted)
        done = trt(*arguments)
        assert done.code == 0
        assert "golden outputs of out.npz" in done.out
        with np.load(wanted) as stored:
            np.savez(wanted, y=stored["y"] + np.float32(0.5))
        done = trt(*arguments)
        assert done.code == 1
        assert "off by 0.5" in done.out
        assert trt(*arguments, "--atol", "0.6").code == 0
        assert trt(*arguments, "--atol", "0.4").code == 1
        assert trt(*arguments, "--rtol", "1e-6").code == 1

    def test_a_tolerance_by_hand_is_shown(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, *FAKE, "fake:wrong_rows", "--atol", "1e-9", "--point", "opt")
        assert done.code == 1
        assert "set by hand for * at *: --atol and --rtol of the command line" in done.out

    def test_a_plan(self, trt: Trt, model: Path, given: Path, wanted: Path) -> None:
        assert trt("build", model, *PROFILE, *FAKE, "fake", "-o", "a.plan").code == 0
        done = trt("check", "a.plan", *FAKE, "fake", "--inputs", given, "--outputs", wanted, "--json")
        assert done.code == 0
        assert verdicts(done) == [("given", "passed", "compare")]
        built = trt("check", "a.plan", *FAKE, "fake", "--inputs", given, "--build-option", "optimization_level=1")
        assert built.code == 2
        assert (
            "a.plan: is a plan, which was built before: --build-option optimization_level=1 can't change it"
            in built.err
        )
        alone = trt("check", "a.plan", *FAKE, "fake")
        assert alone.code == 2
        assert "a plan has no ONNX to run as an oracle: give --inputs and --outputs" in alone.err

    def test_a_plan_that_a_file_brings_along(
        self, trt: Trt, model: Path, given: Path, wanted: Path, tmp_path: Path
    ) -> None:
        """It is code from elsewhere, until it is named."""
        assert trt("build", model, *PROFILE, *FAKE, "fake", "-o", "a.plan").code == 0
        (tmp_path / "b.toml").write_text('plan = "a.plan"\n')
        check = ("check", "b.toml", *FAKE, "fake", "--inputs", given, "--outputs", wanted, "--json")
        refused = trt(*check)
        assert refused.code == 2
        assert "a.plan: a plan is code, and this one is from elsewhere" in refused.err
        assert trt(*check, "--trust", "a.plan").code == 0


class TestCoverage:
    def test_building_alone_judges_nothing(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, *FAKE, "fake:needs_gpu", "--json")
        assert done.code == 3
        assert [(r.cell.test, r.verdict) for r in records(done)] == [("build", "passed"), ("check", "not_covered")]
        assert records(done)[1].fix == "a fake GPU"

    def test_a_build_of_an_earlier_run_is_cached(self, trt: Trt, model: Path) -> None:
        for verdict in ("passed", "cached"):
            done = trt("check", model, *PROFILE, *FAKE, "fake:needs_gpu", "--json")
            assert done.code == 3
            assert records(done)[0].verdict == verdict
        assert (
            "cached: fp32 on fake:needs_gpu: built before" in trt("check", model, *PROFILE, *FAKE, "fake:needs_gpu").out
        )

    def test_a_precision_that_nobody_has(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--precision", "tf32,fp16-weak")
        assert done.code == 3
        assert done.out.count("not covered here: ") == 2
        assert "the CPU kernels compute float32 in full" in done.out

    def test_a_failed_build_fails_although_another_runs(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, *FAKE, "fake:parse_error", "--backend", "onnxruntime", "--json")
        assert done.code == 1

    def test_an_option_that_a_backend_lacks(self, trt: Trt, model: Path) -> None:
        done = trt("check", model, *PROFILE, *FAKE, "fake", "--build-option", "flags=GPU_FALLBACK")
        assert done.code == 3
        assert "GPU_FALLBACK" in done.out

    def test_an_option_that_does_not_apply_is_recorded(self, trt: Trt, model: Path) -> None:
        option = ("--build-option", "workspace=1MiB")
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--point", "opt", *option, "--json")
        assert done.code == 0
        assert records(done)[0].facts["options_not_applied"] == ["workspace"]

    def test_a_point_that_leaves_no_record(self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.cli import qualify

        asked = qualify.questions
        monkeypatch.setattr(qualify, "questions", lambda *given: list(asked(*given))[:-1])
        done = trt("check", model, *PROFILE, "--backend", "onnxruntime", "--json")
        assert [record.verdict for record in records(done)] == ["passed", "passed"]
        assert done.code == 1
        assert done.json["problems"] == ["no record: check[a-fp32-max-onnxruntime]"]
        assert "no record: check[a-fp32-max-onnxruntime]" in done.err
