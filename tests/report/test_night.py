"""The summary of a night, as what shows it reads it."""

from __future__ import annotations

import dataclasses
import random
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.ledger.gate import Question, Ruling
from harness.ledger.records import Record, Run
from harness.measure.finding import Finding, Said
from harness.pytest_plugin.perf import _as_fact
from harness.report.markdown import escaped, head, row
from harness.report.night import LIMIT, NO_BASELINE, Beside, Standing, environments, summary
from harness.report.printable import shown
from tests.report.measured import AT, LATENCY, perf, record, unhurried

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
PARTS = (
    "Failed", "Open", "Regressions that fail nothing", "Other models than the baselines of their names",
    "Improvements", "Not covered, not run", "Canaries", "Environment", "Suites", "Means", "Cells",
)  # fmt: skip


def ruling(
    model: str,
    said: Said,
    a: float | None = 0.001,
    b: float = 0.001,
    metric: str = "gpu, graph",
    words: str = "as it was",
    unit: str = "s",
    **fields: Any,
) -> dict[str, Any]:
    finding = Finding(f"{model}-fp16-opt-tensorrt on NVIDIA H200", metric, said, words, a, b, unit)
    return _as_fact(Ruling(finding, **{"question": Question.REBUILT, **fields}))


def ruled(model: str, *rulings: dict[str, Any], **fields: Any) -> Record:
    failing = any(one["fails"] for one in rulings)
    found = record(model, "failed" if failing else "passed", facts={"perf": perf(model, {}, rulings)}, stage="compare")
    return dataclasses.replace(found, **fields)


NIGHT = Run(
    (
        ruled("mlp", ruling("mlp", Said.PASS)),
        ruled("conv", ruling("conv", Said.REGRESSION, b=0.00102, words="slower by 2.0 %")),
        ruled(
            "bert",
            ruling("bert", Said.REGRESSION, b=0.0015, words="slower by 50 %"),
            ruling("bert", Said.REGRESSION, 100.0, 96.0, "throughput", "lower by 4 %", "runs/s"),
        ),
        ruled("gru", ruling("gru", Said.INCONCLUSIVE, b=0.00101, words="suspected, not confirmed")),
        ruled("swap", ruling("swap", Said.NOTED, b=0.006, words="another model", held=False)),
        ruled("lstm", ruling("lstm", Said.HOST_CHANGED, words="a canary moved")),
        ruled("nms", ruling("nms", Said.REGRESSION, b=0.0011, excuse="quarantined by ann until 2027-01-01: flaky")),
        ruled("vit", ruling("vit", Said.IMPROVEMENT, b=0.0008, words="faster by 20 %")),
        ruled(
            "tree",
            ruling("tree", Said.REGRESSION, b=0.002, words="slower by 100 %"),
            verdict="known_failure",
            cause="a tactic is missing, see 123",
        ),
        record(
            "rnn",
            "failed",
            {},
            stage="compare",
            message="\ny: max abs error 0.3\nworst at [0]",
            node="suites/numerics/a.py::t",
        ),
        record("moe", "not_covered", {}, message="fp8: no Hopper", fix="an H100", environment={}),
        record("moe2", "not_covered", {}, message="fp8: no Hopper", fix="an H100", environment={}),
        record("lat", facts=LATENCY),
    ),
    ("run/gw0.jsonl:7: not JSON",),
)
BESIDE = Beside(
    "Night of 21 September",
    canaries=("arithmetic: as it was", "memory: 0.4 % slower"),
    before={"tensorrt": {"library": "10.8.0", "version": "10.9.0", "driver": "575.57", "gpu_uuid": "GPU-1b2c"}},
    not_run={"another shard's": 12},
)


def tables(text: str) -> dict[str, list[list[str]]]:
    """What a reader makes of each part: its rows, cell by cell, as they are shown."""
    found: dict[str, list[list[str]]] = {}
    title, tokens = "", READER.parse(text)
    for number, token in enumerate(tokens):
        assert token.type != "html_block"
        if token.type == "heading_open":
            title = plain(tokens[number + 1])
        elif token.type == "tr_open":
            found.setdefault(title, []).append([])
        elif token.type in ("td_open", "th_open"):
            found[title][-1].append(plain(tokens[number + 1]))
    return {title: rows[1:] for title, rows in found.items()}


def plain(token: Any) -> str:
    """Of inline content, what is shown of it; nothing there may be HTML, a link or code."""
    for child in token.children:
        assert child.type in ("text", "text_special", "strong_open", "strong_close", "softbreak"), child.type
    return "".join(child.content for child in token.children)


@pytest.fixture(scope="module")
def parts() -> dict[str, list[list[str]]]:
    return tables(summary([NIGHT], BESIDE))


def cell(model: str) -> str:
    return f"{model}-fp16-opt-tensorrt on NVIDIA H200"


@pytest.mark.parametrize(
    ("records", "standing"),
    [
        ([ruled("mlp", ruling("mlp", Said.PASS))], (0, 0, 1)),
        ([ruled("mlp", ruling("mlp", Said.UNSTABLE)), record("moe", "not_covered", {})], (0, 1, 1)),
        ([ruled("mlp", ruling("mlp", Said.REGRESSION, excuse="quarantined"))], (0, 0, 1)),
        ([ruled("mlp", ruling("mlp", Said.REGRESSION))], (2, 0, 1)),  # the cell and its metric
        ([record("rnn", "error", {}, stage="run", message="crashed")], (2, 0, 1)),
        ([record("moe", "not_covered", {}, message="budget: not run")], (0, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_where_a_night_stands(records: list[Record], standing: tuple[int, int, int]) -> None:
    found = Standing.of(records)
    assert (found.failed, found.open, found.covered) == standing


def test_what_went_wrong_beside_all_cells_comes_first() -> None:
    beside = Beside(
        host_changed=True,
        faults=("correctness: pytest ended with exit status 3: an internal error",),
        changes=("gpu, graph: 2 of 3 cells since night 2026-01-26",),
    )
    text = summary([Run((ruled("mlp", ruling("mlp", Said.PASS)),))], beside)
    assert "**FAILED: 1 fault**; the host changed. 1 cell: 1 passed." in text
    found = tables(text)
    assert next(iter(found)) == "Faults of the night"
    assert found["Faults of the night"] == [list(beside.faults)]
    assert found["Change points"] == [list(beside.changes)]


def test_cells_for_which_there_was_no_time_are_counted_as_not_run() -> None:
    left = [record(f"m{number}", "not_covered", {}, message="budget: not run", node=f"{number}") for number in range(3)]
    found = tables(summary([Run((*left, record("moe", "not_covered", {}, message="fp8: no Hopper")))]))
    rows = [row[:2] for row in found["Not covered, not run"]]
    assert rows == [["3 cells not run", "budget: not run"], ["1 cell not covered", "fp8: no Hopper"]]


def test_a_night_that_passes_as_far_as_it_got_says_so() -> None:
    left = record("moe", "not_covered", {}, message="budget: not run")
    text = summary([Run((ruled("mlp", ruling("mlp", Said.PASS)), left))])
    assert "**PASSED**; 1 cell not run. 2 cells: 1 passed, 1 not covered." in text


class TestWhatItSays:
    def test_the_outcome_stands_in_one_line(self) -> None:
        title, _, outcome, *_ = summary([NIGHT], BESIDE).splitlines()
        assert title == "# Night of 21 September"
        assert outcome == (
            "**FAILED: 3 regressions and 1 failure**; 2 metrics open. 13 cells: 7 passed, 3 failed, 1 known failure, "
            "2 not covered."
        )

    @pytest.mark.parametrize(
        ("records", "said"),
        [
            ([ruled("mlp", ruling("mlp", Said.PASS))], "**PASSED**. 1 cell: 1 passed."),
            ([record("moe", "not_covered", {})], "**NOTHING was covered**. 1 cell: 1 not covered."),
            ([record("mlp", "error", {})], "**FAILED: 1 failure**. 1 cell: 1 error."),
            ([record("mlp", "unexpected_pass", {})], "**FAILED: 1 failure**. 1 cell: 1 unexpected pass."),
            ([], "**NOTHING was covered**. No cell."),
        ],
    )
    def test_outcomes(self, records: list[Record], said: str) -> None:
        assert summary([Run(tuple(records))]).splitlines()[2] == said

    def test_what_failed_the_worst_first_with_its_words(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Failed"] == [
            ["test_runs[rnn-fp16-opt-tensorrt]", "", "FAILED", "failed at compare: y: max abs error 0.3"],
            [cell("bert"), "gpu, graph", "REGRESSION", "slower by 50 %"],
            [cell("bert"), "throughput", "REGRESSION", "lower by 4 %"],
            [cell("conv"), "gpu, graph", "REGRESSION", "slower by 2.0 %"],
        ]

    def test_what_is_open(self, parts: dict[str, list[list[str]]]) -> None:
        assert [rows[0:3:2] for rows in parts["Open"]] == [
            [cell("lstm"), "HOST CHANGED"],
            [cell("gru"), "INCONCLUSIVE"],
        ]

    def test_what_does_not_decide_is_not_open(self) -> None:
        undecided = {**ruling("mlp", Said.INCONCLUSIVE, metric="build"), "decides": False}
        text = summary([Run((ruled("mlp", undecided),))])
        assert "Open" not in tables(text)
        assert "open" not in text.splitlines()[2]

    def test_regressions_that_fail_nothing_say_why(self, parts: dict[str, list[list[str]]]) -> None:
        assert [(rows[0], rows[3]) for rows in parts["Regressions that fail nothing"]] == [
            (cell("tree"), "slower by 100 % (a tactic is missing, see 123)"),
            (cell("nms"), "as it was (quarantined by ann until 2027-01-01: flaky)"),
        ]

    def test_other_models_under_known_names(self, parts: dict[str, list[list[str]]]) -> None:
        found = parts["Other models than the baselines of their names"]
        assert found == [[cell("swap"), "gpu, graph", "NOTED", "another model"]]
        assert [cell("swap"), "gpu, graph", "1 ms", "6 ms", "", "NOTED"] in parts["Cells"]

    def test_improvements(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Improvements"] == [[cell("vit"), "gpu, graph", "IMPROVEMENT", "faster by 20 %"]]

    def test_what_was_left_out_by_reason(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Not covered, not run"] == [
            ["1 record", "can't be read: run/gw0.jsonl:7: not JSON", ""],
            ["12 cells not run", "another shard's", ""],
            ["2 cells not covered", "fp8: no Hopper", "an H100"],
            ["9 metrics not measured", "device memory: this backend tells no device memory", ""],
            ["2 metrics", NO_BASELINE, ""],
        ]

    def test_canaries(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Canaries"] == [["arithmetic: as it was"], ["memory: 0.4 % slower"]]

    def test_what_changed_of_the_environment_comes_first(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Environment"] == [
            ["tensorrt", "library", "10.9.0", "10.8.0"],
            ["tensorrt", "driver", "575.57", "the same"],
            ["tensorrt", "gpu_uuid", "GPU-1b2c", "the same"],
            ["tensorrt", "version", "10.9.0", "the same"],
        ]
        assert "| **10.9.0** | 10.8.0 |" in summary([NIGHT], BESIDE)

    def test_what_tonight_does_not_tell_did_not_change(self) -> None:
        before = {"tensorrt": {"library": "10.9.0", "power_limit": "700 W"}}
        text = summary([NIGHT], dataclasses.replace(BESIDE, before=before))
        found = {name: cells for _, name, *cells in tables(text)["Environment"]}
        assert found["power_limit"] == ["unknown", "700 W"]
        assert "**unknown**" not in text

    def test_without_a_last_night_nothing_is_said_to_be_the_same(self) -> None:
        assert tables(summary([NIGHT]))["Environment"][0] == ["tensorrt", "driver", "575.57"]

    def test_environments_of_several_hosts(self) -> None:
        other = perf("mlp", environment={"library": "10.8.0", "host": "b"})
        here = record("gru", facts={}, environment={"version": "10.9.0", "host": {"python": "3.11"}, "driver": "575"})
        assert environments([record("mlp", facts={"perf": other}), here]) == {
            "tensorrt": {"driver": "575", "host": "b", "library": "10.8.0, 10.9.0", "version": "10.9.0"}
        }

    def test_suites(self, parts: dict[str, list[list[str]]]) -> None:
        assert parts["Suites"] == [
            ["suites/latency", "12", "7", "0", "2", "1", "0", "2", "0"],
            ["suites/numerics", "1", "0", "0", "1", "0", "0", "0", "0"],
        ]

    def test_a_suite_of_a_package_is_its_file(self) -> None:
        night = Run(tuple(dataclasses.replace(record(), node=f"{name}.py::{name}") for name in ("test_a", "test_b")))
        assert [row[:2] for row in tables(summary([night]))["Suites"]] == [["test_a.py", "1"], ["test_b.py", "1"]]

    def test_means_are_geometric_and_turned(self) -> None:
        night = Run(
            tuple(
                ruled(
                    f"m{number}",
                    ruling(f"m{number}", Said.PASS, 0.001, 0.001 * ratio),
                    ruling(f"m{number}", Said.PASS, 800.0, 800.0 / ratio, "throughput", unit="runs/s"),
                )
                for number, ratio in enumerate((1.21, 1.0))
            )
        )
        graph, throughput = tables(summary([night]))["Means"]
        assert graph[:2] == ["gpu, graph", "2"]
        assert graph[2].startswith("slower by 10.0 %")
        assert throughput[2].startswith("lower by 9.1 %")

    def test_what_drifted_since_a_release_is_not_in_the_mean_of_a_night(self) -> None:
        night = [
            ruled(model, ruling(model, Said.PASS), ruling(model, Said.REGRESSION, b=0.002, question=Question.DRIFT))
            for model in ("mlp", "bert")
        ]
        found = tables(summary([Run(tuple(night))]))
        assert [rows[1:] for rows in found["Means"]] == [["2", "faster by 0.000 % (0.000 to 0.000)"]]
        assert [rows[1] for rows in found["Failed"]] == ["gpu, graph, drift"] * 2
        assert len(found["Cells"]) == 4

    def test_cells(self, parts: dict[str, list[list[str]]]) -> None:
        assert len(parts["Cells"]) == 12
        assert parts["Cells"][0] == [cell("bert"), "gpu, graph", "1 ms", "1.5 ms", "+50.00 %", "REGRESSION"]
        assert parts["Cells"][1][2:5] == ["100 runs/s", "96 runs/s", "-4.00 %"]
        assert ["test_runs[lat-fp16-opt-tensorrt] on NVIDIA H200", "gpu", "", "2 ms", "", "NOTED"] in parts["Cells"]

    def test_of_several_runs_the_last_of_each_cell(self) -> None:
        mended = dataclasses.replace(NIGHT.records[1], verdict="passed", started=AT + 9, facts={}, run="second")
        assert cell("conv") not in str(tables(summary([NIGHT, Run((mended,))]))["Failed"])

    def test_a_regression_is_not_hidden_by_another_test_of_the_cell(self) -> None:
        bad, good = (ruled("mlp", ruling("mlp", said, b=0.0012)) for said in (Said.REGRESSION, Said.PASS))
        for night in ((bad, good), (good, bad)):
            records = tuple(dataclasses.replace(one, node=f"a.py::{number}") for number, one in enumerate(night))
            assert [rows[2] for rows in tables(summary([Run(records)]))["Failed"]] == ["REGRESSION"]

    def test_facts_of_a_users_own_are_no_measurement(self) -> None:
        assert "Cells" not in tables(summary([Run((record(facts={"perf": {"mine": 1}}),))]))


SIGNS = "\\`*_[]~$#!(){}|<>&@-+=.:;'\"\n\r\t\u202e\u200b\x1b\x00 aé漢😀"
texts = st.text(SIGNS, max_size=40) | st.text(max_size=40)
SUBJECT = 150  # characters of a cell's name, at most


class TestNames:
    @unhurried
    @given(name=texts)
    @example("a|b\\|c")
    @example("<script>alert(1)</script>")
    @example("&lt;b&gt; &#124; &amp;")
    @example("![x](http://a/b.png) [y](z) ``c`` **d** ~~e~~")
    @example("| --- |")
    def test_any_reads_as_it_is(self, name: str) -> None:
        """One cell of a table, and nothing else made of it."""
        assert not set("<>|") & set(escaped(name))  # whatever else reads it
        text = "\n".join([*head(["a", "b"]), row([escaped(name), "last"])])
        ((first, last),) = tables(text)[""]
        assert first.replace("@\u200b", "@") == shown(" ".join(name.split()))
        assert last == "last"

    def test_nobody_is_mentioned(self) -> None:
        assert re.search(r"@\w", escaped("@someone and a@b")) is None
        assert escaped("a @ b") == "a @ b"

    def test_what_is_long_is_cut(self) -> None:
        assert escaped("*" * 500, 10) == "\\*" * 9 + "…"

    @unhurried
    @given(name=texts.filter(str.strip), words=texts)
    def test_any_in_the_whole(self, name: str, words: str) -> None:
        made = dataclasses.replace(
            ruled(name, ruling(name, Said.REGRESSION, b=0.002, words=words, metric=name)),
            node=f"{name}/a.py::b",
            message=words,
        )
        beside = Beside(name, (words,), {name: {words: name}}, {words: 1})
        text = summary([Run((made, record(name, "not_covered", {}, message=words, fix=name)), (words,))], beside)
        (failed,) = tables(text)["Failed"]
        assert len(failed) == 4
        whole = shown(" ".join(cell(name).split()))
        want = whole if len(whole) <= SUBJECT else f"{whole[: SUBJECT - 1]}…"
        assert failed[0].replace("@\u200b", "@") == want


class TestSize:
    @staticmethod
    def night(count: int, said: Said, length: int = 12, sign: str = "x") -> Run:
        rng = random.Random(1)
        made = []
        for number in range(count):
            model = f"{number}{sign * length}"
            ratio = 1 + rng.random() / 10
            rulings = [
                ruling(model, said, 0.001, 0.001 * ratio, metric, "slower: " + sign * length)
                for metric in ("gpu, graph", "gpu, plain", "end to end")
            ]
            made.append(ruled(model, *rulings))
        return Run(tuple(made), tuple(f"{sign * length}{number}" for number in range(99)))

    @pytest.mark.parametrize("said", [Said.REGRESSION, Said.INCONCLUSIVE, Said.PASS, Said.IMPROVEMENT])
    def test_thousands_of_cells(self, said: Said) -> None:
        count = 5000 if said is Said.REGRESSION else 1500  # which is more than enough of what needs no list of its own
        text = summary([self.night(count, said)])
        assert LIMIT * 0.4 < len(text.encode()) < LIMIT
        cells = tables(text)["Cells"]
        (more,) = re.findall(r"and ([\d,]+) more", text.partition("## Cells")[2])
        assert len(cells) + int(more.replace(",", "")) == 3 * count
        if said is Said.REGRESSION:
            failed = tables(text)["Failed"]
            assert len(failed) > 100
            assert text.startswith("# Night 20260921-142640-9f3a\n\n**FAILED: 15,000 regressions**")

    @pytest.mark.parametrize("sign", ["|", "😀", "@a", "\x1b", "<b>"])
    def test_hostile_names(self, sign: str) -> None:
        beside = Beside(
            sign * 9000,
            canaries=[sign * 9000] * 999,
            before={f"{number}{sign * 99}": {sign * 99: sign * 999} for number in range(999)},
            not_run={f"{number}{sign * 999}": number for number in range(999)},
        )
        many = [
            record(f"{number}", "not_covered", {}, message=f"{number}{sign * 999}", node=f"{number}{sign * 99}/a.py::b")
            for number in range(999)
        ]
        text = summary([self.night(200, Said.REGRESSION, 400, sign), Run(tuple(many))], beside)
        assert len(text.encode()) < LIMIT
        found = tables(text)
        assert [title for title in PARTS if title in found] == [
            *("Failed", "Not covered, not run", "Canaries", "Environment", "Suites", "Means", "Cells"),
        ]
        assert text.count("more\n") >= 5
