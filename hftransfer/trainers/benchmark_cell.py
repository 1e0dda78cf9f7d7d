"""Benchmark cell: a model trained with one method on one shift, scored, measured and thrown away."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from .._version import __version__
from ..data.domain_arguments import source_label
from ..data.domain_loading import LoadedDomains, load_shift
from ..data.label_space import LabelSpace
from ..data.pairing import PairedDataset
from ..objectives.specification import build_objectives
from ..reporting.benchmark_table import CONTROL, ORACLE
from .config import AdaptationConfig
from .metrics import metrics_for
from .setup.metric_choice_check import check_evaluation, check_selection
from .setup.preparation import Prepared, prepare
from .setup.sampling import paired_sampler, planned_updates
from .trainer import AdaptationTrainer

SPLIT_SEED = 0  # what is held out of a source is the same for all cells


def run_cell(settings: Mapping[str, Any], config: AdaptationConfig) -> dict[str, Any]:
    """Scores of one cell: its model is trained and scored, and only the numbers are kept.

    Args:
        settings: `model`, `model_kwargs`, `source`, `target`, `test`, `validation_fraction`, `lora`, `role`
            (`"source-only"`, `"no objective"`, `"target-trained"` or `"method"`) and, if it is not the model's own,
            `processor`.
        config: the rest.

    Returns:
        Every metric of the test sets, the target's marked oracle; seconds of training, peak memory, versions.
    """
    data = _load(settings, config)
    reads_target = settings["role"] == CONTROL or _reads_target(config)
    train, target = data.train, data.target if reads_target else None
    if settings["role"] == ORACLE:
        train = {"source": data.target}
    if target is None and config.max_steps <= 0:
        config.max_steps = _updates(config, data)
    trainer = AdaptationTrainer(
        settings["model"],
        config,
        train_dataset=train,
        target_dataset=target,
        eval_dataset=data.validation or None,
        processing_class=settings.get("processor"),
        peft_config=_lora(settings),
        model_kwargs=settings["model_kwargs"],
    )
    test = _encoded(trainer.prepared, data)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    on_gpu = torch.cuda.is_available() and not config.use_cpu
    return {
        "updates": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "peak_memory": torch.cuda.max_memory_allocated() if on_gpu else peak_memory(),
        "device": torch.cuda.get_device_name() if on_gpu else config.device.type,
        "hftransfer": __version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sources": list(data.train),
        **_tidy(metrics, data.train),
    }


@dataclass(frozen=True)
class ShiftFacts:
    """Facts of a shift's data and a policy's model.

    Args:
        width: of features.
        label_space: the labels.
        train: names of the sources.
        validation: names of the validation sets.
        labelled: the target's train split has labels.
    """

    width: int
    label_space: LabelSpace
    train: dict[str, None]
    validation: dict[str, None]
    labelled: bool


@dataclass
class CellCheck:
    """Check of cells before anything is trained; data and model are read once for each shift and policy."""

    facts: dict[tuple[str, str], ShiftFacts] = field(default_factory=dict)

    def check(self, shift: str, policy: str, settings: Mapping[str, Any], config: AdaptationConfig) -> None:
        """Check of one cell; raises `ValueError`, `TypeError` or `OSError` if it could not run."""
        if config.n_gpu > 1:
            raise ValueError(f"{config.n_gpu} GPUs are visible, and a cell runs on one: set CUDA_VISIBLE_DEVICES=0.")
        if (shift, policy) not in self.facts:
            self.facts[shift, policy] = _read_facts(settings, config)
        shift_facts = self.facts[shift, policy]
        build_objectives(
            config.objective_specs(), shift_facts.width, len(shift_facts.label_space.names), len(shift_facts.train)
        )
        measures = metrics_for(shift_facts.label_space.task, shift_facts.label_space.names).measures()
        check_evaluation(config, shift_facts.validation or None)
        check_selection(config, shift_facts.label_space, shift_facts.validation, tuple(shift_facts.train), measures)
        if settings["role"] == ORACLE and not shift_facts.labelled:
            raise ValueError(
                f"target_trained needs target rows with labels, and the train split of {settings['target']!r} has no "
                f"column {config.label_column!r}."
            )


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; `None` where it cannot be read.

    Linux's `ru_maxrss` starts from that of the parent process, so it is read on other systems only.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peaks[0]) * 1024 if peaks else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _read_facts(settings: Mapping[str, Any], config: AdaptationConfig) -> ShiftFacts:
    """Facts of a cell's data and model, which are read and prepared for it."""
    data, label = _load(settings, config), config.label_column
    if label not in (getattr(data.test.get("target"), "column_names", None) or ()):
        raise ValueError(
            f"target {settings['target']!r} has no test or validation split with labels in a column {label!r}, and "
            "the table needs one: name one as `test: {target: …}`."
        )
    processor, options = settings.get("processor"), settings["model_kwargs"]
    args = (data.train, data.target, data.validation or None, processor, _lora(settings), options)
    prepared = prepare(settings["model"], config, *args)
    _encoded(prepared, data)
    return ShiftFacts(
        width=prepared.head.in_features,
        label_space=prepared.label_space,
        train=dict.fromkeys(data.train),
        validation=dict.fromkeys(data.validation),
        labelled=label in data.target.column_names,  # type: ignore[union-attr]
    )


def _load(settings: Mapping[str, Any], config: AdaptationConfig) -> LoadedDomains:
    return load_shift(
        settings["source"],
        settings["target"],
        settings["validation_fraction"],
        SPLIT_SEED,
        settings["test"],
        config.image_column,
        settings.get("encoding"),
        config.label_column,
        (config.text_column, config.text_pair_column, config.tokens_column),
    )


def _lora(settings: Mapping[str, Any]) -> Any:
    from peft import LoraConfig

    return LoraConfig(**settings["lora"]) if settings["lora"] else None


def _encoded(prepared: Prepared, data: LoadedDomains) -> dict[str, Any]:
    return {
        name: prepared.encode_evaluation(rows, f"the test split of {name if name == 'target' else source_label(name)}")
        for name, rows in data.test.items()
    }


def _reads_target(config: AdaptationConfig) -> bool:
    objectives = any(spec.weight for spec in config.objective_specs())
    return objectives or config.label_shift != "none" or config.adabn or config.reveal_target_labels > 0


def _updates(config: AdaptationConfig, data: LoadedDomains) -> int:
    """Number of updates of a method; rows of the table that read one domain only take as many."""
    return planned_updates(paired_sampler(PairedDataset(data.train, data.target), config), config)


def _tidy(metrics: Mapping[str, float], sources: Iterable[str]) -> dict[str, float]:
    """Metrics by set, without prefix and timings. A source's are no oracle's, whatever was trained on."""
    out = {}
    for key, value in metrics.items():
        key = key.removeprefix("test_")
        if any(key.startswith(f"{name}_oracle_") for name in sources):
            key = key.replace("_oracle_", "_", 1)
        if not key.endswith(("_runtime", "_per_second", "_preparation_time")) and key != "epoch":
            out[key] = value
    return out
