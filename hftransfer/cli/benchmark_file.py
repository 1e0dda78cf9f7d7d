"""YAML file of a benchmark: its keys, and the cells that it asks for. No heavy import, so that `--help` is instant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from ..messages import nearest
from ..setting_ranges import RANGES, read_number
from ..yaml_files import read_yaml
from .recipe_parser import TRUST, RecipeParser
from .run_options import MODEL_OPTIONS, RunArguments

KEYS = {
    **MODEL_OPTIONS,
    "output_dir": "where results go",
    "seeds": "a list of numbers; [1, 2, 3] when absent",
    "shifts": "names to {source, target} and, if need be, test, validation_fraction, encoding and settings",
    "methods": "names to objectives, or to {objectives: …} and settings; source-only is always there",
    "policies": "names to settings such as {trainable: head} or {lora: {r: 8}}; {full: {}} when absent",
    "training": "settings of all cells",
    "target_trained": "add a row trained on the target's labels; false when absent",
    "control": "add a row that runs target rows beside the source's and asks nothing of them; false when absent",
    "metric": "which one is shown: accuracy (when absent), macro_f1, micro_f1 or pearson",
}
SHIFT_KEYS = ("source", "target", "test", "validation_fraction", "encoding")
NOT_HERE = {
    "seed": "seeds stand at the top of the file, under `seeds`",
    "output_dir": "it stands at the top of the file",
    "objectives": "objectives belong under `methods`",
    "allow_oracle_selection": "nothing is chosen by target labels here",
    "push_to_hub": "a benchmark keeps no models; train the one you want with finetune",
    "resume_from_checkpoint": "a cell is run whole or not at all",
    "trust_config_code": "it stands on the command line alone: a file cannot say that it is trusted",
    "overwrite_output_dir": "finished cells are kept; choose another output_dir to run them again",
}
CELL_FIELDS = ("shift", "method", "policy", "seed")
# Of a cell. Its models are thrown away, so nothing is saved unless the choice of a checkpoint needs it.
DEFAULTS = {"save_strategy": "no", "disable_tqdm": True, "report_to": "none"}
LORA_RANGES = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
LORA_CODE = {"megatron_config", "megatron_core"}  # PEFT imports the module that the second one names
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05}


@dataclass(frozen=True)
class Cell:
    """Benchmark cell: one run of a method on a shift with a policy and a seed. `settings` is all it is made from."""

    shift: str
    method: str
    policy: str
    seed: int
    settings: dict[str, Any]

    @property
    def hash(self) -> str:
        """Hash of the settings: a cell whose settings changed is another cell."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def row(self) -> tuple[str, str, str]:
        """Row of the table that the cell's results go to."""
        return self.shift, self.method, self.policy

    @property
    def facts(self) -> dict[str, Any]:
        """Head of the cell's line in results.jsonl."""
        return {name: getattr(self, name) for name in CELL_FIELDS} | {"hash": self.hash}

    @property
    def name(self) -> str:
        """Shift, method and policy, as messages have them."""
        return " · ".join(self.row)

    def __str__(self) -> str:
        return f"{self.name} · seed {self.seed}"

    def config(self, output_dir: Path) -> Any:
        """`AdaptationConfig` of the cell, each value read as on the command line.

        Raises:
            ValueError: a setting that cannot be, with the cell's name.
        """
        from ..trainers.config import AdaptationConfig

        settings = {**self.settings["config"], "output_dir": str(output_dir)}
        return RecipeParser([AdaptationConfig]).parse_dict(settings, self.name)[0]


@dataclass(frozen=True)
class Benchmark:
    """Cells of a benchmark's file, in the order in which they are run.

    Args:
        output_dir: where results go.
        metric: which one is shown.
        cells: every method, source-only among them, on every shift with every policy and seed.
    """

    output_dir: Path
    metric: str
    cells: list[Cell]


def read_benchmark(path: Path, trusted: bool = False) -> Benchmark:
    """Cells of a YAML file; all of it is checked that can be checked without data or model.

    Args:
        path: the file.
        trusted: it may name code to import.

    Raises:
        ValueError: something in the file that cannot be, with one message.

    Example:
        >>> keys = "output_dir: runs/comparison, shifts: {news: {source: sample, target: sample}}, methods: {mmd: mmd}"
        >>> Path("mine.yaml").write_text(f"{{{keys}}}")
        >>> for cell in read_benchmark(Path("mine.yaml")).cells[:2]:
        ...     print(cell)
        news · source-only · full · seed 1
        news · mmd · full · seed 1
    """
    from ..reporting.benchmark_table import BASELINE, CONTROL, METRICS, ORACLE

    options = read_yaml(path)
    for key in options:
        if key in _config_fields() - set(KEYS) - set(NOT_HERE):
            raise ValueError(f"{path}: {key!r} cannot stand here: settings stand under `training`.")
    _check_keys(str(path), options, KEYS)
    for key in ("output_dir", "shifts"):
        if not options.get(key):
            raise ValueError(f"{path}: {key!r} is missing: {KEYS[key]}.")
    metric = options.get("metric", METRICS[0])
    if metric not in METRICS:
        raise ValueError(f"{path}: metric: there is no {metric!r}; there is {', '.join(METRICS)}.")
    seeds = _seeds(path, options.get("seeds", [1, 2, 3]))
    model = _model(path, {key: options[key] for key in MODEL_OPTIONS if options.get(key)})
    common = _training_fields(f"{path}: training", options.get("training"))
    shifts = {name: _shift(location, value) for name, location, value in _named(path, options, "shifts")}
    policies = {name: _policy(location, value) for name, location, value in _named(path, options, "policies")}
    methods: dict[str, dict[str, Any]] = {BASELINE: {}}
    for name, location, value in _named(path, options, "methods"):
        methods[name] = _method(location, value, trusted)
        if name in (ORACLE, CONTROL):
            key = "target_trained" if name == ORACLE else "control"
            raise ValueError(f"{location}: the name is taken; `{key}: true` adds that row.")
        if name == BASELINE and methods[name]["objectives"]:
            raise ValueError(f"{location}: that row trains on the source alone; it has no objectives.")
    if options.get("control"):
        methods = {BASELINE: methods.pop(BASELINE), CONTROL: {}, **methods}
    if options.get("target_trained"):
        methods[ORACLE] = {}
    combinations = product(shifts.items(), seeds, (policies or {"full": {"lora": None}}).items(), methods.items())
    cells = []
    for (shift, domains), seed, (policy, policy_settings), (method, method_settings) in combinations:
        trust = {TRUST: True} if trusted else {}
        role = method if method in (BASELINE, CONTROL, ORACLE) else "method"
        config = {**DEFAULTS, **common, **domains["config"], **policy_settings.get("config", {}), **method_settings}
        config |= {**trust, "seed": seed}
        if role != "method":  # nothing is asked of the target
            config |= {"objectives": None, "label_shift": "none", "adabn": False, "reveal_target_labels": 0}
        if role == ORACLE:  # no source is left to choose a checkpoint by
            config |= {"load_best_model_at_end": False, "metric_for_best_model": None}
        settings = {**model, **domains, "lora": policy_settings["lora"], "role": role, "config": config}
        settings = json.loads(json.dumps(settings, default=str))  # as another process will read them
        cells.append(Cell(shift, method, policy, seed, settings))
    return Benchmark(Path(options["output_dir"]), metric, cells)


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Cells that `--only` names, as in `["method=mmd,dann", "seed=1"]`; all when it names none.

    Raises:
        ValueError: there is no such field or name.
    """
    chosen = list(cells)
    for word in only:
        field, _, names = word.partition("=")
        if field not in CELL_FIELDS or not names:
            known = ", ".join(CELL_FIELDS)
            raise ValueError(f"--only {word}: write FIELD=NAME,… with one of {known}.{nearest(field, CELL_FIELDS)}")
        present = dict.fromkeys(str(getattr(cell, field)) for cell in cells)
        for name in names.split(","):
            if name not in present:
                listed = f"{', '.join(present)}.{nearest(name, present)}"
                raise ValueError(f"--only {word}: there is no {field} {name!r}; there is {listed}")
        chosen = [cell for cell in chosen if str(getattr(cell, field)) in names.split(",")]
    return chosen


def _named(path: Path, options: Mapping[str, Any], key: str) -> Iterable[tuple[str, str, Any]]:
    """Name, location in the file, and value of each entry of a map."""
    entries = options.get(key) or {}
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: {key} must map names to settings, not {entries!r}.")
    for name, value in entries.items():
        location = f"{path}: {key}: {name}"
        if not re.fullmatch(r"[^\s,=|]([^,=|\n]*[^\s,=|])?", str(name)):
            raise ValueError(f"{location}: a name may hold neither ',' nor '=' nor '|'.")
        yield str(name), location, value


def _model(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Model that all cells start from, read as in the finetune recipe."""
    chosen = RunArguments(**options)
    try:
        model = {"model": chosen.backbone(), "model_kwargs": chosen.model_kwargs()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model | ({"processor": chosen.processor} if chosen.processor else {})


def _seeds(path: Path, seeds: Any) -> list[int]:
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise ValueError(f"{path}: seeds must be a list of whole numbers, such as [1, 2, 3], not {seeds!r}.")
    try:
        seeds = [RANGES["seed"].read("seeds", seed) for seed in seeds]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    repeated = [seed for seed in seeds if seeds.count(seed) > 1]
    if repeated:
        raise ValueError(f"{path}: seeds: {repeated[0]} is there twice.")
    return seeds


def _shift(location: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value.get("source") or not value.get("target"):
        raise ValueError(f"{location}: must name a `source` and a `target`.")
    config = _training_fields(location, {k: v for k, v in value.items() if k not in SHIFT_KEYS}, SHIFT_KEYS)
    source, target, test = value["source"], value["target"], value.get("test") or {}
    sources = {str(k): v for k, v in source.items()} if isinstance(source, Mapping) else {"source": source}
    if not all(isinstance(spec, str) for spec in (*sources.values(), target)) or not isinstance(test, Mapping):
        raise ValueError(f"{location}: `source` is a text or a map of names to texts, `target` a text, `test` a map.")
    if "target" in sources:
        raise ValueError(f"{location}: source: the name 'target' is taken; give that source another.")
    if target != "sample" and target in sources.values():
        raise ValueError(f"{location}: {target!r} is source and target: there is nothing to adapt to.")
    _check_keys(f"{location}: test", test, [*sources, "target"])
    try:
        fraction = read_number("validation_fraction", value.get("validation_fraction", 0.1))
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from error
    domains = {"source": sources, "target": target, "test": dict(test), "validation_fraction": fraction}
    domains |= {"encoding": value["encoding"]} if value.get("encoding") else {}  # so that other cells keep their hash
    return {**domains, "config": config}


def _policy(location: str, value: Any) -> dict[str, Any]:
    value = _as_map(location, value)
    lora = None
    if "lora" in value:
        from peft import LoraConfig

        lora = _as_map(f"{location}: lora", value.pop("lora"))
        if lora.keys() & LORA_CODE:
            raise ValueError(
                f"{location}: lora: {min(lora.keys() & LORA_CODE)} imports code; it cannot stand in a file."
            )
        _check_keys(f"{location}: lora", lora, [field.name for field in fields(LoraConfig) if field.init])
        lora = LORA | lora
        try:
            lora |= {key: RANGES[name].read(key, lora[key]) for key, name in LORA_RANGES.items()}
        except ValueError as error:
            raise ValueError(f"{location}: lora: {error}") from error
    return {"lora": lora, "config": _training_fields(location, value, ("lora",))}


def _method(location: str, value: Any, trusted: bool = False) -> dict[str, Any]:
    """Settings of a method: an objectives spec, or a map with `objectives` and further settings."""
    from ..objectives.specification import parse_objectives, refuse_imports

    objectives = value
    config: dict[str, Any] = {}
    if isinstance(value, Mapping) and "objectives" in value:
        objectives = value["objectives"]
        config = _training_fields(location, {k: v for k, v in value.items() if k != "objectives"}, ("objectives",))
    try:
        (parse_objectives if trusted else refuse_imports)(objectives)
    except ValueError as error:
        settings = _config_fields() & set(value) if isinstance(value, Mapping) else set()
        beside = f" Settings stand beside `objectives:`, as {min(settings)!r} should." if settings else ""
        raise ValueError(f"{location}: {error}{beside}") from error
    return {**config, "objectives": objectives}


def _training_fields(location: str, value: Any, extra_keys: Sequence[str] = ()) -> dict[str, Any]:
    """Fields of `AdaptationConfig`, without those that are the benchmark's own."""
    value = _as_map(location, value)
    for key in value:
        if key in NOT_HERE:
            raise ValueError(f"{location}: {key!r} cannot stand here: {NOT_HERE[key]}.")
    _check_keys(location, value, [*_config_fields() - set(NOT_HERE), *extra_keys])
    return value


def _config_fields() -> set[str]:
    from ..trainers.config import AdaptationConfig

    return {field.name for field in fields(AdaptationConfig) if field.init}


def _as_map(location: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{location}: must map settings to values, not {value!r}.")
    return {str(key): item for key, item in (value or {}).items()}


def _check_keys(location: str, options: Iterable[Any], known: Iterable[str]) -> None:
    known = list(known)
    for key in options:
        if key not in known:
            hint = nearest(key, known) or (f" There is {', '.join(known)}." if len(known) < 20 else "")
            raise ValueError(f"{location}: unknown key {str(key)!r}.{hint}")
