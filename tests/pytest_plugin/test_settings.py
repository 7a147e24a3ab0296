"""Settings: which source wins, what is refused and how, what --help and the hosts are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.settings import BACKENDS, Settings, Shard
from harness.spec import POINTS, RECIPES, BuildConfig


def test_defaults_ask_for_everything():
    settings = Settings.read({}, environment={})
    assert settings == Settings()
    assert (settings.backend, settings.precision, settings.point) == (BACKENDS, tuple(RECIPES), POINTS)


def test_sources_win_in_order(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[tool.trt-harness]\nseed = 4\n")
    variable = {"TRT_HARNESS_SEED": "2"}
    asked = [
        Settings.read({"seed": "1"}, {"seed": "3"}, folder=tmp_path, environment=variable),
        Settings.read({"seed": None}, {"seed": "3"}, folder=tmp_path, environment=variable),
        Settings.read({}, {"seed": "3"}, folder=tmp_path, environment={}),
        Settings.read({}, {}, folder=tmp_path, environment={}),
        Settings.read({}, {}, environment={}),
    ]
    assert [settings.seed for settings in asked] == [1, 2, 3, 4, 0]


def test_zero_is_said_and_empty_is_not():
    assert Settings.read({"seed": "0"}, environment={"TRT_HARNESS_SEED": "5"}).seed == 0
    assert Settings.read({"seed": ""}, environment={"TRT_HARNESS_SEED": "5"}).seed == 5


def test_lists_may_be_repeated_and_joined():
    assert Settings.read({"model": ["a,b", "c", "a"]}, environment={}).model == ("a", "b", "c")
    assert Settings.read({}, {"model": ["a", "b, c"]}, environment={}).model == ("a", "b", "c")


def test_paths_start_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "root"
    assert Settings.read({"cache": "x"}, folder=folder, environment={}).cache == tmp_path / "x"
    assert Settings.read({}, {"cache": "x"}, folder=folder, environment={}).cache == folder / "x"


def test_an_interpreter_that_is_a_link_stays_one(tmp_path: Path):
    real, link = tmp_path / "real", tmp_path / "venv" / "python"
    real.touch(mode=0o755)
    link.parent.mkdir()
    link.symlink_to(real)
    assert Settings.read({"python": [f"tensorrt={link}"]}, environment={}).python == (("tensorrt", str(link)),)


def test_what_another_interpreter_has_is_in_no_process_of_ours():
    settings = Settings.read({"in_process": "true"}).under("/some/python")
    assert (settings.in_process, dict(settings.python)["onnxruntime"]) == (False, "/some/python")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backend", "tensorr", "did you mean 'tensorrt'? choose from tensorrt, tensorrt_rtx, onnxruntime, best"),
        ("precision", "fp61", "did you mean 'fp16'? choose from fp32, tf32, fp16, fp16-weak"),
        ("point", "mid", "choose from min, opt, max"),
        ("shard", "4/3", "write i/n with i from 1 to n, as in 2/8"),
        ("shard", "0/3", "write i/n"),
        ("build_timeout", "0", "more than 0"),
        ("run_timeout", "soon", "write seconds"),
        ("memory", "4 elephants", "is not a size"),
        ("seed", "-1", "not a whole number"),
        ("build_option", "optimisation_level=1", "did you mean 'optimization_level'?"),
        ("build_option", "aux_streams=few", "aux_streams: 'few' is not a whole number"),
        ("build_option", "workspace", "write KEY=VALUE"),
        ("python", "cuda=/usr/bin/python", "choose from tensorrt, tensorrt_rtx, onnxruntime"),
        ("python", "tensorrt=/nowhere/python", "'/nowhere/python' is no program: name a Python that has"),
        ("in_process", "perhaps", "neither true nor false"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_source(name: str, value: str, said: str):
    for source, arguments in {
        f"--trt-{name.replace('_', '-')}: ": ({name: value}, {}, {}),
        f"TRT_HARNESS_{name.upper()}: ": ({}, {}, {f"TRT_HARNESS_{name.upper()}": value}),
        f"trt_{name}: ": ({}, {name: value}, {}),
    }.items():
        options, file, environment = arguments
        with pytest.raises(SpecError) as error:
            Settings.read(options, file, environment=environment)
        assert str(error.value).startswith(source)
        assert said in str(error.value)


def test_an_unknown_key_of_pyproject_is_refused(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[tool.trt-harness]\nprecisions = 'fp16'\n")
    with pytest.raises(SpecError, match=r"unknown key 'precisions'.*did you mean 'precision'\?"):
        Settings.read({}, folder=tmp_path, environment={})


def test_a_part_of_a_whole():
    assert Settings.read({"shard": "2/8"}, environment={}).shard == Shard(2, 8)


def test_build_options_become_a_configuration():
    given = {"workspace": "1GiB", "flags": "REFIT+TF32", "optimization_level": "1", "profiling_verbosity": "DETAILED"}
    config = BuildConfig(aux_streams=2).with_options(given)
    assert config == BuildConfig(1 << 30, 1, ("REFIT", "TF32"), aux_streams=2, profiling_verbosity="DETAILED")


def test_every_row_has_a_use_and_a_description():
    rows = Settings.table()
    assert {row.name for row in rows} == set(Settings.__dataclass_fields__)
    assert all(row.help and (row.metavar or row.flag) for row in rows)
