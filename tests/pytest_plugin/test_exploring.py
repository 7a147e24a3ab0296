"""Trying examples: which come first, what is said of one that fails, what an interrupted run leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger.records import Record
from harness.spec import Example

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]

TRIES = """
import pytest

@pytest.mark.trt(over=("model", "precision", "backend"))
def test_tries(trt_explore, trt_sessions, trt_inputs_at, trt_oracle, trt_compare):
    def check(example):
        inputs = trt_inputs_at(example)
        trt_compare(trt_sessions(example.profile).run(inputs), trt_oracle(inputs), weak="ignore")

    trt_explore(check)
"""
LISTS = """
import pytest

@pytest.mark.trt(over=("model", "precision", "backend"))
def test_lists(trt_explore, trt_sessions, trt_record):
    tried = trt_record.setdefault("tried", [])
    trt_explore(lambda example: tried.append(str(example)))
"""
FAKE = ("--trt-backend=fake", "--trt-in-process")


def run(project: pytest.Pytester, *arguments: str, model: str = "mlp") -> pytest.RunResult:
    asked = (f"--trt-model={model}", "--trt-precision=fp32", "--trt-effort=ci")
    return project.runpytest_inprocess(*asked, *arguments)


def test_a_failure_names_the_smallest_example_and_how_to_repeat_it(project: pytest.Pytester, records: Records):
    project.makepyfile(TRIES)
    result = run(project, "--trt-backend=fake:wrong_above=batch:4", "--trt-in-process")
    result.stdout.fnmatch_lines(
        [
            "mlp at fp32 at profile 0 batch=5 seed=0 on fake:wrong_above=batch:4: values differ*",
            "  repeat  *python -m pytest *test_tries[[]mlp-fp32-fake:wrong_above=batch:4[]]*--trt-example*batch*5*",
            "  smallest *profile 0 batch=5 seed=0 (of *",
            "  key *, seed 0",
            "  folder *failures*(python show.py)",
        ]
    )
    (record,) = records()
    assert record.verdict == "failed"
    assert record.stage == "compare"
    assert min(record.seconds[spent] for spent in ("inputs", "run", "oracle", "compare", "drawing")) > 0
    assert sum(record.seconds.values()) <= record.duration
    assert Example.parse(str(record.facts["example"])) == Example.of({"batch": 5})
    assert int(str(record.facts["examples"])) > 5
    folder = Path(str(record.facts["folder"]))
    assert sorted(path.name for path in folder.iterdir()) == [
        "example.json", "expected.npz", "found.npz", "inputs.npz", "model.onnx", "show.py",
    ]  # fmt: skip


def test_the_repeat_command_runs_that_example_alone(project: pytest.Pytester, records: Records):
    project.makepyfile(TRIES + LISTS)
    run(project, *FAKE, "--trt-example", Example.of({"batch": 5}, seed=7).json())
    found = {record.cell.test: record for record in records()}
    assert found["test_lists"].facts["tried"] == ["profile 0 batch=5 seed=7"]
    assert {record.facts["examples"] for record in found.values()} == {1}
    failing = run(
        project, "--trt-backend=fake:wrong_above=batch:4", "--trt-in-process", "--trt-example",
        Example.of({"batch": 7}).json(), "-k", "tries",
    )  # fmt: skip
    failing.stdout.fnmatch_lines(["  smallest *profile 0 batch=7 seed=0"])  # as it was asked for, and no smaller


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ("batch=5", "--trt-example: not an example"),
        ('{"sizes":{"batch":99}}', "--trt-example: profile 0 batch=99 seed=0 is outside of mlp"),
        ('{"sizes":{"rows":1}}', "no input has a dimension 'rows'"),
        ('{"profile":3,"sizes":{"batch":1}}', "is outside of mlp"),
    ],
)
def test_an_example_that_can_not_be_is_refused(project: pytest.Pytester, example: str, words: str):
    project.makepyfile(LISTS)
    result = run(project, *FAKE, "--trt-example", example)
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR)
    assert words in result.stdout.str() + result.stderr.str()


def test_promoted_examples_come_first(project: pytest.Pytester, records: Records):
    project.makepyfile(LISTS)
    (project.path / "examples.toml").write_text(
        """
        [[example]]
        model = "mlp"
        example = '{"profile":0,"sizes":{"batch":3},"values":{},"seed":11}'
        why = "it failed once"

        [[example]]
        model = "mlp"
        test = "test_others"
        example = '{"sizes":{"batch":4}}'
        why = "of another test"

        [[example]]
        model = "conv"
        example = '{"sizes":{"batch":1,"height":16,"width":16}}'
        why = "of another model"
        """
    )
    assert run(project, *FAKE).ret == 0
    (record,) = records()
    tried = record.facts["tried"]
    assert isinstance(tried, list)
    assert tried[0] == "profile 0 batch=3 seed=11"
    assert len(tried) == 26


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[example]]\nmodel = 'mpl'\nexample = '{}'\nwhy = 'x'", "examples.toml: example 1: no model 'mpl'"),
        ("[[example]]\nmodel = 'mlp'\nexample = '{}'", "examples.toml: example 1: it lacks 'why'"),
        ("[[example]]\nmodel = 'mlp'\nexample = '{'\nwhy = 'x'", "examples.toml: example 1: not an example"),
        (
            "[[example]]\nmodel = 'mlp'\nexample = '{\"sizes\":{\"batch\":99}}'\nwhy = 'x'",
            "examples.toml: example 1: profile 0 batch=99 seed=0 is outside of mlp",
        ),
    ],
)
def test_a_wrong_promoted_example_is_an_error(project: pytest.Pytester, content: str, words: str):
    project.makepyfile(LISTS)
    (project.path / "examples.toml").write_text(content)
    result = run(project, *FAKE)
    result.assert_outcomes(failed=1)
    assert words in result.stdout.str()


def test_an_example_that_a_process_did_not_survive_is_tried_first_by_the_next(project: pytest.Pytester):
    project.makepyfile(
        """
        import os, pytest

        @pytest.mark.trt(over=("model", "precision", "backend"))
        def test_dies(trt_explore, trt_sessions, request):
            log = request.config.rootpath / "tried.txt"

            def check(example):
                with log.open("a") as file:
                    print(example.json(), file=file)
                if example.binding["batch"] == 8 and "DIE" in os.environ:
                    os._exit(7)

            trt_explore(check)
        """
    )
    log = project.path / "tried.txt"
    command = [
        sys.executable, "-m", "pytest", "-q", *FAKE, "--trt-model=mlp", "--trt-precision=fp32", "--trt-effort=ci"
    ]  # fmt: skip
    import os

    died = subprocess.run(command, cwd=project.path, env={**os.environ, "DIE": "1"}, check=False)
    assert died.returncode == 7
    last = log.read_text().splitlines()[-1]
    assert json.loads(last)["sizes"] == {"batch": 8}
    log.unlink()
    again = subprocess.run(command, cwd=project.path, check=False)
    assert again.returncode == 0
    assert log.read_text().splitlines()[0] == last
    log.unlink()
    subprocess.run(command, cwd=project.path, check=True)
    assert log.read_text().splitlines()[0] != last  # it passed, and is forgotten


def test_a_host_that_dies_is_replaced_and_its_example_offered_again(project: pytest.Pytester, records: Records):
    project.makepyfile(TRIES)
    result = run(project, "--trt-backend=fake:crash_run")
    result.stdout.fnmatch_lines(["*signal 11*", "  smallest *profile 0 batch=1 seed=0*"])
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", "run")
    (kept,) = (project.path / ".trt-harness" / "examples" / "interrupted").iterdir()
    assert Example.parse(kept.read_text()) == Example.of({"batch": 1})


def test_engines_are_built_before_examples_are_tried(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """One for the cell and a wider one, whatever the number of examples; asking for one inside is refused."""
    from harness.runtime.backend.fake import FakeBackend

    built: list[str] = []
    build = FakeBackend.build

    def counting(self: FakeBackend, request: object, progress: object = None) -> object:
        built.append("build")
        return build(self, request, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeBackend, "build", counting)
    project.makepyfile(
        "from suites.shapes.inside import inside as inside\n"
        "from suites.shapes.test_inside import test_inside as test_inside\n"
    )
    assert run(project, *FAKE).ret == 0
    assert len(built) == 2
    project.makepyfile(
        test_wrong="""
        import pytest

        @pytest.mark.trt(over=("model", "precision", "backend"))
        def test_builds_inside(trt_explore, trt_engines, trt_sessions):
            trt_explore(lambda example: trt_engines(rebuilt=True))
        """
    )
    result = run(project, *FAKE, "test_wrong.py")
    result.stdout.fnmatch_lines(["an engine was asked for while examples are tried*"])
    assert len(built) == 2


def test_what_is_not_covered_and_what_is_skipped_is_no_failure(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest
        from harness.errors import UnsupportedError

        pytestmark = pytest.mark.trt(over=("model", "precision", "backend"))

        def test_lacks(trt_explore, trt_sessions):
            def check(example):
                raise UnsupportedError("graphs", "none here")
            trt_explore(check)

        def test_skips(trt_explore, trt_sessions):
            trt_explore(lambda example: pytest.skip("not for this model"))

        def test_fails(trt_explore, trt_sessions):
            def check(example):
                if example.binding["batch"] > 2:
                    pytest.fail("too many", pytrace=False)
            trt_explore(check)
        """
    )
    result = run(project, *FAKE)
    assert {record.cell.test: record.verdict for record in records()} == {
        "test_lacks": "not_covered",
        "test_skips": "not_covered",
        "test_fails": "failed",
    }
    result.stdout.fnmatch_lines(["*smallest *batch=3 seed=0*"])


def test_known_failures_hold_for_examples(project: pytest.Pytester, records: Records):
    project.makepyfile(TRIES)
    folder = project.mkdir("expectations")
    (folder / "fake.toml").write_text(
        """
        [[failure]]
        test = "test_tries"
        stage = "compare"
        message = "batch=5 seed=0 on .*: values differ"
        cause = "planted"
        owner = "tests"
        expires = 2999-01-01
        """
    )
    project.makeini((project.path / "tox.ini").read_text())
    assert run(project, *FAKE).ret == pytest.ExitCode.TESTS_FAILED  # it passes, and is known to fail
    (record,) = records()
    assert record.verdict == "unexpected_pass"


def test_effort_is_ci_where_ci_is_set(monkeypatch: pytest.MonkeyPatch):
    from harness.settings import Settings

    monkeypatch.delenv("CI", raising=False)
    assert Settings().effort_here == "dev"
    monkeypatch.setenv("CI", "true")
    assert Settings().effort_here == "ci"
    assert Settings.read({"effort": "nightly"}, environment={}).effort_here == "nightly"
