"""``doctor``, ``models``, ``build``, ``expectations``, ``report``, ``export``."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.ledger.records import Record, RecordLog, read_run
from harness.report.exports import FORMATS
from harness.report.measurement import measurements
from harness.runtime.capability import Probe
from harness.spec import EngineSpec, ModelSpec, OnnxFile, Profile, recipe
from harness.spec.catalog import load
from harness.spec.catalog_file import read_file
from harness.spec.cell import Cell
from tests.cli.conftest import Trt
from tests.report.measured import record
from tests.spec.onnx_files import linear

PROFILE = ("--profile", "batch=1:2:4")
FAKE = ("--in-process", "--backend")


class TestDoctor:
    def test_what_is_there_and_what_is_missing(self, trt: Trt) -> None:
        done = trt("doctor", *FAKE, "fake:needs_gpu,fake:absent")
        assert done.code == 3  # neither can run a model
        for part in ("Python", "needs-gpu", "no fake GPU was found", "a fake GPU", "absent", "pip install fake"):
            assert part in done.out

    def test_json(self, trt: Trt) -> None:
        done = trt("doctor", "--json", "--backend", "onnxruntime")
        assert done.code == 0
        assert done.json["runs"] == ["onnxruntime"]
        (backend,) = done.json["backends"]
        assert {"name", "state", "evidence", "fix"} == backend["capabilities"][0].keys()
        assert done.json["host"]["packages"]["onnxruntime"] == backend["version"]
        assert any("pip install" in fix for fix in done.json["fixes"])

    def test_evidence_without_the_log_that_led_to_it(self, trt: Trt, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.runtime.workbench import Workbench

        probe = Workbench.probe

        def talkative(bench: Workbench, name: str) -> Probe:
            found = probe(bench, name)
            told = (replace(c, evidence=f"{c.evidence}: in short\n  | [INFO] at length") for c in found.capabilities)
            return replace(found, capabilities=tuple(told))

        monkeypatch.setattr(Workbench, "probe", talkative)
        shown = trt("doctor", "--backend", "onnxruntime").out
        assert "in short" in shown
        assert "at length" not in shown
        assert "at length" in trt("doctor", "--backend", "onnxruntime", "--json").out

    def test_a_probe_that_crashes_is_a_finding(self, trt: Trt) -> None:
        done = trt("doctor", "--backend", "fake:crash_probe", "--json")
        states = {c["name"]: c for c in done.json["backends"][0]["capabilities"]}
        assert done.code == 3
        assert states["build"]["state"] == "present"
        assert "SIGSEGV" in states["run"]["evidence"]


class TestModels:
    def test_list(self, trt: Trt, tmp_path: Path) -> None:
        linear(tmp_path / "own.onnx")
        done = trt("models", "--models", tmp_path / "own.onnx", "--json")
        assert done.code == 0
        ids = [model["id"] for model in done.json["models"]]
        assert ids[-1] == "own"
        assert "mlp" in ids
        sizes = {model["size"] for model in trt("models", "--size", "full", "--json").json["models"]}
        assert sizes == {"full"}

    def test_an_unknown_size(self, trt: Trt) -> None:
        done = trt("models", "--size", "huge")
        assert done.code == 2
        assert "--size: no model of size 'huge': choose from full, tiny" in done.err
        assert "batch=1:" in trt("models").out

    def test_export_is_what_check_takes(self, trt: Trt, tmp_path: Path) -> None:
        done = trt("models", "export", tmp_path / "out", "mlp", "reshape_values", "--json")
        assert done.code == 0
        for name, toml in done.json["written"].items():
            zoo, own = load()[name], read_file(Path(toml))
            assert own.profiles == zoo.profiles
            assert EngineSpec.of(own, recipe("fp32")).key == EngineSpec.of(zoo, recipe("fp32")).key
        assert trt("check", done.json["written"]["mlp"], "--backend", "onnxruntime").code == 0

    def test_export_keeps_external_data(self, trt: Trt, tmp_path: Path) -> None:
        source = linear(tmp_path / "in" / "big.onnx", external="weights.bin")
        done = trt("models", "--models", source, "export", tmp_path / "out", "big", "--json")
        (toml,) = map(Path, done.json["written"].values())
        assert read_file(toml).source.digest() == OnnxFile(source).digest()
        assert (tmp_path / "out" / "big" / "weights.bin").is_file()

    def test_export_takes_golden_outputs_along(self, trt: Trt, tmp_path: Path) -> None:
        linear(tmp_path / "in" / "own.onnx")
        np.savez(tmp_path / "in" / "x.npz", x=np.ones((2, 4), np.float32))
        np.savez(tmp_path / "in" / "y.npz", y=np.ones((2, 3), np.float32))
        toml = tmp_path / "in" / "own.toml"
        toml.write_text(
            "model = 'own.onnx'\ndata = 'x.npz'\ngolden.outputs = 'y.npz'\n[[profiles]]\ndims.batch = '1:2:4'\n"
            "[build]\nworkspace = '1 GiB'\n[inputs.x]\nkind = 'uniform'\nlow = -inf\n"
            "[[tolerances]]\nprecision = 'fp16'\natol = 1\nreason = 'wide'\n"
        )
        trt("models", "--models", toml, "export", tmp_path / "out", "own")
        made, own = read_file(tmp_path / "out" / "own.toml"), read_file(toml)
        assert made.golden == (tmp_path / "out" / "own.inputs.npz", tmp_path / "out" / "own.outputs.npz")
        assert made.data == tmp_path / "out" / "own.data.npz"
        same = ("name", "profiles", "inputs", "tolerances", "config")
        assert [getattr(made, name) for name in same] == [getattr(own, name) for name in same]
        assert trt("check", tmp_path / "out" / "own.toml", "--backend", "onnxruntime").code == 1  # y is made up

    def test_export_of_what_is_not_there(self, trt: Trt) -> None:
        done = trt("models", "export", "out", "mpl")
        assert done.code == 2
        assert "no model 'mpl': did you mean 'mlp'?" in done.err


class TestBuild:
    def test_a_plan(self, trt: Trt, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        done = trt("build", path, *PROFILE, *FAKE, "fake", "--precision", "fp16", "--json")
        assert done.code == 0
        assert (tmp_path / "a.plan").stat().st_size == done.json["bytes"]
        spec = EngineSpec.of(ModelSpec("a", OnnxFile(path), (Profile.of({"batch": (1, 2, 4)}),)), recipe("fp16"))
        assert done.json["key"] == spec.key
        assert not done.json["cached"]
        assert trt("build", path, *PROFILE, *FAKE, "fake", "--precision", "fp16", "--json").json["cached"]

    def test_options_reach_the_key(self, trt: Trt, tmp_path: Path) -> None:
        path = linear(tmp_path / "a.onnx")
        keys = {
            trt("build", path, *PROFILE, *FAKE, "fake", "-o", "out/b.plan", "--json", *more).json["key"]
            for more in ((), ("--build-option", "workspace=1MiB"), ("--build-option", "flags=TF32"))
        }
        assert len(keys) == 3
        assert (tmp_path / "out" / "b.plan").is_file()

    def test_a_refusal(self, trt: Trt, tmp_path: Path) -> None:
        done = trt("build", linear(tmp_path / "a.onnx"), *PROFILE, *FAKE, "fake:builder_none")
        assert done.code == 1
        assert "failed: build: a: the builder returned None" in done.err
        assert not (tmp_path / "a.plan").exists()


class TestExpectations:
    ENTRY = '[[failure]]\nmodel = "mlp"\nstage = "compare"\nmessage = "x"\ncause = "c"\nowner = "me"\nexpires = '

    def test_check(self, trt: Trt, tmp_path: Path) -> None:
        folder = tmp_path / "known"
        folder.mkdir()
        (folder / "onnxruntime.toml").write_text(self.ENTRY + "2999-01-01\n")
        done = trt("expectations", "check", "--expectations", folder, "--json")
        assert done.code == 0
        assert done.json["entries"][0]["expires"] == "2999-01-01"
        (folder / "onnxruntime.toml").write_text(self.ENTRY.replace("mlp", "mlq") + "2001-01-01\n")
        done = trt("expectations", "check", "--expectations", folder)
        assert done.code == 1
        assert "expired" in done.err
        assert "unknown model" in done.err

    def test_no_folder(self, trt: Trt) -> None:
        done = trt("expectations", "check")
        assert done.code == 2
        assert "name that of the known failures with --expectations DIR" in done.err

    def test_update(self, trt: Trt, tmp_path: Path) -> None:
        folder = tmp_path / "known"
        folder.mkdir()
        cell = Cell("test_matches_oracle", "mlp", "fp16", "", "opt", "onnxruntime")
        with RecordLog(tmp_path / ".trt-harness" / "runs" / "20260101", "20260101", "main") as log:
            log.append(Record(cell, "failed", stage="compare", message="values differ by 3"))
        (tmp_path / ".trt-harness" / "runs" / "20260102").mkdir()  # a later run that recorded nothing
        done = trt("expectations", "update", "--owner", "ada", "--expires", "2999-01-01", "--expectations", folder)
        assert done.code == 0
        assert "added" in done.out
        text = (folder / "onnxruntime.toml").read_text()
        for part in ('model = "mlp"', 'owner = "ada"', "expires = 2999-01-01"):
            assert part in text
        assert trt("expectations", "check", "--expectations", folder).code == 1  # its cause is still to be written

    def test_update_with_nothing_recorded(self, trt: Trt, tmp_path: Path) -> None:
        (tmp_path / "known").mkdir()
        arguments = ("expectations", "update", "--owner", "ada", "--expectations", tmp_path / "known")
        done = trt(*arguments)
        assert done.code == 2
        assert "no run is recorded here" in done.err
        (tmp_path / "run").mkdir()
        assert trt(*arguments, tmp_path / "run").code == 3
        assert trt(*arguments, tmp_path / "none").code == 2
        bad = trt(*arguments, "--expires", "soon", tmp_path / "run")
        assert (bad.code, "write a date as 2026-12-31" in bad.err) == (2, True)

    def test_new_entries_expire(self) -> None:
        from harness.cli import expectations

        term = expectations._date(None) - datetime.date.today()
        assert term == datetime.timedelta(days=expectations.TERM)


class TestReport:
    CELL = Cell("test_matches_oracle", "mlp", "fp16", "", "opt", "onnxruntime")
    OTHER = Cell("test_inside", "mlp", "fp16", "", "", "onnxruntime")

    def recorded(self, folder: Path, run: str, *records: Record) -> Path:
        with RecordLog(folder / ".trt-harness" / "runs" / run, run, "main") as log:
            log.extend(records)
        return log.path.parent

    def test_the_last_record_of_each_cell_counts(self, trt: Trt, tmp_path: Path) -> None:
        node = "suites/numerics/test_oracle.py::test_matches_oracle[mlp-fp16-opt-onnxruntime]"
        failed = Record(self.CELL, "failed", node, stage="compare", message="values differ", started=5.0)
        inside = Record(self.OTHER, "passed", "suites/shapes/x.py::y", facts={"examples": 25}, started=6.0)
        first = self.recorded(tmp_path, "1", failed, inside)
        second = self.recorded(tmp_path, "2", Record(self.CELL, "passed", node, started=9.0))
        done = trt("report", first)
        assert done.code == 1
        assert "1 ok, 1 FAILED (compare)" in done.out
        for order in ((first, second), (second, first)):
            done = trt("report", *order)
            assert done.code == 0
            assert done.out.splitlines()[-2:] == [
                "2 cells: 2 passed",
                "examples inside the profiles: 25 tried, in 1 cell",
            ]
        done = trt("report", first, second, "--only", "suites/numerics")
        assert done.out.splitlines()[-1] == "1 cell: 1 passed"
        assert trt("report", "--json").json["verdicts"] == {"passed": 1}  # the latest run here

    def test_nothing_covered_is_no_success(self, trt: Trt, tmp_path: Path) -> None:
        run = self.recorded(tmp_path, "1", Record(self.CELL, "not_covered", "n", message="no GPU"))
        assert trt("report", run).code == 3
        assert trt("report", run, "--only", "suites/none").code == 3
        assert trt("report", tmp_path / "none").code == 2

    def test_a_summary_in_markdown(self, trt: Trt, tmp_path: Path) -> None:
        run = self.recorded(tmp_path, "1", Record(self.CELL, "failed", "suites/a.py::b", "compare", "values differ"))
        (run / "gw0.jsonl").write_text("nothing\n")
        assert trt("report", run, "--markdown", tmp_path / "night.md").code == 1
        text = (tmp_path / "night.md").read_text(encoding="utf-8")
        assert text.startswith("# Night 1\n\n**FAILED: 1 failure**")
        assert "failed at compare: values differ" in text
        assert "gw0.jsonl:1: not JSON" in text


class TestExport:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        with RecordLog(tmp_path / ".trt-harness" / "runs" / "1", "1", "main") as log:
            log.extend([record("bert"), record("mlp"), record("rnn", facts={})])
        return log.path.parent

    def test_all(self, trt: Trt, run: Path, tmp_path: Path) -> None:
        done = trt("export", run, "--output", tmp_path / "out", "--commit", "8c1f", "--json")
        assert done.code == 0
        assert done.json["measurements"] == 8
        written = {file.name for file in (tmp_path / "out").iterdir()}
        assert written == {Path(file).name for file in done.json["files"]} == {one.file for one in FORMATS.values()}
        commit = json.loads((tmp_path / "out" / "pytest-benchmark.json").read_text())["commit_info"]["id"]
        assert commit == "8c1f"

    @pytest.mark.parametrize("name", FORMATS)
    def test_each_by_its_name(self, trt: Trt, run: Path, tmp_path: Path, name: str) -> None:
        assert name in "".join(trt("export", "--help").out.split())  # which breaks lines at hyphens
        done = trt("export", "--format", name, "--output", tmp_path / "new" / "out")  # of the latest run here
        assert done.code == 0
        assert done.out == f"8 measurements in {tmp_path / 'new' / 'out'}\n"
        measured = measurements(read_run(run).records)
        if name != "parquet":
            assert (tmp_path / "new" / "out").read_bytes() == FORMATS[name].write(measured)

    def test_into_a_folder_that_is_there(self, trt: Trt, run: Path, tmp_path: Path) -> None:
        assert trt("export", run, "--format", "csv", "--output", tmp_path).code == 0
        assert (tmp_path / "measurements.csv").is_file()

    def test_nothing_measured_is_nothing_written(self, trt: Trt, tmp_path: Path) -> None:
        with RecordLog(tmp_path / "run", "1", "main") as log:
            log.append(record(facts={}))
        done = trt("export", tmp_path / "run", "--output", tmp_path / "out")
        assert done.code == 3
        assert "--trt-perf" in done.err
        assert not (tmp_path / "out").exists()

    def test_an_unknown_format(self, trt: Trt, run: Path) -> None:
        done = trt("export", run, "--format", "xml")
        assert done.code == 2
        assert "no format 'xml': choose from pytest-benchmark," in done.err


@pytest.mark.parametrize("command", [["check", "mlp"], ["build", "mlp"], ["doctor"], ["models"]])
def test_no_traceback_for_a_broken_configuration(trt: Trt, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.trt-harness]\nprecison = ['fp16']\n")
    done = trt(*command)
    assert done.code == 2
    assert "unknown key 'precison'" in done.err
    assert "did you mean 'precision'" in done.err
