"""Reading `objectives`: forms, names, weights, settings; and what is built from it."""

from __future__ import annotations

import math

import pytest
import torch
from cases import LEAST
from torch import nn

from hftransfer.objectives import REGISTRY, Objective, build_objectives, parse_objectives, register_objective
from hftransfer.objectives.base import INPUTS, Range
from hftransfer.objectives.specification import refuse_imports


def brief(specs) -> list[tuple]:
    return [(s.name, s.kind, s.weight, s.schedule, s.settings) for s in specs]


def default(kind: str, weight: float | None = None, schedule=None, **settings) -> tuple:
    """A specification, briefly, at what its class says where nothing is given."""
    cls = REGISTRY[kind]
    weight = cls.default_weight if weight is None else weight
    return kind, kind, weight, schedule or cls.default_schedule, settings


WARM = {"name": "warm_start", "gamma": 10.0}
READ = [  # what is read, and in how many ways it can be said
    (
        [default("cdan", 0.5, "linear", hidden=64)],
        {"cdan": {"weight": 0.5, "schedule": "linear", "hidden": 64}},
        '{"cdan": {"weight": 0.5, "schedule": "linear", "hidden": 64}}',
        '{"cdan":{"weight":5e-1,"schedule":"linear","hidden":64}}',
        "cdan: {weight: 0.5, schedule: linear, hidden: 64}",
        "cdan:\n  weight: 0.5\n  schedule: linear\n  hidden: 64\n",
    ),
    ([], None, "", "{}", {}, "null", []),
    (
        [default("mmd", 0.1), default("mdd", 0.03)],
        ["mmd", "mdd"],
        "[mmd, mdd]",
        '["mmd", "mdd"]',
        {"mmd": {}, "mdd": {}},
    ),
    *[([default(kind)], kind, [kind], {kind: {}}) for kind in REGISTRY],
    *[
        ([default(k, float(w))], {k: w}, {k: {"weight": w}})
        for k in ("mmd", "dann", "l2_sp")
        for w in (1, 0.25, "1e-3")
    ],
    ([default("mmd", 0.001)], '{"mmd": 1e-3}', "mmd: 1e-3", "mmd: {weight: 1e-3}"),  # YAML takes it for text
    ([default("mmd", 0.1, "linear")], {"mmd": {"schedule": "linear"}}),
    ([default("mmd", 0.1, WARM, bandwidth=2.0)], "mmd: {bandwidth: 2e0, schedule: {name: warm_start, gamma: 1e1}}"),
]


def test_what_is_read():
    for wanted, *forms in READ:
        for given in forms:
            assert brief(parse_objectives(given)) == wanted, given


@pytest.mark.parametrize(
    ("entry", "now"),
    [
        ({"schedule": {"name": "warm_start", "peak": 0.1}}, "Write weight: 0.1, schedule: warm_start"),
        ({"weight": 0.5, "schedule": {"name": "linear", "peak": 0.2}}, "Write weight: 0.1, schedule: linear"),
        ({"weight": 1e-4, "schedule": {"name": "constant", "peak": 3}}, "Write weight: 0.0003, schedule: constant"),
        (
            {"weight": 2, "schedule": {"name": "warm_start", "gamma": 5, "peak": 0.3}},
            'Write weight: 0.6, schedule: {"name": "warm_start", "gamma": 5}',
        ),
        ({"schedule": {"name": "linear", "peak": "high"}}, "Write weight: weight times peak, schedule: linear"),
        ({"schedule": {"name": "linear", "peak": math.nan}}, "Write weight: weight times peak, schedule: linear"),
    ],
)
def test_a_former_peak_is_refused_with_the_weight_that_it_meant(entry, now):
    with pytest.raises(ValueError, match=r"Objective 'mmd': a schedule has no 'peak'") as error:
        parse_objectives({"mmd": entry})
    assert now in str(error.value)


def test_two_of_a_kind_under_two_names():
    specs = parse_objectives({"wide": {"kind": "mmd", "bandwidth": 9.0}, "narrow": {"kind": "mmd", "weight": 2}})
    modules, schedules = build_objectives(specs, 4, 3)
    assert [(s.name, s.kind, s.weight) for s in specs] == [("wide", "mmd", 0.1), ("narrow", "mmd", 2.0)]
    assert list(modules) == list(schedules) == ["wide", "narrow"]
    assert (modules["wide"].bandwidth, modules["narrow"].bandwidth) == (9.0, "mean")


def test_what_is_read_is_left_as_it_was():
    given = {"cdan": {"weight": 0.5, "schedule": {"name": "linear"}, "hidden": 64}}
    build_objectives(parse_objectives(given), 4, 3)
    assert given == {"cdan": {"weight": 0.5, "schedule": {"name": "linear"}, "hidden": 64}}


def test_weight_0_is_not_built():
    modules, schedules = build_objectives(parse_objectives({"mmd": 0, "dann": 1, "supcon": 0.0}), 4, 3)
    assert list(modules) == list(schedules) == ["dann"]


@pytest.mark.parametrize("kind", REGISTRY)
def test_each_kind_builds_with_its_defaults_and_states_its_paper(kind):
    modules, schedules = build_objectives(parse_objectives({kind: LEAST.get(kind, {})}), 8, 3)
    assert type(modules[kind]) is REGISTRY[kind]
    assert torch.isfinite(schedules[kind](torch.tensor(0.5)))
    assert REGISTRY[kind].paper
    assert set(REGISTRY[kind].needs()) <= set(INPUTS)
    assert not {"self", "feature_dim", "num_classes"} & set(REGISTRY[kind].settings())


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"mdm": 1.0}, "no objective 'mdm'; there is mmd, .*Did you mean 'mmd'"),
        ("cdna", "no objective 'cdna'.*Did you mean 'cdan'"),
        ({"mine": 1.0}, "no objective 'mine'"),
        ({"mine": {"kind": "dannn"}}, "no objective 'dannn'.*Did you mean 'dann'"),
        ({"mine": {"kind": ["mmd"]}}, "no objective"),
        ({"distill": 1.0}, "'distill': .* has become distill_logits, distill_features, .* Write 'distill_logits'"),
        ({"f": {"kind": "distill", "of": "features"}}, "Objective 'f': .* Write 'distill_features', without 'of'"),
        ({"distill": {"of": "heads"}}, "Write one of them"),
        ({"mmd": {"kernel": 5}}, "'mmd' has no setting 'kernel'.*Did you mean 'kernels'"),
        ({"mmd": {"weigth": 1}}, "Did you mean 'weight'"),
        ({"dann": {"feature_dim": 4}}, "no setting 'feature_dim'"),
        ({"mmd": {"schedule": "liner"}}, "Did you mean 'linear'"),
        ({"mmd": {"schedule": 1}}, "schedule 1 must be a name"),
        ("{mmd: 1.0", "neither JSON nor YAML"),
        (3, "must map names to weights"),
        (["mmd", "dann", "mmd"], "objectives names 'mmd' twice"),
        ([{"mmd": 1.0}], "must map names to weights"),
        ({"": {"kind": "mmd"}}, "cannot be called ''"),
        ({"a.b": {"kind": "mmd"}}, "cannot be called 'a.b'"),
        ({"task": {"kind": "mmd"}}, "cannot be called 'task'"),
        ({"keys": {"kind": "mmd"}}, "cannot be called 'keys'"),
    ],
)
def test_what_is_refused(objectives, message):
    with pytest.raises(ValueError, match=message):
        parse_objectives(objectives)


def test_weights_that_are_refused():
    weights = (-1, -1e-9, math.nan, math.inf, -math.inf, True, False, None, "heavy", [1.0])
    forms = [form for w in weights for form in ({"mmd": w}, {"mmd": {"weight": w}})]
    for given in (*forms, "mmd: .nan", '{"mmd": NaN}', "mmd: .inf", "mmd: true", "mmd: -1", "mmd:"):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            parse_objectives(given)
        assert "weight of objective 'mmd' must be a number of at least 0" in str(refused.value), given


def test_a_bad_value_names_its_objective():
    with pytest.raises(ValueError, match="Objective 'wide': kernels='many' must be a whole number"):
        build_objectives(parse_objectives({"wide": {"kind": "mmd", "kernels": "many"}}), 4, 3)


def test_an_objective_may_ask_only_for_what_there_is():
    class Greedy(Objective):
        def forward(self, source_features, target_labels):
            return source_features.sum()

    with pytest.raises(TypeError, match="asks for 'target_labels'; there is only source_features"):
        Greedy.needs()


def test_a_specification_reads_well():
    spec = parse_objectives({"mmd": {"weight": 0.5, "schedule": "linear", "kernels": 3}})[0]
    assert str(spec) == "0.5 x mmd, linear, kernels=3"
    assert str(parse_objectives("dann")[0]) == "0.1 x dann, warm_start"


def test_modules_are_a_module_dict():
    """So that parameters and buffers join the optimizer, the checkpoint and the device."""
    modules, _ = build_objectives(parse_objectives({"dann": 1, "supcon": 1}), 4, 3)
    assert isinstance(modules, nn.ModuleDict)
    assert any(name.startswith("dann.discriminator") for name, _ in modules.named_parameters())
    assert any(name.startswith("supcon.queue") for name, _ in modules.named_buffers())


@pytest.mark.parametrize("kind", REGISTRY)
def test_where_a_sweep_may_look_is_where_the_objective_lets_it(kind):
    """Both ends of every range, and every choice, can be built; the default lies among them."""
    search = REGISTRY[kind].search
    assert isinstance(search["weight"], Range)
    for name, where in search.items():
        values = (where.low, where.high) if isinstance(where, Range) else where
        if isinstance(where, Range):
            assert where.low < where.high
            assert not where.log or where.low > 0
        for value in values:
            build_objectives(parse_objectives({kind: {**LEAST.get(kind, {}), name: value}}), 8, 3)
        cls = REGISTRY[kind]
        default = cls.default_weight if name == "weight" else cls.settings()[name].default
        assert where.low <= default <= where.high if isinstance(where, Range) else default in where


# ---- objectives of one's own


class MeanGap(Objective):
    """Squared distance of the means."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, source_features, target_features):
        return self.scale * (source_features.mean(0) - target_features.mean(0)).square().sum()


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is gone after it."""
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def test_an_objective_is_registered_under_a_name(registry):
    assert register_objective("mean_gap", MeanGap) is MeanGap
    assert register_objective("mean_gap", MeanGap) is MeanGap  # again: a cell of a notebook that runs twice
    (spec,) = parse_objectives({"mean_gap": {"weight": 0.5, "scale": 2.0}})
    assert (spec.kind, spec.cls, spec.settings) == ("mean_gap", MeanGap, {"scale": 2.0})
    modules, _ = build_objectives([spec], feature_dim=2, num_classes=3)
    assert modules["mean_gap"](torch.ones(2, 2), torch.zeros(3, 2)).item() == 4.0


@pytest.mark.parametrize("value", [MeanGap, {"kind": MeanGap}, {"kind": f"{__name__}:MeanGap"}])
def test_a_class_stands_in_place_of_a_kind(registry, value):
    (spec,) = parse_objectives({"mine": value})
    assert (spec.name, spec.weight) == ("mine", 1.0)
    assert spec.cls.__qualname__ == "MeanGap"
    with pytest.raises(ValueError, match="no setting 'scael'.*Did you mean 'scale'"):
        parse_objectives({"mine": {"kind": MeanGap, "scael": 1}})


def _of(**members):
    return type("Odd", (Objective,), members)


def _weighing(weight):
    return _of(forward=lambda self, logits: 0, default_weight=weight)


NO_WEIGHTS = (-0.1, math.nan, math.inf, "0.1", True, None)


@pytest.mark.parametrize(
    ("name", "cls", "error", "said"),
    [
        ("mmd", MeanGap, ValueError, "objective 'mmd' already"),
        ("task", MeanGap, ValueError, "cannot be called 'task'"),
        ("mean gap", MeanGap, ValueError, "cannot be called 'mean gap'"),
        ("keys", MeanGap, ValueError, "cannot be called 'keys'"),
        ("odd", nn.Linear, TypeError, "'Linear' is no subclass of hftransfer.Objective"),
        ("odd", MeanGap(), TypeError, "no subclass"),
        ("odd", _of(), TypeError, "Odd has no forward"),
        ("odd", _of(forward=lambda self, sauce: 0), TypeError, "asks for 'sauce'"),
        ("odd", _of(forward=lambda self, logits: 0, fit=lambda self, tables: 0), TypeError, "fit asks for 'tables'"),
        ("odd", _of(forward=lambda self, logits: 0, learn=lambda self, labels: 0), TypeError, "learn: .* called fit"),
        ("odd", _of(forward=lambda self, target_rerun: 0), TypeError, "it is called perturbed_target_forward now"),
        ("odd", _of(forward=lambda self, **given: 0), TypeError, r"takes \*\*given: let it name"),
        ("odd", _of(forward=lambda self, *logits: 0), TypeError, r"takes \*logits: let it name"),
        ("odd", _of(forward=lambda self, logits: 0, default_schedule="linaer"), ValueError, "'linaer'"),
        *[("odd", _weighing(w), ValueError, "Odd.default_weight=.* must be a fin") for w in NO_WEIGHTS],
    ],
)
def test_what_cannot_be_registered(registry, name, cls, error, said):
    with pytest.raises(error, match=said):
        register_objective(name, cls)
    assert "odd" not in REGISTRY


@pytest.mark.parametrize("kind", ["no_such_module:Loss", "math:Loss", "math:"])
def test_a_class_that_cannot_be_imported(kind):
    with pytest.raises(ValueError, match=f"kind='{kind}' cannot be imported"):
        parse_objectives({"mine": {"kind": kind}})


def test_a_file_imports_a_class_only_when_it_is_trusted():
    for text in ('{"mine": {"kind": "no_such_module:Loss"}}', "mine: {kind: 'no_such_module:Loss'}"):
        with pytest.raises(ValueError, match="kind='no_such_module:Loss' imports code.*--trust_config_code"):
            refuse_imports(text)
