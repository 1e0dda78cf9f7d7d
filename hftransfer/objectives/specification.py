"""Specification of objectives: the setting `objectives`, parsed, checked and built."""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..former_names import former_peak
from ..messages import nearest
from ..settings import read_setting
from .base import Objective, TeacherFacts, VocabularyFacts
from .registry import REGISTRY, registered_kind
from .schedules import Schedule, describe_schedule, get_schedule, is_weight

FEATURES = re.compile(r"head|mean|hidden:-?\d+")  # places in the model that an objective may read its features from


@dataclass(frozen=True)
class ObjectiveSpec:
    """One entry of `objectives`: the run's name for it, its kind, its weight at the schedule's end, its schedule, its
    settings and the layer that its features come from."""

    name: str
    kind: str
    weight: float
    schedule: str | dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    features: str = "head"

    @property
    def cls(self) -> type[Objective]:
        """Class of the objective."""
        return REGISTRY[self.kind]

    def reads(self) -> dict[str, str]:
        """Map from arguments of `forward` to the inputs that they are given."""
        return self.cls.reads(self.settings)

    @property
    def reads_target(self) -> bool:
        """Whether the objective needs target rows."""
        return any("target" in need for need in self.reads().values())

    @property
    def reads_source(self) -> bool:
        """Whether the objective needs source rows, in training or to be fitted before."""
        return any("source" in need for need in self.reads().values()) or bool(self.cls.fit_inputs(self.settings))

    def without_source(self) -> ObjectiveSpec:
        """The same in a run without source rows."""
        return replace(self, settings=self.cls.without_source(self.settings))

    def __str__(self) -> str:
        extra = "".join(f", {k}={v}" for k, v in self.settings.items())
        extra += f", features={self.features}" if self.features != "head" else ""
        return f"{self.weight:g} x {self.kind}, {describe_schedule(self.schedule)}{extra}"


def _imported_class(name: str, kind: str) -> type[Objective]:
    """The class that `module:Class` names."""
    module, _, attribute = kind.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Objective {name!r}: kind={kind!r} cannot be imported: {error}") from error


def parse_objectives(objectives: Mapping[str, Any] | str | None) -> list[ObjectiveSpec]:
    """Specifications from the setting `objectives`: `{"mmd": 0.1}`, `{"cdan": {"weight": 0.5, "schedule": "linear",
    "hidden": 256}}` or the same as JSON or YAML text. A number is the weight at the schedule's end; a name alone, a
    list of names or a map without `weight` asks for the default weight. Two of a kind go under two names, each with
    `kind`. In place of a kind's name there may be a subclass of `Objective`, or, as text, `module:Class`.

    Raises:
        ValueError: an unknown objective, setting or schedule (the nearest name is offered), a weight that is negative
            or not finite, or a name that a run cannot use.
    """
    if objectives is None or objectives == "":
        return []
    objectives = read_setting("objectives", objectives)
    if isinstance(objectives, str) or (isinstance(objectives, list) and all(isinstance(o, str) for o in objectives)):
        names = [objectives] if isinstance(objectives, str) else objectives
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"objectives names {repeated[0]!r} twice. Give it a weight: {{{repeated[0]!r}: 0.2}}.")
        objectives = {name: {} for name in names}
    if objectives is None:
        return []
    if not isinstance(objectives, Mapping):
        raise ValueError(
            f'objectives must map names to weights, such as {{"mmd": 0.1}}, or be names alone, not {objectives!r}.'
        )
    return [_parse_one(str(name), value) for name, value in objectives.items()]


def _parse_one(name: str, value: Any) -> ObjectiveSpec:
    if inspect.isclass(value):
        value = {"kind": value}
    settings = _parsed_numbers(dict(value) if isinstance(value, Mapping) else {"weight": value})
    kind = settings.pop("kind", name)
    if isinstance(kind, str) and ":" in kind and kind not in REGISTRY:
        kind = _imported_class(name, kind)
    if inspect.isclass(kind):
        kind = registered_kind(kind)
    if not isinstance(kind, str) or kind not in REGISTRY:
        raise ValueError(_unknown_kind_message(name, kind, settings))
    if name in ("", "task") or "." in name or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"An objective cannot be called {name!r}: the name is taken, empty or has a dot in it.")
    cls: type[Objective] = REGISTRY[kind]
    schedule = settings.pop("schedule", cls.default_schedule)
    if isinstance(schedule, Mapping) and "peak" in schedule:
        raise ValueError(f"Objective {name!r}: {former_peak(schedule, settings.get('weight', 1.0))}")
    weight = settings.pop("weight", cls.default_weight)
    if not is_weight(weight):
        raise ValueError(f"The weight of objective {name!r} must be a number of at least 0, not {weight!r}.")
    not_finite = _first_not_finite({"schedule": schedule, **settings}, "")
    if not_finite:
        raise ValueError(f"Objective {name!r}: {not_finite} must be a finite number.")
    get_schedule(schedule)
    features = settings.pop("features", "head")
    _check_features(name, cls, features)
    for key in settings:
        if key not in cls.settings():
            known_settings = [*cls.settings(), "weight", "schedule", "features", "kind"]
            raise ValueError(
                f"Objective {name!r} has no setting {key!r}; it has "
                f"{', '.join(known_settings)}.{nearest(key, known_settings)}"
            )
    return ObjectiveSpec(name, kind, float(weight), schedule, settings, features)


def _unknown_kind_message(name: str, kind: Any, settings: Mapping[str, Any]) -> str:
    if kind != "distill":
        return f"There is no objective {kind!r}; there is {', '.join(REGISTRY)}.{nearest(kind, REGISTRY)}"
    of = settings.get("of", "logits")
    kinds = [registered for registered in REGISTRY if registered.startswith("distill_")]
    write = f"Write 'distill_{of}', without 'of'." if f"distill_{of}" in kinds else "Write one of them."
    return f"Objective {name!r}: 'distill' has become {', '.join(kinds)}. {write}"


def checked_objectives(objectives: Any, trusted: bool) -> Any:
    """The setting `objectives`, parsed once and found valid, with the name of each class in its place.

    Args:
        objectives: as in `parse_objectives`.
        trusted: text may name code to import.

    Raises:
        ValueError: as `parse_objectives` and, of text, `refuse_imports`.
    """
    if isinstance(objectives, str) and not trusted:
        refuse_imports(objectives)
    plain = without_classes(objectives)
    parse_objectives(plain)
    return plain


def check_task_weight(task_weight: float, specs: Sequence[ObjectiveSpec]) -> None:
    """Check that a run's loss has at least one term. Raises a `ValueError`."""
    if not task_weight and not any(spec.weight for spec in specs):
        raise ValueError("task_weight=0 leaves nothing to train on: name an objective, or leave it at 1.")


def without_classes(objectives: Any) -> Any:
    """The same specification with the name of each class in its place: text, as files and other processes keep it."""
    if not isinstance(objectives, Mapping):
        return objectives
    plain = {}
    for name, value in objectives.items():
        value = {"kind": value} if inspect.isclass(value) else value
        if isinstance(value, Mapping) and inspect.isclass(value.get("kind")):
            value = {**value, "kind": registered_kind(value["kind"])}
        plain[name] = value
    return plain


def refuse_imports(objectives: Mapping[str, Any] | str | None) -> None:
    """Check that a specification from a config file or a command line names no code to import.

    Raises:
        ValueError: it does, or it is none.

    Example:
        >>> refuse_imports({"constraint": {"function": "rules:at_least_one"}})
        Traceback (most recent call last):
        ValueError: Objective 'constraint': function='rules:at_least_one' imports code that a config file or a ...
    """
    objectives_map = read_setting("objectives", objectives)
    for name, value in objectives_map.items() if isinstance(objectives_map, Mapping) else ():
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if isinstance(kind, str) and ":" in kind:  # before it is imported
            raise ValueError(_untrusted_import_message(str(name), "kind", kind, "class"))
    for spec in parse_objectives(objectives_map):
        for key in spec.cls.imports:
            if isinstance(spec.settings.get(key), str):
                raise ValueError(_untrusted_import_message(spec.name, key, spec.settings[key], "function"))


def _untrusted_import_message(name: str, key: str, value: str, imported: str) -> str:
    return (
        f"Objective {name!r}: {key}={value!r} imports code that a config file or a command line names. If you have "
        f"read it and trust it, say so with --trust_config_code; from Python, pass the {imported} itself."
    )


def _check_features(name: str, cls: type[Objective], features: Any) -> None:
    if not isinstance(features, str) or not FEATURES.fullmatch(features):
        raise ValueError(
            f"Objective {name!r}: features={features!r} must be 'head' (what the final layer sees), 'mean' (the last "
            "layer, averaged over tokens) or 'hidden:<layer>', such as 'hidden:-3' for the last layer but two."
        )
    if features != "head" and (cls.at_head or not any(need.endswith("features") for need in cls.needs())):
        reason = "it puts a head on them" if cls.at_head else "it reads none"
        raise ValueError(f"Objective {name!r}: leave features at 'head'; {features!r} has no effect, {reason}.")


def _parsed_numbers(value: Any) -> Any:
    """Settings with the numbers that YAML took for text, such as 1e-3, parsed."""
    if isinstance(value, Mapping):
        return {key: _parsed_numbers(item) for key, item in value.items()}
    if isinstance(value, str):
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                pass
    return value


def _first_not_finite(value: Any, path: str) -> str | None:
    """Path of the first number in the settings that is not finite, such as `bandwidth`."""
    if isinstance(value, Mapping):
        paths = (_first_not_finite(item, f"{path}{': ' * bool(path)}{key}") for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        paths = (_first_not_finite(item, path) for item in value)
    else:
        return path if isinstance(value, float) and not math.isfinite(value) else None
    return next((inner for inner in paths if inner), None)


def build_objectives(
    specs: list[ObjectiveSpec],
    feature_dim: int | Mapping[str, int],
    num_classes: int,
    num_sources: int = 1,
    class_names: Sequence[str] = (),
    task: str = "sequence-classification",
    teachers: Callable[[str], Sequence[TeacherFacts]] = lambda feature_layer: (),
    vocabulary: VocabularyFacts | None = None,
) -> tuple[nn.ModuleDict, dict[str, Schedule]]:
    """Modules and schedules of objectives, by name. An objective of weight 0 is left out: it computes nothing.

    Args:
        specs: from `parse_objectives`.
        feature_dim: width of the features, or widths by feature layer (`"head"`, `"mean"`, `"hidden:-3"`).
        num_classes, num_sources: of the run; 0 sources in one on target rows alone.
        class_names: in the order of the logits; their numbers if not given.
        task: of the run.
        teachers: facts of the teachers, by feature layer.
        vocabulary: of the model, for objectives that predict words.

    Raises:
        ValueError: a setting that an objective refuses.
    """
    modules, schedules = nn.ModuleDict(), {}
    for spec in specs:
        if spec.weight == 0:
            continue
        spec = spec if num_sources else spec.without_source()
        cls: Any = spec.cls
        width = feature_dim if isinstance(feature_dim, int) else feature_dim[spec.features]
        filled_in: dict[str, Any] = {"feature_dim": width, "num_classes": num_classes, "num_sources": num_sources}
        filled_in |= {"class_names": class_names or tuple(map(str, range(num_classes))), "task": task}
        filled_in |= {"teachers": teachers(spec.features), "vocabulary": vocabulary}
        parameters = inspect.signature(cls.__init__).parameters
        try:
            modules[spec.name] = cls(**{k: v for k, v in filled_in.items() if k in parameters}, **spec.settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Objective {spec.name!r}: {error}") from error
        modules[spec.name].inputs = spec.reads()  # type: ignore[assignment]
        schedules[spec.name] = get_schedule(spec.schedule)
    return modules, schedules
