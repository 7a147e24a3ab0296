"""Models that a user brings: ``.onnx`` files, and TOML files that say more than a model file can.

Every key of a TOML file, all optional but the first three, of which one is needed; paths are
relative to the file::

    model = "bert.onnx"                  # an ONNX file
    callable = "my_networks:build"       # or a function: fills a network, or returns the bytes of a plan
    plan = "bert.plan"                   # or a plan

    name = "my_bert"                     # the name of the TOML file when left out
    size = "full"
    family = "transformer"
    tags = ["nlp"]
    batch = "batch"                      # symbol whose rows do not influence each other
    special = true                       # infinities and NaN in the inputs have a defined result
    relations = ["kv >= q"]              # between sizes, beside their ranges: see harness.spec.space
    version = "2"                        # of a callable: change it when the network changes
    data = "inputs.npz"                  # inputs to use instead of generated ones
    golden = { inputs = "inputs.npz", outputs = "outputs.npz" }

    [[profiles]]                         # once a profile
    dims = { batch = "1:8:32", "ids:1" = [4, 16, 64], width = 224 }
    values = { size = { min = [1, 2], opt = [4, 4], max = [8, 8] } }

    [build]
    workspace = "2 GiB"
    optimization_level = 3
    flags = ["OBEY_PRECISION_CONSTRAINTS"]
    tactic_sources = ["CUBLAS"]
    plugins = ["libmine.so"]
    aux_streams = 0
    hardware_compatibility = "AMPERE_PLUS"
    profiling_verbosity = "DETAILED"
    targets = ["SM89"]
    refittable = ["head.weight"]

    [inputs.ids]                         # once a tensor; kinds: see InputRule
    kind = "integers"
    low = 0
    high = 30521

    [[tolerances]]
    precision = "fp16"
    atol = 1e-2
    rtol = 1e-2
    output = "*"
    reason = "logits of a 30k vocabulary, measured against fp64"
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

from harness.errors import SpecError
from harness.spec.build import BuildConfig
from harness.spec.canonical import plain
from harness.spec.catalog import Problem
from harness.spec.data import InputRule, Kind
from harness.spec.model import NAME, ModelSpec, ToleranceOverride, check_range
from harness.spec.names import suggestion
from harness.spec.precision import recipe
from harness.spec.profile import POINTS, Profile, Range, Values
from harness.spec.size import parse_size
from harness.spec.source import NetworkFunction, OnnxFile, PlanFile, Source
from harness.spec.space import Relation

T = TypeVar("T")
CALLABLE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def read(path: Path) -> tuple[list[ModelSpec], list[Problem]]:
    """The models of one ``.onnx`` or ``.toml`` file, or of every such file in one folder.

    In a folder, an ONNX file that a TOML file there speaks for is not a model of its own.
    """
    models: list[ModelSpec] = []
    problems: list[Problem] = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if path.is_dir() and file.suffix not in READERS:
            continue
        try:
            models.append(read_file(file))
        except SpecError as error:
            problems.append(Problem(file, str(error)))
    if path.is_dir() and not models and not problems:
        problems.append(Problem(path, f"{path}: holds no .onnx or .toml file"))
    declared = {_model_file(model) for model in models if model.origin.endswith(".toml")}
    return [m for m in models if m.origin.endswith(".toml") or _model_file(m) not in declared], problems


def read_file(file: Path) -> ModelSpec:
    """The model that ``file`` (.onnx or .toml) declares. SpecError names file, key and the known keys."""
    if not file.is_file():
        raise SpecError(f"{file}: no such file or folder")
    try:
        reader = READERS[file.suffix]
    except KeyError:
        raise SpecError(f"{file}: neither an .onnx nor a .toml file") from None
    return reader(file)


def name_of(file: Path) -> str:
    """A model name from a file's: ``resnet50-v1.5.onnx`` gives ``resnet50_v1_5``."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", file.stem).strip("_")
    return name if name[:1].isalpha() else f"m_{name}"


def to_toml(model: ModelSpec, file: Path) -> str:
    """The TOML file that declares ``model``, whose ONNX file is at ``file`` from there; `read_file` reads it.

    Paths of plugins, data and golden files are written as they are.
    """
    lines = [f"model = {_toml(str(file))}"]
    usual = ModelSpec(model.name, model.source)
    optional = ("size", "family", "tags", "batch", "special", "relations", "data")
    said = ["name", *(key for key in optional if getattr(model, key) != getattr(usual, key))]
    lines += [f"{key} = {_toml(getattr(model, key))}" for key in said]
    if golden := model.golden_files():
        lines.append(f"golden = {_toml(dict(zip(('inputs', 'outputs'), golden, strict=True)))}")
    for profile in model.profiles:
        values = {name: {point: getattr(held, point) for point in POINTS} for name, held in profile.values}
        lines += ["", "[[profiles]]", f"dims = {_toml({name: str(sizes) for name, sizes in profile.ranges})}"]
        lines += [f"values = {_toml(values)}"] if values else []
    config = {key: value for key, value in plain(model.config).items() if value not in (None, [])}
    if model.config.tactic_sources is not None:
        config["tactic_sources"] = model.config.tactic_sources
    tables = [("[build]", config)] if config else []
    for rule in model.inputs:
        usual_rule = plain(InputRule(rule.tensor, rule.kind))
        said_of_it = {key: value for key, value in plain(rule).items() if key == "kind" or value != usual_rule[key]}
        tables.append((f"[inputs.{_toml(rule.tensor)}]", said_of_it))
    tables += [("[[tolerances]]", plain(override)) for override in model.tolerances]
    for head, table in tables:
        lines += ["", head, *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML string


def _read_onnx(file: Path) -> ModelSpec:
    return ModelSpec(name_of(file), OnnxFile(file.absolute()), origin=str(file))


def _read_toml(file: Path) -> ModelSpec:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: not TOML: {error}") from None
    table = _Table(file, "", content)
    model = ModelSpec(
        name=table.take("name", _name, name_of(file)),
        source=_source(table),
        profiles=tuple(_profile(item) for item in table.tables("profiles")) or (Profile(),),
        inputs=tuple(_rule(name, item) for name, item in table.named("inputs")),
        size=table.take("size", _name, "tiny"),
        family=table.take("family", _text, ""),
        tags=table.take("tags", _texts, ()),
        batch=table.take("batch", _text, None),
        special=table.take("special", _flag, False),
        relations=table.take("relations", _relations, ()),
        config=_config(table.table("build")),
        tolerances=tuple(_tolerance(item) for item in table.tables("tolerances")),
        data=table.take("data", table.file_of, None),
        golden=_golden(table),
        origin=str(file),
    )
    table.close()
    _check_batch(table, model)
    return model


def _check_batch(table: _Table, model: ModelSpec) -> None:
    """SpecError for a batch that is in no profile: no test of rows would ever find it, or say so."""
    ranges = dict.fromkeys(symbol for profile in model.profiles for symbol, _ in profile.ranges)
    if model.batch is not None and ranges and model.batch not in ranges and isinstance(model.source, OnnxFile):
        raise table.error(
            f"batch = {model.batch!r}: no profile has a range of that name: {suggestion(model.batch, ranges)}"
            f"ranges: {', '.join(ranges)}; write the dimension there by its name in the model, too"
        )


READERS: dict[str, Callable[[Path], ModelSpec]] = {".onnx": _read_onnx, ".toml": _read_toml}


class _Table:
    """One TOML table that is read key by key; `close` refuses what nobody asked for."""

    def __init__(self, file: Path, where: str, content: Any) -> None:
        self.file, self.where, self.known = file, where, list[str]()
        if not isinstance(content, dict):
            raise self.error(f"expected a table, got {content!r}")
        self.content: dict[str, Any] = content

    def error(self, message: str) -> SpecError:
        return SpecError(f"{self.file}: " + (f"[{self.where}]: " if self.where else "") + message)

    def take(self, key: str, convert: Callable[[Any], T], default: T | Any = ...) -> Any:
        """The value of ``key``, converted; ``default`` (``...``: it is needed) when it is not there."""
        self.known.append(key)
        if key not in self.content:
            if default is ...:
                raise self.error(f"{key!r} is missing")
            return default
        try:
            return convert(self.content[key])
        except SpecError as error:
            raise self.error(f"{key} = {self.content[key]!r}: {error}") from None

    def table(self, key: str) -> _Table:
        return self.take(key, lambda content: _Table(self.file, self._below(key), content), None) or _Table(
            self.file, self._below(key), {}
        )

    def tables(self, key: str) -> list[_Table]:
        """An array of tables."""
        items = self.take(key, _items, [])
        return [_Table(self.file, f"{self._below(key)} {number}", item) for number, item in enumerate(items, 1)]

    def named(self, key: str) -> list[tuple[str, _Table]]:
        """A table of tables."""
        below = self.table(key)
        return [(name, _Table(self.file, f"{below.where}.{name}", item)) for name, item in below.content.items()]

    def file_of(self, value: Any) -> Path:
        """A file that must be there, relative to the TOML file."""
        path = self.file.absolute().parent / _text(value)
        if not path.is_file():
            raise SpecError(f"no such file: {path}")
        return path

    def close(self) -> None:
        for key in self.content:
            if key not in self.known:
                raise self.error(
                    f"unknown key {key!r}: {suggestion(key, self.known)}known keys: {', '.join(self.known)}"
                )

    def _below(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def _source(table: _Table) -> Source:
    version = table.take("version", _text, "")
    sources: dict[str, Source | None] = {
        "model": table.take("model", lambda value: OnnxFile(table.file_of(value)), None),
        "callable": table.take(
            "callable",
            lambda value: NetworkFunction(_target(value), table.file.absolute().parent, version),
            None,
        ),
        "plan": table.take("plan", lambda value: PlanFile(table.file_of(value)), None),
    }
    given = [key for key, source in sources.items() if source is not None]
    if len(given) != 1:
        table.close()  # a misspelt key is the better explanation
        raise table.error(f"give one of {', '.join(sources)}; given: {' and '.join(given) or 'none'}")
    if version and given != ["callable"]:
        raise table.error("'version' goes with 'callable': other models are known by their bytes")
    return next(source for source in sources.values() if source is not None)


def _profile(table: _Table) -> Profile:
    dims: _Table = table.table("dims")
    values = dict[str, Values]()
    ranges = {}
    for symbol in dims.content:
        ranges[symbol] = dims.take(symbol, _range)
        check_range(f"{table.file}: [{table.where}]", symbol, ranges[symbol])
    for tensor, item in table.named("values"):
        low, opt, high = (item.take(point, _integers) for point in ("min", "opt", "max"))
        item.close()
        if not len(low) == len(opt) == len(high):
            raise item.error(
                f"min, opt and max hold {len(low)}, {len(opt)} and {len(high)} numbers: give as many to each"
            )
        values[tensor] = Values(low, opt, high)
    table.close()
    return Profile.of(ranges, values)


def _rule(tensor: str, table: _Table) -> InputRule:
    rule = InputRule(
        tensor,
        table.take("kind", _kind),
        table.take("low", _number, 0.0),
        table.take("high", _number, 1.0),
        table.take("symbol", _text, ""),
    )
    table.close()
    if rule.low > rule.high:
        raise table.error(f"low {rule.low:g} is above high {rule.high:g}")
    if rule.kind == "lengths" and not rule.symbol:
        raise table.error("kind 'lengths' needs the 'symbol' whose size is the greatest length")
    return rule


def _config(table: _Table) -> BuildConfig:
    config = BuildConfig(
        workspace=table.take("workspace", parse_size, None),
        optimization_level=table.take("optimization_level", _integer, None),
        flags=table.take("flags", _texts, ()),
        tactic_sources=table.take("tactic_sources", _texts, None),
        plugins=tuple(str(path) for path in table.take("plugins", lambda v: [table.file_of(i) for i in _items(v)], ())),
        aux_streams=table.take("aux_streams", _integer, None),
        hardware_compatibility=table.take("hardware_compatibility", _text, None),
        profiling_verbosity=table.take("profiling_verbosity", _text, None),
        targets=table.take("targets", _texts, ()),
        refittable=table.take("refittable", _texts, ()),
    )
    table.close()
    return config


def _tolerance(table: _Table) -> ToleranceOverride:
    override = ToleranceOverride(
        precision=table.take("precision", lambda value: recipe(_text(value)).name),
        atol=table.take("atol", _positive, 0.0),
        rtol=table.take("rtol", _positive, 0.0),
        reason=table.take("reason", _text),
        output=table.take("output", _text, "*"),
    )
    table.close()
    if not override.reason.strip():
        raise table.error("'reason' is empty: say why the usual tolerance does not hold")
    return override


def _golden(table: _Table) -> tuple[Path, Path] | None:
    golden = table.table("golden")
    if not golden.content:
        return None
    inputs = golden.take("inputs", golden.file_of, table.take("data", table.file_of, None))
    outputs = golden.take("outputs", golden.file_of)
    golden.close()
    if inputs is None:
        raise golden.error("'inputs' is missing: the .npz of the inputs that give these outputs")
    return inputs, outputs


def _model_file(model: ModelSpec) -> Path | None:
    return model.source.file.resolve() if isinstance(model.source, OnnxFile) else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise SpecError("expected text in quotes")
    return value


def _name(value: Any) -> str:
    if not NAME.fullmatch(_text(value)):
        raise SpecError("expected letters, digits and '_', a letter first")
    return _text(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SpecError("expected true or false")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError("expected a whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise SpecError("expected a number")
    return float(value)


def _positive(value: Any) -> float:
    number = _number(value)
    if not 0 <= number < float("inf"):
        raise SpecError("expected a finite number, 0 or more")
    return number


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise SpecError("expected a list")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value))


def _relations(value: Any) -> tuple[str, ...]:
    return tuple(Relation(text).text for text in _texts(value))


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(_integer(item) for item in _items(value))


def _range(value: Any) -> Range:
    if isinstance(value, str):
        return Range.parse(value)
    if isinstance(value, list):
        numbers = _integers(value)
        if len(numbers) == 3:
            return Range(*numbers)
        raise SpecError("expected [min, opt, max]")
    return Range(*(_integer(value),) * 3)


def _kind(value: Any) -> Kind:
    known: tuple[Kind, ...] = get_args(Kind)
    if value not in known:
        raise SpecError(f"{suggestion(str(value), known)}kinds: {', '.join(known)}")
    return known[known.index(value)]


def _target(value: Any) -> str:
    target = _text(value)
    if not CALLABLE.fullmatch(target):
        raise SpecError('expected "module:function"')
    return target
