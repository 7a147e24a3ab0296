"""Every model there is to work on: the zoos that are registered, and the files that a user brings.

A zoo is a tuple of `ModelSpec` that a distribution names in the entry-point group
``trt_harness.models``. It is loaded by where that distribution lies and not by its name alone, so
that a ``models`` package of the user's own, wherever it stands on the import path, neither hides
our zoo nor is hidden by it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from harness.errors import SpecError
from harness.spec.model import ModelSpec
from harness.spec.names import listed, suggestion
from harness.spec.source import OnnxFunction

GROUP = "trt_harness.models"
DISTRIBUTION = "trt-harness"


@dataclass(frozen=True)
class Problem:
    """A user's file that gave no model, and why. It counts as a failure, and stops nothing else."""

    file: Path
    message: str


@dataclass(frozen=True)
class Catalog:
    """Models in order, each `ModelSpec.id` once, and the files that could not be read.

    SpecError when two models have one id, or one would be taken for the other where both are exported.
    """

    models: tuple[ModelSpec, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, ModelSpec] = {}
        exported: dict[str, ModelSpec] = {}
        for model in self.models:
            if seen.setdefault(model.id, model) is not model:
                raise SpecError(_clash(seen[model.id], model))
            if isinstance(model.source, OnnxFunction):
                first = exported.setdefault(model.source.name, model)
                if first.source != model.source:
                    raise SpecError(
                        f"{first.id} and {model.id} are built by two functions into one file, "
                        f"{model.source.name!r}: give one OnnxFunction another name"
                    )

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __contains__(self, id: object) -> bool:
        return any(model.id == id for model in self.models)

    def __getitem__(self, id: str) -> ModelSpec:
        """The model of that id. SpecError with the nearest one, and all that there are."""
        for model in self.models:
            if model.id == id:
                return model
        known = [model.id for model in self.models]
        raise SpecError(f"no model {id!r}: {suggestion(id, known)}models: {listed(known)}")

    def extended(self, models: Iterable[ModelSpec], problems: Iterable[Problem] = ()) -> Catalog:
        """This catalog and more after it."""
        return Catalog((*self.models, *models), (*self.problems, *problems))


def load(extra: Iterable[Path] = ()) -> Catalog:
    """Every registered zoo, then the models of ``extra``: files (.onnx, .toml) or folders of them.

    A bad file of ``extra`` becomes a `Problem`. SpecError when a zoo can't be loaded, or two of
    them have a model of one id.
    """
    from harness.spec.catalog_file import read

    catalog = Catalog(tuple(model for zoo in _zoos() for model in zoo.models()))
    for path in extra:
        models, problems = read(path)
        for model in models:
            if model.id in catalog:
                problems.append(Problem(Path(model.origin), _clash(catalog[model.id], model)))
            else:
                catalog = catalog.extended([model])
        catalog = catalog.extended((), problems)
    return catalog


def _clash(first: ModelSpec, second: ModelSpec) -> str:
    return (
        f"two models are called {first.id!r}: one from {first.origin or 'an unnamed origin'}, one from "
        f"{second.origin or 'an unnamed origin'}: give one another name (a TOML file has a key for it)"
    )


@dataclass(frozen=True)
class _Zoo:
    """One entry point, and the folder that its module is found in (None when that is not known)."""

    distribution: str
    name: str
    value: str  # "module:attribute"
    root: Path | None

    def __str__(self) -> str:
        return f"entry point {self.name!r} ({self.value}) of {self.distribution}"

    def models(self) -> tuple[ModelSpec, ...]:
        module, _, attribute = self.value.partition(":")
        try:
            found = tuple(getattr(self._module(module), attribute))
        except Exception as error:  # whatever somebody's module raises; none of it is lost
            raise SpecError(f"{self}: {type(error).__name__}: {error}: repair or uninstall that zoo") from error
        for model in found:
            if not isinstance(model, ModelSpec):
                raise SpecError(f"{self}: holds {model!r}, which is no ModelSpec")
        return tuple(_with_origin(model, str(self)) for model in found)

    def _module(self, dotted: str) -> ModuleType:
        package, _, rest = dotted.partition(".")
        file = None if self.root is None else _package_file(self.root, package)
        if file is None or _is_found_at(package, file):
            return importlib.import_module(dotted)
        alias = "trt_harness_zoo_" + re.sub(r"\W", "_", self.distribution)
        _load_as(alias, file)
        return importlib.import_module(f"{alias}.{rest}" if rest else alias)


def _zoos() -> list[_Zoo]:
    """The checkout that this package runs from, if it does, then whatever is installed."""
    zoos = _checkout()
    running = {zoo.distribution for zoo in zoos}
    for entry in importlib.metadata.entry_points(group=GROUP):
        name = _normal(entry.dist.name) if entry.dist else "an unnamed distribution"
        if name not in running:
            zoos.append(_Zoo(name, entry.name, entry.value, _root(entry) if entry.dist else None))
    return zoos


def _checkout() -> list[_Zoo]:
    """What ``pyproject.toml`` beside the package registers, so that a checkout need not be installed."""
    root = Path(__file__).resolve().parents[2]
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except FileNotFoundError:
        return []
    if _normal(project.get("name", "")) != DISTRIBUTION:  # some wheels leave their pyproject.toml in site-packages
        return []
    registered = project.get("entry-points", {}).get(GROUP, {})
    return [_Zoo(DISTRIBUTION, name, value, root) for name, value in registered.items()]


def _root(entry: importlib.metadata.EntryPoint) -> Path | None:
    """The folder that the entry point's top-level module lies in; None when the distribution won't tell."""
    assert entry.dist is not None
    package = entry.module.partition(".")[0]
    roots = [Path(str(entry.dist.locate_file("")))]
    source = json.loads(entry.dist.read_text("direct_url.json") or "{}")
    if source.get("dir_info", {}).get("editable"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname  # here: it brings ssl and http with it

        folder = Path(url2pathname(urlsplit(source["url"]).path))
        roots = [folder, folder / "src"]
    return next((root for root in roots if _package_file(root, package)), None)


def _package_file(root: Path, package: str) -> Path | None:
    candidates = (root / package / "__init__.py", root / f"{package}.py")
    return next((file.resolve() for file in candidates if file.is_file()), None)


def _is_found_at(package: str, file: Path) -> bool:
    """Whether ``import package`` would load ``file``, or has done so."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module made by hand has no spec
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file


def _load_as(alias: str, file: Path) -> None:
    if alias in sys.modules:
        return
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(alias, file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise


def _with_origin(model: ModelSpec, origin: str) -> ModelSpec:
    return model if model.origin else replace(model, origin=origin)


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
