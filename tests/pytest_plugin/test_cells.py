"""Marks, options and shards: which cells there are."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.pytest_plugin.cells import Ask, cases, in_shard, renamed, select
from harness.settings import Settings, Shard
from harness.spec import ModelSpec, NetworkFunction, OnnxFile, PlanFile, Profile
from harness.spec.catalog import load

DYNAMIC = Profile.of({"batch": (1, 2, 4)})
STATIC = Profile.of({"batch": 4})


def model(name: str, *profiles: Profile, size: str = "tiny", source: object = None) -> ModelSpec:
    chosen = source or OnnxFile(Path(f"{name}.onnx"))
    return ModelSpec(name, chosen, profiles or (DYNAMIC,), size=size)  # type: ignore[arg-type]


def ids(ask: Ask, *models: ModelSpec, **options: str) -> list[str]:
    return [case.cell.params for case in cases("test", ask, models, Settings.read(options, environment={}))]


def test_every_axis_is_covered():
    found = ids(Ask(), model("a"), precision="fp32,fp16", backend="tensorrt,tensorrt_rtx")
    assert found == [
        f"a-{precision}-{point}-{backend}"
        for precision in ("fp32", "fp16")
        for backend in ("tensorrt", "rtx")
        for point in ("min", "opt", "max")
    ]


def test_a_static_profile_has_one_point_whatever_is_asked():
    assert ids(Ask(), model("a", STATIC), precision="fp32", backend="onnxruntime", point="max") == [
        "a-fp32-opt-onnxruntime"
    ]


def test_several_profiles_are_numbered():
    found = ids(Ask(), model("a", DYNAMIC, STATIC), precision="fp32", backend="onnxruntime", point="opt")
    assert found == ["a-fp32-opt-onnxruntime", "a-fp32-opt_p1-onnxruntime"]


def test_the_mark_narrows_and_the_options_narrow():
    ask = Ask(precisions=("fp32", "fp16"), backends=("onnxruntime", "tensorrt"), points=("opt",))
    assert ids(ask, model("a"), precision="fp16,tf32", backend="onnxruntime") == ["a-fp16-opt-onnxruntime"]


def test_axes_that_are_left_out():
    assert ids(Ask(over=("model",)), model("a"), model("b")) == ["a", "b"]
    assert ids(Ask(over=("model", "backend")), model("a"), backend="best") == ["a-best"]


def test_a_tag_keeps_a_model_to_fp32():
    slow = dataclasses.replace(model("slow"), tags=("fp32_only",))
    found = ids(Ask(over=("model", "precision")), slow, model("a"), precision="fp16,fp32,tf32")
    assert found == ["slow-fp32", "a-fp16", "a-fp32", "a-tf32"]
    assert ids(Ask(over=("model", "backend")), slow, backend="onnxruntime") == ["slow-onnxruntime"]


def test_variants_are_part_of_the_id():
    ask = Ask(variants=lambda m: ("zeros", "nan") if m.name == "a" else (), over=("model", "backend"))
    assert ids(ask, model("a"), model("b"), backend="onnxruntime") == ["a-zeros-onnxruntime", "a-nan-onnxruntime"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("a", ["a", "a_full"]),
        ("a_full", ["a_full"]),
        (("a*", "b"), ["a", "a_full", "b"]),
        (lambda m: m.size == "full", ["a_full"]),
        (model("b"), ["b"]),
    ],
)
def test_the_mark_chooses_models(wanted: object, found: list[str]):
    models = [model("a"), model("a", size="full"), model("b")]
    assert ids(Ask(models=wanted, over=("model",)), *models) == found


def test_a_plan_and_a_callable_are_not_converted():
    plan, network = PlanFile(Path("x.plan")), NetworkFunction("m:f")
    assert ids(Ask(over=("model", "precision")), model("p", source=plan), model("n", source=network)) == [
        "p-fp32",
        "n-fp32",
        "n-tf32",
        "n-fp16-weak",
    ]


def test_sizes():
    models = [model("a"), model("a", size="full"), model("mine", size="full")]

    def chosen(**options: str) -> list[str]:
        settings = Settings.read(options, environment={})
        return [m.id for m in select(models, frozenset({"mine_full"}), settings)]

    assert chosen() == ["a", "mine_full"]
    assert chosen(size="full") == ["a_full", "mine_full"]
    assert chosen(size="tiny,full") == ["a", "a_full", "mine_full"]
    assert chosen(model="a") == ["a"]
    assert chosen(model="a_full") == ["a_full"]
    assert chosen(model="a*") == ["a"]
    assert chosen(model="a", size="full") == ["a_full"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "bret"}, "--trt-model: no model 'bret': did you mean 'bert'? models: bert, mlp"),
        ({"size": "huge"}, "--trt-size: no model of size 'huge': choose from tiny"),
    ],
)
def test_a_choice_that_nothing_meets_is_refused(options: dict[str, str], said: str):
    with pytest.raises(SpecError) as error:
        select([model("bert"), model("mlp")], frozenset(), Settings.read(options, environment={}))
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"precisions": ("fp8",)}, "precisions: unknown 'fp8'"),
        ({"points": ("middle",)}, "points: unknown 'middle'"),
        ({"over": ("backend",)}, "'model' is missing"),
        ({"over": ("model", "size")}, "over: unknown 'size'"),
        ({"backends": ("cuda",)}, "backends: unknown 'cuda'"),
        ({"needs": ("cuda_graphs",)}, "needs: unknown 'cuda_graphs': did you mean 'cuda_graph'?"),
    ],
)
def test_a_mark_that_is_not_understood(arguments: dict[str, tuple[str, ...]], said: str):
    with pytest.raises(SpecError) as error:
        Ask(**arguments)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_marks_join_and_the_closest_wins():
    marks = [pytest.mark.trt(points="opt").mark, pytest.mark.trt(points=("min",), precisions=("fp32",)).mark]
    assert Ask.of(marks) == Ask(points=("opt",), precisions=("fp32",))
    assert Ask.of([]) is None
    with pytest.raises(SpecError, match=r"has no 'point': did you mean 'points'\?"):
        Ask.of([pytest.mark.trt(point="opt").mark])
    with pytest.raises(SpecError, match="no positional"):
        Ask.of([pytest.mark.trt("bert").mark])


def test_shards_are_disjoint_and_whole_and_keep_engines_together():
    models = [model(f"m{number}") for number in range(40)]
    every = ids(Ask(), *models)
    parts = [ids(Ask(), *models, shard=f"{number}/3") for number in (1, 2, 3)]
    assert all(parts)
    assert sorted(itertools.chain(*parts)) == sorted(every)
    for number in (1, 2, 3):
        for case in cases("test", Ask(), models, Settings.read({"shard": f"{number}/3"}, environment={})):
            assert in_shard(case.model.id, case.recipe.name, case.backend, Shard(number, 3))


def test_a_shard_is_the_same_on_every_machine():
    assert [in_shard(name, "fp32", "tensorrt", Shard(1, 2)) for name in ("bert", "mlp", "vit", "lstm")] == [
        True,
        False,
        True,
        True,
    ]


def test_no_id_of_the_zoo_is_the_beginning_of_another():
    catalog = load()
    every = [case.cell.id for case in cases("test_x", Ask(), catalog.models, Settings())]
    every += [case.cell.id for case in cases("test_x_y", Ask(over=("model",)), catalog.models, Settings())]
    assert len(set(every)) == len(every) > 1000
    ordered = sorted(every)
    assert not [(a, b) for a, b in itertools.pairwise(ordered) if b.startswith(a)]
    backends = [case.cell.params.rpartition("-")[2] for case in cases("t", Ask(), catalog.models[:1], Settings())]
    assert not [(a, b) for a, b in itertools.combinations(set(backends), 2) if a in b or b in a]


def test_what_another_parametrization_adds_becomes_a_variant():
    (case,) = cases("test", Ask(over=("model",)), [model("a")], Settings())
    assert renamed(case, "5-a").cell.id == "test[a-5]"
