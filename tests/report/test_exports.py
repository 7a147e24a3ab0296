"""Every export, read by the tool that it is for."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.report.exports import FORMATS, openmetrics
from harness.report.measurement import LABELS, Measurement, measurements, newest
from tests.report.junit_schema import schema
from tests.report.measured import AT, measurement, perf, record, unhurried

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
TWO = measurements([record("bert"), record("mlp")])
NIGHTS = measurements([record(), record(started=AT + 86400, run="20260922-142640-77aa")])
several = st.lists(measurement(), max_size=4)


def export(name: str, measured: list[Measurement]) -> bytes:
    return FORMATS[name].write(measured)


def slower(measured: list[Measurement], factor: float) -> list[Measurement]:
    return [
        dataclasses.replace(one, value=one.value * factor, processes=tuple(factor * each for each in one.processes))
        for one in measured
    ]


class TestPytestBenchmark:
    @staticmethod
    def compare(folder: Path, *options: str) -> str:
        (folder / "before.json").write_bytes(export("pytest-benchmark", TWO))
        (folder / "after.json").write_bytes(export("pytest-benchmark", slower(TWO, 1.25)))
        program = "import sys; from pytest_benchmark.cli import main; sys.exit(main())"
        found = subprocess.run(
            [sys.executable, "-c", program, "compare", "before.json", "after.json", *options],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        assert "Failed to load" not in found.stderr + found.stdout
        return found.stdout

    def test_its_own_compare_reads_two(self, tmp_path: Path) -> None:
        """A table for each metric, all of both files in it, the slower ones told by how much."""
        shown = self.compare(tmp_path, "--columns=min,median,ops,rounds")
        tables = re.findall(r"benchmark '(.+)': (\d) tests", shown)
        assert sorted(tables) == [("build", "4"), ("gpu, graph", "4"), ("throughput", "4")]
        rows = re.findall(
            r"^(bert|mlp)-fp16-opt-tensorrt on NVIDIA H200 \((before|after)\).*?\((\d\.\d+)\)", shown, re.M
        )
        assert len(rows) == 12
        assert {(source, ratio) for _, source, ratio in rows} >= {("before", "1.0"), ("after", "1.25")}

    def test_between_two_files_by_name(self, tmp_path: Path) -> None:
        shown = self.compare(tmp_path, "--between=median")
        assert "ERROR" not in shown
        assert "+25.0%" in shown

    def test_all_that_it_saves_is_there(self) -> None:
        found = json.loads(export("pytest-benchmark", TWO))
        assert found.keys() == {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
        assert found["commit_info"].keys() == {"id", "time", "author_time", "dirty", "project", "branch"}
        assert found["machine_info"] == {"backend": "tensorrt", "device": "NVIDIA H200", "library": "10.9.0"}
        assert found["datetime"] == "2026-09-21T14:13:20.250000+00:00"
        benchmark = found["benchmarks"][0]
        assert benchmark.keys() == {
            *("group", "name", "fullname", "params", "param", "extra_info", "options", "stats"),
        }
        assert benchmark["stats"].keys() == {
            *("min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers"),
            *("stddev_outliers", "outliers", "ld15iqr", "hd15iqr", "ops", "total", "data", "iterations"),
        }
        assert benchmark["stats"]["median"] == pytest.approx(0.001235)

    def test_operations_a_second_are_the_throughput_and_sizes_are_left_out(self) -> None:
        found = {one["group"]: one["stats"] for one in json.loads(export("pytest-benchmark", TWO))["benchmarks"]}
        assert "host memory" not in found
        assert found["throughput"]["ops"] == pytest.approx(813.5, rel=1e-4)

    def test_the_commit_is_told(self) -> None:
        found = json.loads(export("pytest-benchmark", measurements([record()], commit="8c1f")))
        assert found["commit_info"]["id"] == "8c1f"

    @unhurried
    @given(measured=several)
    def test_any(self, measured: list[Measurement]) -> None:
        found = json.loads(export("pytest-benchmark", measured))["benchmarks"]
        wanted = [one.name for one in newest(measured) if one.unit in ("s", "runs/s")]
        assert [one["fullname"] for one in found] == wanted


class TestGithubAction:
    def test_exactly(self) -> None:
        found = {one["name"]: one for one in json.loads(export("github-action-smaller", TWO))}
        graph = found["bert-fp16-opt-tensorrt on NVIDIA H200: gpu, graph"]
        assert graph["unit"] == "ms"
        assert graph["value"] == pytest.approx(1.235)
        assert graph["range"] == "0.0331"
        assert graph["extra"].splitlines()[:2] == ["p99=1.3", "processes=4"]
        assert "range" not in found["mlp-fp16-opt-tensorrt on NVIDIA H200: build"]
        assert found["mlp-fp16-opt-tensorrt on NVIDIA H200: host memory"]["unit"] == "bytes"

    def test_both_directions_have_all_and_share_nothing(self) -> None:
        smaller, bigger = (
            {one["name"] for one in json.loads(export(f"github-action-{way}", TWO))} for way in ("smaller", "bigger")
        )
        assert not smaller & bigger
        assert smaller | bigger == {one.name for one in TWO}
        assert bigger == {f"{model}-fp16-opt-tensorrt on NVIDIA H200: throughput" for model in ("bert", "mlp")}

    @unhurried
    @given(measured=several)
    def test_types_are_those_that_it_checks(self, measured: list[Measurement]) -> None:
        for way in ("smaller", "bigger"):
            for one in json.loads(export(f"github-action-{way}", measured)):
                assert {"name", "unit", "value"} <= one.keys() <= {"name", "unit", "value", "range", "extra"}
                assert type(one["value"]) in (int, float)
                assert all(type(value) is str for name, value in one.items() if name != "value")


class TestBencher:
    SCHEMA = json.loads((SCHEMAS / "bmf.json").read_text())

    def check(self, measured: list[Measurement]) -> Any:
        found = json.loads(export("bencher", measured))
        jsonschema.validate(found, self.SCHEMA)
        return found

    def test_exactly(self) -> None:
        found = self.check(TWO)
        assert found.keys() == {f"{model}-fp16-opt-tensorrt on NVIDIA H200" for model in ("bert", "mlp")}
        bert = found["bert-fp16-opt-tensorrt on NVIDIA H200"]
        assert bert.keys() == {"gpu-graph", "throughput", "host-memory", "build"}
        graph = bert["gpu-graph"]
        assert graph["lower_value"] < graph["value"] < graph["upper_value"]
        assert bert["build"] == {"value": 31.5}

    def test_names_that_are_too_long_stay_apart(self) -> None:
        long = [dataclasses.replace(TWO[0], cell="x" * 5000, key=key * 64, metric="m" * 99) for key in "ab"]
        assert len(self.check(long)) == 2

    @unhurried
    @given(measured=several)
    def test_any(self, measured: list[Measurement]) -> None:
        self.check(measured)

    @pytest.mark.parametrize("wrong", [{"a": {"m": 1}}, {"a": {"m": {"lower_value": 1}}}, {"a": {"m m": {"value": 1}}}])
    def test_the_schema_refuses(self, wrong: Any) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, self.SCHEMA)


class TestOpenMetrics:
    @staticmethod
    def parsed(measured: list[Measurement]) -> dict[str, Any]:
        text = export("openmetrics", measured).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def test_to_the_letter(self) -> None:
        one = next(each for each in TWO if each.metric == "build")
        labels = (
            'series="bert00000000",model="bert",precision="fp16",point="opt",backend="tensorrt",'
            'device="NVIDIA H200",library="10.9.0",stat="p50"'
        )
        assert export("openmetrics", [one]).decode() == (
            "# TYPE trt_build_seconds gauge\n"
            "# UNIT trt_build_seconds seconds\n"
            "# HELP trt_build_seconds build: median of processes.\n"
            f"trt_build_seconds{{{labels}}} 31.5 1790000000.25\n"
            "# EOF\n"
        )

    def test_a_family_a_metric(self) -> None:
        found = self.parsed(TWO)
        assert {name: (one.type, one.unit) for name, one in found.items()} == {
            "trt_build_seconds": ("gauge", "seconds"),
            "trt_gpu_graph_seconds": ("gauge", "seconds"),
            "trt_host_memory_bytes": ("gauge", "bytes"),
            "trt_throughput_runs_per_second": ("gauge", "runs_per_second"),
        }
        graph = [sample for sample in found["trt_gpu_graph_seconds"].samples if sample.labels["model"] == "bert"]
        assert {sample.labels["stat"]: sample.value for sample in graph}["p99"] == 0.0013
        assert [sample.labels["stat"] for sample in graph] == ["p50", "low", "high", "p99"]

    def test_nights_of_a_series_stand_together(self) -> None:
        samples = self.parsed(NIGHTS)["trt_build_seconds"].samples
        assert [float(sample.timestamp) for sample in samples] == [AT, AT + 86400]
        assert samples[0].labels == samples[1].labels

    def test_no_session_commit_or_uuid_is_a_label(self) -> None:
        text = export("openmetrics", measurements([record()], commit="8c1fdeadbeef")).decode()
        for secret in ("8c1fdeadbeef", "20260921-142640-9f3a", "GPU-1b2c"):
            assert secret not in text

    @unhurried
    @given(measured=several)
    def test_any(self, measured: list[Measurement]) -> None:
        found = self.parsed(measured)
        assert found.keys() == {one.variable for one in measured}
        known = {
            (one.variable, one.key[: openmetrics.SERIES], *(one.labels.get(name, "") for name in LABELS))
            for one in measured
        }
        told = {
            (name, sample.labels["series"], *(sample.labels.get(label, "") for label in LABELS))
            for name, family in found.items()
            for sample in family.samples
        }
        assert told == known

    def test_numbers(self) -> None:
        spelled = [openmetrics.number(value) for value in (0.1, 1e-9, math.inf, -math.inf, math.nan, 3.0)]
        assert spelled == ["0.1", "1e-09", "+Inf", "-Inf", "NaN", "3.0"]


class TestJUnit:
    def test_the_strict_schema_takes_it(self) -> None:
        root = etree.fromstring(export("junit", TWO))
        schema(strict=True).assertValid(root)
        (bert, mlp) = root.findall("testsuite")
        assert bert.get("name") == "bert-fp16-opt-tensorrt on NVIDIA H200"
        assert [case.get("name") for case in mlp.findall("testcase")] == [
            "gpu, graph",
            "throughput",
            "host memory",
            "build",
        ]
        values = {one.get("name"): one.get("value") for one in bert.findall("properties/property")}
        assert values["trt_gpu_graph_seconds_p99"] == "0.0013"
        assert values["trt_device"] == "NVIDIA H200"

    @unhurried
    @given(measured=several)
    def test_any(self, measured: list[Measurement]) -> None:
        schema(strict=True).assertValid(etree.fromstring(export("junit", measured)))

    @pytest.mark.parametrize(
        "wrong",
        [
            "<testsuites><testcase name='a'/></testsuites>",
            "<testsuites><testsuite name='a' tests='1' failures='0'/></testsuites>",
            "<testsuites><testsuite name='a' tests='1' failures='0' errors='0'><properties><property name='a'/>"
            "</properties></testsuite></testsuites>",
        ],
    )
    def test_the_schema_refuses(self, wrong: str) -> None:
        assert not schema(strict=False).validate(etree.fromstring(wrong))


class TestCsv:
    @staticmethod
    def read(text: bytes) -> list[Measurement]:
        rows = csv.DictReader(io.StringIO(text.decode(), newline=""))
        return [
            Measurement(
                *(row[name] for name in ("cell", "key", "metric", "unit")),
                float(row["value"]),
                *(float(row[name]) if row[name] else None for name in ("low", "high", "p99")),
                tuple(map(float, row["processes"].split(" "))),
                row["session"],
                float(row["at"]),
                {name: row[name] for name in LABELS if row[name]},
                row["commit"],
            )
            for row in rows
        ]

    @unhurried
    @given(measured=several)
    def test_any_comes_back(self, measured: list[Measurement]) -> None:
        assert self.read(export("csv", measured)) == measured

    def test_its_head(self) -> None:
        head, first, *_ = export("csv", TWO).decode().splitlines()
        assert head.startswith("cell,key,metric,unit,value,low,high,p99,processes,session,at,model,")
        assert first.startswith("bert-fp16-opt-tensorrt on NVIDIA H200,bert0")


class TestParquet:
    @staticmethod
    def read(data: bytes) -> list[Measurement]:
        return [
            Measurement(
                *(row[name] for name in ("cell", "key", "metric", "unit", "value", "low", "high", "p99")),
                tuple(row["processes"]),
                row["session"],
                row["at"].timestamp(),
                {name: row[name] for name in LABELS if row[name] is not None},
                row["commit"] or "",
            )
            for row in pq.read_table(io.BytesIO(data)).to_pylist()
        ]

    @unhurried
    @given(measured=several)
    def test_any_comes_back(self, measured: list[Measurement]) -> None:
        assert self.read(export("parquet", measured)) == measured

    def test_columns_are_typed_even_of_nothing(self) -> None:
        for measured in ([], TWO):
            found = pq.read_schema(io.BytesIO(export("parquet", measured)))
            assert found.field("value").type == pa.float64()
            assert found.field("p99").type == pa.float64()
            assert found.field("processes").type == pa.list_(pa.float64())
            assert found.field("at").type == pa.timestamp("us", tz="UTC")
            assert found.field("commit").type == pa.string()
            assert found.metadata[b"trt_harness"] == b"1"


def test_text_that_has_no_utf8_is_written_all_the_same() -> None:
    """A record may hold half of a pair, as JSON can."""
    broken = [dataclasses.replace(one, cell="\ud800", labels={"model": "\udfff"}) for one in TWO]
    for name, format in FORMATS.items():
        assert format.write(broken), name


def test_nothing_imports_pyarrow_and_scipy_before_they_are_needed() -> None:
    modules = "harness.ledger.ingest, harness.report.exports, harness.report.performance"
    program = f"import sys, {modules}; sys.exit(bool({{'pyarrow', 'scipy'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_cell_without_values_leaves_nothing() -> None:
    assert measurements([record(facts={"perf": perf(values={})})]) == []
    assert [name for name in FORMATS if not FORMATS[name].write([])] == []
