"""The catalog: zoos found by location, files of users, and what is wrong with either."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import harness
from harness.errors import SpecError
from harness.spec import (
    BuildConfig,
    InputRule,
    ModelSpec,
    NetworkFunction,
    OnnxFile,
    OnnxFunction,
    PlanFile,
    Profile,
    ToleranceOverride,
    Values,
)
from harness.spec import catalog as catalog_module
from harness.spec.catalog import Catalog, Problem
from harness.spec.catalog_file import name_of, read, read_file, to_toml

ZOO = """
from harness.spec import ModelSpec, OnnxFile
from pathlib import Path
"""


def model(name: str, origin: str = "", size: str = "tiny") -> ModelSpec:
    return ModelSpec(name, OnnxFile(Path("a.onnx")), size=size, origin=origin)


class TestCatalog:
    def test_is_an_ordered_collection(self) -> None:
        catalog = Catalog((model("b"), model("a"), model("a", size="full")))
        assert [m.id for m in catalog] == ["b", "a", "a_full"]
        assert len(catalog) == 3
        assert "a_full" in catalog
        assert catalog["a_full"].size == "full"

    def test_unknown_model(self) -> None:
        with pytest.raises(SpecError, match="no model 'brt': did you mean 'bert'\\? models: gpt, bert"):
            Catalog((model("gpt"), model("bert")))["brt"]

    def test_two_of_one_id_name_both_origins(self) -> None:
        with pytest.raises(SpecError, match="'a_full': one from here, one from there"):
            Catalog((model("a", "here", "full"),)).extended([model("a_full", "there")])

    def test_two_functions_may_not_export_into_one_file(self) -> None:
        """Whoever came second would be taken for whoever came first."""
        built = ModelSpec("a", OnnxFunction("net", onnx.ModelProto))
        assert len(Catalog((built, replace(built, size="full")))) == 2  # the same model, in another role
        other = ModelSpec("b", OnnxFunction("net", lambda: onnx.ModelProto()))
        with pytest.raises(SpecError, match="a and b are built by two functions into one file, 'net'"):
            Catalog((built, other))


class Checkout:
    """A copy of the harness in a folder of its own, and what a fresh interpreter finds from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = Path(harness.__file__).parent
        shutil.copytree(package, folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(package.parent / "pyproject.toml", folder)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, program: str, *path: Path) -> subprocess.CompletedProcess[str]:
        """``program`` in an interpreter whose import path begins with ``path``, and ends with this checkout."""
        prepared = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}; sys.path.insert({len(path)}, "
        prepared += f"{str(self.folder)!r})\nfrom harness.spec import catalog\n{program}"
        return subprocess.run([sys.executable, "-c", prepared], capture_output=True, text=True, cwd="/")

    def ids(self, *path: Path, program: str = "") -> str:
        done = self.run(f"{program}\nprint(*(m.id for m in catalog.load()))", *path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "checkout")
    made.write("models/__init__.py", "from .one import ONE\nZOO = (ONE,)\n")
    made.write("models/one.py", f"{ZOO}\nONE = ModelSpec('one', OnnxFile(Path('one.onnx')))\n")
    return made


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The root of a user's repository that has a ``models`` package."""
    (tmp_path / "user" / "models").mkdir(parents=True)
    (tmp_path / "user" / "models" / "__init__.py").write_text("MINE = True\n")
    return tmp_path / "user"


def install(folder: Path, name: str, value: str, *, direct_url: str = "") -> None:
    """Write the metadata that pip leaves of a distribution with a zoo."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[trt_harness.models]\nextra = {value}\n")
    if direct_url:
        (info / "direct_url.json").write_text(direct_url)


class TestZoos:
    def test_bare_checkout(self, checkout: Checkout) -> None:
        assert checkout.ids() == "one"

    def test_is_imported_under_its_own_name_when_it_can_be(self, checkout: Checkout) -> None:
        done = checkout.run("catalog.load(); print(sys.modules['models'].__file__)")
        assert done.stdout.strip() == str(checkout.folder / "models" / "__init__.py")

    def test_beside_a_users_models_package(self, checkout: Checkout, users: Path) -> None:
        assert checkout.ids(users) == "one"
        done = checkout.run("catalog.load(); catalog.load(); import models; print(models.MINE)", users)
        assert done.stdout.strip() == "True"

    def test_after_a_users_models_package(self, checkout: Checkout, users: Path) -> None:
        assert checkout.ids(users, program="import models") == "one"

    def test_after_a_module_made_by_hand(self, checkout: Checkout) -> None:
        program = "import types; sys.modules['models'] = types.ModuleType('models')"
        assert checkout.ids(program=program) == "one"

    def test_beside_a_users_models_folder_without_init(self, checkout: Checkout, users: Path) -> None:
        (users / "models" / "__init__.py").unlink()
        assert checkout.ids(users) == "one"

    def test_loads_no_numpy(self, checkout: Checkout) -> None:
        done = checkout.run("catalog.load(); print({'numpy', 'onnx'} & sys.modules.keys())")
        assert done.stdout.strip() == "set()"

    @pytest.mark.parametrize("layout", ["wheel", "editable", "src"])
    def test_installed_beside_a_clash(self, checkout: Checkout, users: Path, tmp_path: Path, layout: str) -> None:
        site, source = tmp_path / "site", tmp_path / "source"
        root = {"wheel": site, "editable": source, "src": source / "src"}[layout]
        (root / "models").mkdir(parents=True)
        (root / "models" / "__init__.py").write_text("")
        (root / "models" / "zoo.py").write_text(
            f"{ZOO}\nfrom . import __name__ as n\nALL = [ModelSpec('other', OnnxFile(Path(n)))]\n"
        )
        url = json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
        install(site, "other_zoo", "models.zoo:ALL", direct_url="" if layout == "wheel" else url)
        assert checkout.ids(users, site) == "one other"

    def test_the_running_checkout_hides_its_installed_self(self, checkout: Checkout, tmp_path: Path) -> None:
        install(tmp_path / "site", "TRT_harness", "nowhere:ZOO")
        assert checkout.ids(tmp_path / "site") == "one"

    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ("raise ArithmeticError('too small')", ("ArithmeticError: too small",)),
            ("", ("AttributeError", "'ALL'")),
            ("ALL = [1]", ("holds 1, which is no ModelSpec",)),
            ("ALL = 7", ("TypeError",)),
        ],
        ids=["raises", "lacks", "holds", "type"],
    )
    def test_a_broken_zoo_is_named(
        self, checkout: Checkout, tmp_path: Path, content: str, parts: tuple[str, ...]
    ) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "brokenzoo.py").write_text(content)
        install(tmp_path / "site", "broken", "brokenzoo:ALL")
        done = checkout.run(
            "from harness.errors import SpecError\ntry: catalog.load()\nexcept SpecError as e: print(e)",
            tmp_path / "site",
        )
        for part in ("entry point 'extra' (brokenzoo:ALL) of broken", *parts):
            assert part in done.stdout

    def test_another_projects_pyproject_is_not_ours(self, checkout: Checkout) -> None:
        checkout.write(
            "pyproject.toml", '[project]\nname = "x"\n[project.entry-points."trt_harness.models"]\nz = "a:B"\n'
        )
        assert checkout.run("print(catalog._checkout())").stdout.strip() == "[]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalog_module, "_zoos", list)
    for name in ("a.onnx", "b.plan", "in.npz", "out.npz", "lib.so"):
        (tmp_path / name).touch()
    return tmp_path


Toml = Callable[[str], Path]


@pytest.fixture
def toml(folder: Path) -> Toml:
    def write(content: str) -> Path:
        file = folder / "m.toml"
        file.write_text(content)
        return file

    return write


class TestToml:
    def test_every_key(self, folder: Path, toml: Toml) -> None:
        file = toml("""
            model = "a.onnx"
            name = "mine"
            size = "full"
            family = "transformer"
            tags = ["x", "y"]
            batch = "batch"
            special = true
            relations = ["size[0] <= 8"]
            data = "in.npz"
            golden = { inputs = "in.npz", outputs = "out.npz" }
            [[profiles]]
            dims = { batch = "1:8:32", "ids:1" = [4, 16, 64], width = 224 }
            values = { size = { min = [1, 2], opt = [4, 4], max = [8, 8] } }
            [[profiles]]
            dims.batch = 1
            [build]
            workspace = "2 GiB"
            optimization_level = 3
            flags = ["F"]
            tactic_sources = []
            plugins = ["lib.so"]
            aux_streams = 0
            hardware_compatibility = "AMPERE_PLUS"
            profiling_verbosity = "DETAILED"
            targets = ["SM89"]
            [inputs.ids]
            kind = "integers"
            low = 0
            high = 30521
            [inputs.n]
            kind = "lengths"
            symbol = "batch"
            [[tolerances]]
            precision = "fp16"
            atol = 1e-2
            rtol = 0.5
            output = "y"
            reason = "measured"
            """)
        assert read_file(file) == ModelSpec(
            "mine",
            OnnxFile(folder / "a.onnx"),
            profiles=(
                Profile.of(
                    {"batch": (1, 8, 32), "ids:1": (4, 16, 64), "width": 224},
                    {"size": Values((1, 2), (4, 4), (8, 8))},
                ),
                Profile.of({"batch": 1}),
            ),
            inputs=(InputRule("ids", "integers", 0.0, 30521.0), InputRule("n", "lengths", symbol="batch")),
            size="full",
            family="transformer",
            tags=("x", "y"),
            batch="batch",
            special=True,
            relations=("size[0] <= 8",),
            config=BuildConfig(
                2 << 30, 3, ("F",), (), (str(folder / "lib.so"),), 0, "AMPERE_PLUS", "DETAILED", ("SM89",)
            ),
            tolerances=(ToleranceOverride("fp16", 1e-2, 0.5, "measured", "y"),),
            golden=(folder / "in.npz", folder / "out.npz"),
            data=folder / "in.npz",
            origin=str(file),
        )

    def test_the_documented_example_is_read(self, toml: Toml) -> None:
        """What the module's docstring shows is what `read_file` knows."""
        from harness.spec import catalog_file

        assert catalog_file.__doc__ is not None
        example = catalog_file.__doc__.partition("::\n")[2].replace("bert.onnx", "a.onnx").replace("libmine", "lib")
        lines = [line for line in example.splitlines() if not line.strip().startswith(("callable", "plan", "version"))]
        text = "\n".join(lines).replace("inputs.npz", "in.npz").replace("outputs.npz", "out.npz")
        text = text.replace('outputs = "outin.npz"', 'outputs = "out.npz"')
        assert read_file(toml(text)).name == "my_bert"

    def test_callable_and_plan(self, folder: Path, toml: Toml) -> None:
        source = read_file(toml('callable = "nets.small:build"\nversion = "2"')).source
        assert source == NetworkFunction("nets.small:build", folder, "2")
        assert read_file(toml('plan = "b.plan"')).source == PlanFile(folder / "b.plan")

    def test_a_batch_whose_range_comes_with_the_command(self, toml: Toml) -> None:
        assert read_file(toml("model = 'a.onnx'\nbatch = 'batch'")).batch == "batch"

    def test_golden_inputs_default_to_data(self, folder: Path, toml: Toml) -> None:
        file = toml('model = "a.onnx"\ndata = "in.npz"\ngolden.outputs = "out.npz"')
        assert read_file(file).golden == (folder / "in.npz", folder / "out.npz")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("profils = 1", r"m\.toml: unknown key 'profils': did you mean 'profiles'\? known keys: .*profiles"),
            ("[build]\nworkspase = 1", r"\[build\]: unknown key 'workspase': did you mean 'workspace'\? known keys:"),
            ("[inputs.ids]\nkind = 'mask'\nhihg = 2", r"\[inputs\.ids\]: unknown key 'hihg': did you mean 'high'"),
            ("[[profiles]]\ndim.x = 1", r"\[profiles 1\]: unknown key 'dim': did you mean 'dims'\? known keys: dims"),
            (
                "[[profiles]]\nvalues.s = {min=[1], opt=[1], max=[1], mx=1}",
                r"\[profiles 1\.values\.s\]: unknown .*'mx'",
            ),
            ("golden = {output='out.npz'}", r"\[golden\]: 'outputs' is missing"),
            ("golden = {outputs='out.npz'}", r"\[golden\]: 'inputs' is missing"),
            ("[[profiles]]\ndims.b = '1:2'", r"\[profiles 1\.dims\]: b = '1:2': '1:2' is not a range"),
            ("[[profiles]]\ndims.b = [1, 2]", r"b = \[1, 2\]: expected \[min, opt, max\]"),
            ("[[profiles]]\ndims.b = [4, 2, 1]", r"\[profiles 1\]: dimension 'b': empty range: min 4 is above max 1"),
            ("[[profiles]]\ndims.b = true", "expected a whole number"),
            ("[[profiles]]\nvalues.s = {min=[1], opt=[1, 2], max=[1]}", "hold 1, 2 and 1 numbers"),
            ("[[profiles]]\nvalues.s = {min=[1], opt=[1]}", r"\[profiles 1\.values\.s\]: 'max' is missing"),
            ("profiles = 3", "profiles = 3: expected a list"),
            ("build = 3", r"\[build\]: expected a table, got 3"),
            ("[build]\nworkspace = '2 XB'", "workspace = '2 XB': '2 XB' is not a size"),
            ("[build]\noptimization_level = '3'", "optimization_level = '3': expected a whole number"),
            ("[build]\nplugins = ['no.so']", r"plugins = \['no\.so'\]: no such file: .*no\.so"),
            ("[build]\nflags = 'F'", "flags = 'F': expected a list"),
            ("[inputs.ids]\nkind = 'integer'", "kind = 'integer': did you mean 'integers'.* kinds: normal, uniform"),
            ("[inputs.ids]\nlow = 2", r"\[inputs\.ids\]: 'kind' is missing"),
            ("[inputs.ids]\nkind = 'uniform'\nlow = 2", "low 2 is above high 1"),
            ("[inputs.n]\nkind = 'lengths'", "kind 'lengths' needs the 'symbol'"),
            ("[[tolerances]]\nprecision = 'fp16'\natol = 1", r"\[tolerances 1\]: 'reason' is missing"),
            ("[[tolerances]]\nprecision = 'fp16'\nreason = ' '", "'reason' is empty"),
            ("[[tolerances]]\nprecision = 'fp15'\nreason = 'x'", "precision = 'fp15': unknown precision 'fp15'"),
            ("[[tolerances]]\nprecision = 'fp16'\nreason = 'x'\natol = nan", "expected a finite number"),
            ("[[tolerances]]\nprecision = 'fp16'\nreason = 'x'\natol = -1", "expected a finite number"),
            (
                "batch = 'bach'\n[[profiles]]\ndims = { seq = 4, batch = '1:2:4' }",
                r"m\.toml: batch = 'bach': no profile has .*: did you mean 'batch'\? ranges: batch, seq; write",
            ),
            (
                "batch = 'batch'\n[[profiles]]\ndims = { 'x:0' = 4 }",
                r"batch = 'batch': no profile .* ranges: x:0; write",
            ),
            ("name = 'a-b'", "name = 'a-b': expected letters, digits and '_'"),
            ("name = 3", "name = 3: expected text"),
            ("relations = ['kv = q']", "relation 'kv = q': it can't be read"),
            ("special = 1", "special = 1: expected true or false"),
            ("data = 'no.npz'", r"data = 'no\.npz': no such file: .*no\.npz"),
            ("version = '2'", "'version' goes with 'callable'"),
            ("plan = 'b.plan'", "give one of model, callable, plan; given: model and plan"),
            ("x = [", "m.toml: not TOML: "),
        ],
        ids=lambda value: value.replace("\n", " ") if "expected" not in value else "",
    )
    def test_refusals(self, toml: Toml, content: str, message: str) -> None:
        with pytest.raises(SpecError, match=message) as caught:
            read_file(toml(f"model = 'a.onnx'\n{content}"))
        assert str(caught.value).startswith(str(toml(content)))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "give one of model, callable, plan; given: none"),
            ("modle = 'a.onnx'", "unknown key 'modle': did you mean 'model'"),
            ("model = 'no.onnx'", r"model = 'no\.onnx': no such file: .*no\.onnx"),
            ("callable = 'nets.build'", r"callable = 'nets\.build': expected \"module:function\""),
        ],
    )
    def test_sources(self, toml: Toml, content: str, message: str) -> None:
        with pytest.raises(SpecError, match=message):
            read_file(toml(content))


def test_every_zoo_model_survives_as_toml(tmp_path: Path) -> None:
    """`to_toml` loses nothing of what the zoo uses: an exported model is asked what the zoo's is."""
    (tmp_path / "m.onnx").touch()
    zoo = catalog_module.load()
    assert len(zoo) > 24
    for model in zoo:
        model = replace(model, golden=None)  # its files are made when they are first asked for
        (tmp_path / "m.toml").write_text(to_toml(model, Path("m.onnx")), encoding="utf-8")
        assert replace(read_file(tmp_path / "m.toml"), source=model.source, origin=model.origin) == model


class TestFiles:
    def test_an_onnx_file(self, folder: Path) -> None:
        (file,) = catalog_module.load([folder / "a.onnx"])
        assert file == ModelSpec("a", OnnxFile(folder / "a.onnx"), origin=str(folder / "a.onnx"))

    def test_a_folder(self, folder: Path) -> None:
        for name in ("c.onnx", "d.onnx"):
            (folder / name).touch()
        (folder / "spoken.toml").write_text("model = 'c.onnx'")
        catalog = catalog_module.load([folder])
        assert [m.id for m in catalog] == ["a", "d", "spoken"]
        assert catalog.problems == ()

    def test_a_bad_file_stops_nothing(self, folder: Path) -> None:
        (folder / "bad.toml").write_text("modle = 'a.onnx'")
        catalog = catalog_module.load([folder, folder / "none.onnx", folder / "b.plan"])
        assert [m.id for m in catalog] == ["a"]
        assert [problem.file.name for problem in catalog.problems] == ["bad.toml", "none.onnx", "b.plan"]
        messages = " ".join(problem.message for problem in catalog.problems)
        for part in ("did you mean 'model'", "none.onnx: no such file or folder", "neither an .onnx nor a .toml"):
            assert part in messages

    def test_a_second_model_of_one_id_is_a_problem(self, folder: Path) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "a.onnx").touch()
        catalog = catalog_module.load([folder / "a.onnx", folder / "other"])
        assert len(catalog) == 1
        (problem,) = catalog.problems
        assert problem.file == folder / "other" / "a.onnx"
        assert str(folder / "a.onnx") in problem.message
        assert str(problem.file) in problem.message

    def test_an_empty_folder_is_a_problem(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        assert read(folder / "empty") == (
            [],
            [Problem(folder / "empty", f"{folder / 'empty'}: holds no .onnx or .toml file")],
        )

    @pytest.mark.parametrize(
        ("file", "name"), [("resnet50-v1.5.onnx", "resnet50_v1_5"), ("3d unet.onnx", "m_3d_unet"), ("ä.onnx", "m_")]
    )
    def test_names(self, file: str, name: str) -> None:
        assert name_of(Path(file)) == name
