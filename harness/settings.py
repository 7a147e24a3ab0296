"""Every setting of the project, once: what it is called, where it may be given, what it means.

The table is the fields of `Settings`. A setting ``build_timeout`` is the option
``--trt-build-timeout`` of pytest (``--build-timeout`` of the command line where a command has it),
the variable ``TRT_HARNESS_BUILD_TIMEOUT``, the key ``trt_build_timeout`` of pytest's configuration
file, and ``build_timeout`` under ``[tool.trt-harness]`` in ``pyproject.toml``. The first that says
anything wins, in this order; then the default holds.
"""

# ruff: noqa: RUF009 (a row of the table is a call)
from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import SpecError
from harness.spec.build import BuildConfig
from harness.spec.duration import parse_duration
from harness.spec.example import Example
from harness.spec.names import suggestion
from harness.spec.precision import RECIPES
from harness.spec.profile import POINTS
from harness.spec.size import parse_size

BACKENDS = ("tensorrt", "tensorrt_rtx", "onnxruntime")
RUNTIMES = ("tensorrt_lean", "tensorrt_dispatch")  # that load plans of `tensorrt` and build none: no cells' backends
BEST = "best"  # the first of BACKENDS that can do what a test needs
Effort = Literal["dev", "ci", "nightly"]  # how many shapes are tried, and how they are chosen: `harness.strategies`
EFFORTS: tuple[Effort, ...] = get_args(Effort)
Perf = Literal["off", "screen", "gate"]  # what becomes of performance: `harness.ledger.gate`
PERFS: tuple[Perf, ...] = get_args(Perf)
FAKE = "fake"  # plays a backend in the harness's own tests; "fake:nan" is one that misbehaves


@dataclass(frozen=True)
class Setting:
    """One row of the table. ``parse`` gets the texts that were given, and the folder that paths start from."""

    name: str
    default: Any
    help: str
    metavar: str
    parse: Callable[[Sequence[str], Path], Any]
    many: bool = False  # may be repeated, and lists its values with commas
    flag: bool = False  # an option without a value

    @property
    def option(self) -> str:
        return f"--trt-{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"TRT_HARNESS_{self.name.upper()}"

    @property
    def key(self) -> str:
        """The key in pytest's configuration file."""
        return f"trt_{self.name}"


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count``, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def _row(
    default: Any,
    parse: Callable[[Sequence[str], Path], Any],
    metavar: str,
    help: str,
    *,
    many: bool = False,
    flag: bool = False,
) -> Any:
    return dataclasses.field(
        default=default,
        metadata={"row": {"help": help, "metavar": metavar, "parse": parse, "many": many, "flag": flag}},
    )


def _last(convert: Callable[[str], Any]) -> Callable[[Sequence[str], Path], Any]:
    return lambda texts, _base: convert(texts[-1])


def _names(texts: Sequence[str], _base: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _chosen(known: Iterable[str], *, also: Callable[[str], bool] = lambda _: False) -> Callable[..., tuple[str, ...]]:
    choices = tuple(known)

    def parse(texts: Sequence[str], base: Path) -> tuple[str, ...]:
        for text in texts:
            if text not in choices and not also(text):
                raise SpecError(f"unknown {text!r}: {suggestion(text, choices)}choose from {', '.join(choices)}")
        return _names(texts, base)

    return parse


def _path(texts: Sequence[str], base: Path) -> Path:
    return base / Path(texts[-1]).expanduser()


def _store(texts: Sequence[str], base: Path) -> str:
    """An address as it is, a path from ``base``."""
    return texts[-1] if "://" in texts[-1] else str(_path(texts, base))


def _paths(texts: Sequence[str], base: Path) -> tuple[Path, ...]:
    return tuple(_path([text], base) for text in texts)


def _shard(text: str) -> Shard:
    number, slash, count = text.partition("/")
    if not slash or not number.isdigit() or not count.isdigit() or not 1 <= int(number) <= int(count):
        raise SpecError(f"{text!r} is not a part of a whole: write i/n with i from 1 to n, as in 2/8")
    return Shard(int(number), int(count))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SpecError(f"{text!r} is not a time: write seconds, more than 0")
    return seconds


def _whole(text: str) -> int:
    if not text.isdigit():
        raise SpecError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise SpecError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _run_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text):
        raise SpecError(f"{text!r} names no run: write letters, digits, '.', '-' and '_'")
    return text


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise SpecError(f"{text!r} is neither true nor false")
    return known[text.lower()]


def _effort(text: str) -> Effort:
    for effort in EFFORTS:
        if text == effort:
            return effort
    raise SpecError(f"unknown {text!r}: {suggestion(text, EFFORTS)}choose from {', '.join(EFFORTS)}")


def _perf(text: str) -> Perf:
    for mode in PERFS:
        if text == mode:
            return mode
    raise SpecError(f"unknown {text!r}: {suggestion(text, PERFS)}choose from {', '.join(PERFS)}")


def _installations(texts: Sequence[str], base: Path) -> tuple[tuple[str, str], ...]:
    _pairs(texts, base)
    return tuple((text.rpartition("=")[0], _program(text.rpartition("=")[2], base)) for text in texts)


def _pairs(texts: Sequence[str], _base: Path) -> tuple[tuple[str, str], ...]:
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise SpecError(f"{text!r}: write KEY=VALUE")
    return tuple((text.partition("=")[0], text.partition("=")[2]) for text in texts)


def _interpreters(texts: Sequence[str], base: Path) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(texts, base)
    _chosen((*BACKENDS, *RUNTIMES))([backend for backend, _ in pairs], base)
    return tuple((backend, _program(file, base)) for backend, file in pairs)


def _program(file: str, base: Path) -> str:
    # Not resolved: a virtual environment's interpreter is a link, and is told by where it lies.
    path = shutil.which(os.path.abspath(base / Path(file).expanduser()) if os.sep in file else file)  # noqa: PTH100
    if path is None:
        raise SpecError(f"{file!r} is no program: name a Python that has the backend's packages")
    return path


def _build_options(texts: Sequence[str], base: Path) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(texts, base)
    BuildConfig().with_options(dict(pairs))  # refuses what does not exist, here and not in every cell
    return pairs


@dataclass(frozen=True)
class Settings:
    """What a run was asked for. Every field is a row of the table."""

    backend: tuple[str, ...] = _row(
        BACKENDS,
        _chosen((*BACKENDS, BEST), also=lambda name: name.partition(":")[0] == FAKE),
        "NAMES",
        f"backends to cover: {', '.join(BACKENDS)}, or '{BEST}', the first of them that can do what a test needs",
        many=True,
    )
    model: tuple[str, ...] = _row((), _names, "PATTERNS", "models to cover, by name or pattern (conv*)", many=True)
    precision: tuple[str, ...] = _row(
        tuple(RECIPES), _chosen(RECIPES), "NAMES", f"precisions to cover: {', '.join(RECIPES)}", many=True
    )
    size: tuple[str, ...] = _row(
        (),
        _names,
        "SIZES",
        "sizes of models to cover: tiny, full (default: tiny, and every model of your own)",
        many=True,
    )
    point: tuple[str, ...] = _row(
        POINTS, _chosen(POINTS), "POINTS", f"points of every profile to cover: {', '.join(POINTS)}", many=True
    )
    shard: Shard | None = _row(
        None, _last(_shard), "I/N", "cover part I of N: whole engines, and every cell in exactly one part"
    )
    models: tuple[Path, ...] = _row(
        (), _paths, "FILE_OR_FOLDER", "models of your own: .onnx and .toml files, or folders of them", many=True
    )
    cache: Path | None = _row(
        None, _path, "DIR", "where plans and timing caches are kept (default: the user's cache folder)"
    )
    cache_size: int = _row(
        10 << 30, _last(parse_size), "SIZE", "plans are kept up to this size in total: those used longest ago go first"
    )
    timing_cache: Path | None = _row(
        None, _path, "FILE", "timing cache to start from where there is one, and to write in the end"
    )
    trust: tuple[Path, ...] = _row(
        (), _paths, "FILE_OR_FOLDER", "plans from elsewhere that may be loaded: a plan is code", many=True
    )
    output: Path | None = _row(
        None, _path, "DIR", "where records go (default: .trt-harness/runs/<run id> in the root folder)"
    )
    run: str | None = _row(
        None,
        _last(_run_id),
        "ID",
        "id of the run: begun again by the same one, it leaves out what has a record (default: a new one)",
    )
    budget: float | None = _row(
        None,
        _last(parse_duration),
        "TIME",
        "no cell begins later than this after the run did, as in 90m; of performance, the most valuable come first, "
        "in turns with what was begun longest ago",
    )
    expectations: Path | None = _row(
        None, _path, "DIR", "known failures, one <backend>.toml a backend (default: those beside the tests that run)"
    )
    in_process: bool = _row(
        False,
        _last(_flag),
        "",
        "run every backend inside this process, for a debugger: a crash ends the run",
        flag=True,
    )
    python: tuple[tuple[str, str], ...] = _row(
        (),
        _interpreters,
        "BACKEND=PYTHON",
        "interpreter that has a backend's packages; that of tensorrt serves its lean and dispatch runtimes, too "
        "(default: this one)",
        many=True,
    )
    build_timeout: float = _row(900.0, _last(_seconds), "SECONDS", "a build that takes longer is killed and fails")
    run_timeout: float = _row(120.0, _last(_seconds), "SECONDS", "any other call that takes longer is killed and fails")
    probe_timeout: float = _row(60.0, _last(_seconds), "SECONDS", "a probe that takes longer counts as a hang")
    build_option: tuple[tuple[str, str], ...] = _row(
        (), _build_options, "KEY=VALUE", "build option of every engine, as in optimization_level=1", many=True
    )
    memory: int = _row(
        4 << 30, _last(parse_size), "SIZE", "engines are kept loaded up to this much memory in total, as in 4GiB"
    )
    share: int = _row(
        1, _last(_count), "NUMBER", "workers that may use one GPU at a time; a measurement wants it for itself"
    )
    seed: int = _row(0, _last(_whole), "NUMBER", "seed of generated inputs")
    effort: Effort | None = _row(
        None,
        _last(_effort),
        "EFFORT",
        f"how many shapes are tried inside the profiles: {', '.join(EFFORTS)} (default: ci where the variable CI is "
        "set, dev elsewhere)",
    )
    example: Example | None = _row(
        None, _last(Example.parse), "JSON", "try this one example, as a failure names it, in place of all others"
    )
    perf: Perf = _row(
        "off",
        _last(_perf),
        "MODE",
        "whether performance is measured: off, screen (against baselines, failing nothing), gate (what looks slower is "
        "measured beside the baseline's plan, and fails where that confirms it)",
    )
    perf_metrics: tuple[str, ...] = _row(
        ("*",),
        _names,
        "PATTERNS",
        "metrics to measure, by name or pattern, as in gpu-graph,plan* "
        "(a name is written with dashes for spaces and commas: a comma ends it)",
        many=True,
    )
    perf_processes: int = _row(
        4,
        _last(_count),
        "NUMBER",
        "processes that a cell is measured in, each of its own; of several builds that differ, two of each at least",
    )
    perf_builds: int = _row(
        3,
        _last(_count),
        "NUMBER",
        "builds of an engine whose processes are measured; fewer than 3 tell no change from the lottery of builds",
    )
    perf_seconds: float = _row(1.0, _last(_seconds), "SECONDS", "a process samples no longer in one way to run")
    store: str | None = _row(
        None,
        _store,
        "URL_OR_PATH",
        "where measurements are kept: a file of SQLite, or postgresql://... (default on the command line: "
        ".trt-harness/store.sqlite; in pytest nothing is stored unless it is given)",
    )
    baselines: Path | None = _row(
        None, _path, "FILE", "baselines and policies (default: trt-baselines.toml in the root folder)"
    )
    kept: Path | None = _row(
        None, _path, "DIR", "where the plans of baselines are kept (default: .trt-harness/plans in the root folder)"
    )
    canaries: Path | None = _row(
        None,
        _path,
        "FILE",
        "what canaries measured tonight, as trt-harness nightly leaves it: where one moved since its baseline, "
        "nothing fails by history alone",
    )
    installation: tuple[tuple[str, str], ...] = _row(
        (),
        _installations,
        "VERSION=PYTHON",
        "interpreter that has another version of the library, for plans of baselines that it built",
        many=True,
    )
    examples: Path | None = _row(
        None, _path, "FILE", "examples to try before any other, by model (default: examples.toml beside the tests)"
    )

    @property
    def effort_here(self) -> Effort:
        """The effort asked for; left out, that of a CI job where the variable CI says that this is one."""
        return self.effort or ("ci" if os.environ.get("CI") else "dev")

    def under(self, program: str) -> Settings:
        """The same, with this interpreter for every backend: none of them is in this process."""
        names = ("tensorrt", "tensorrt_rtx", "onnxruntime", FAKE)
        return dataclasses.replace(self, python=tuple((name, program) for name in names), in_process=False)

    @classmethod
    def table(cls) -> tuple[Setting, ...]:
        return tuple(Setting(field.name, field.default, **field.metadata["row"]) for field in dataclasses.fields(cls))

    @classmethod
    def read(
        cls,
        options: Mapping[str, Any],
        file: Mapping[str, Any] | None = None,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Settings:
        """Options, then environment, then ``file`` (by name), then ``[tool.trt-harness]``, then default.

        Values are texts or sequences of texts; None says nothing. Paths of options and variables are
        relative to the current folder, those of files to ``folder``. SpecError names the source of a
        value that is not understood, and what could stand there.
        """
        environment = os.environ if environment is None else environment
        folder = Path.cwd() if folder is None else folder
        project = _project(folder)
        unknown = sorted(project.keys() - {row.name for row in cls.table()})
        if unknown:
            hint = suggestion(unknown[0], [row.name for row in cls.table()])
            raise SpecError(
                f"{folder / 'pyproject.toml'}: [tool.trt-harness]: unknown key {unknown[0]!r}. {hint}".strip()
            )
        found = {}
        for row in cls.table():
            sources = (
                (row.option, options.get(row.name), Path.cwd()),
                (row.variable, environment.get(row.variable), Path.cwd()),
                (row.key, (file or {}).get(row.name), folder),
                (f"[tool.trt-harness] {row.name}", project.get(row.name), folder),
            )
            for source, value, base in sources:
                texts = _texts(value, row.many)
                if texts:
                    try:
                        found[row.name] = row.parse(texts, base)
                    except SpecError as error:
                        raise SpecError(f"{source}: {error}") from None
                    break
        return cls(**found)


def _texts(value: Any, many: bool) -> list[str]:
    """What one source says, as texts; nothing for None and for empty text."""
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple)) else [value]
    texts = [str(item) for item in values]
    if many:
        texts = [part for text in texts for line in text.splitlines() for part in line.split(",")]
    return [text.strip() for text in texts if text.strip()]


def _project(folder: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}  # pytest and pip say what is wrong with it
    section: Mapping[str, Any] = content.get("tool", {}).get("trt-harness", {})
    return section
