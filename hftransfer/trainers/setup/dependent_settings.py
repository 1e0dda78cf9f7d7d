"""Dependent settings: checks of those with no effect without another, or that would fail only in training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_pt_utils import AcceleratorConfig

from ...messages import nearest, redacted

FILES = ("accelerator_config", "fsdp_config", "deepspeed")  # a map, or the name of a JSON file
CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop")
BACKENDS = ("nccl", "gloo", "mpi", "ccl", "xccl", "hccl", "cncl", "mccl", "mlu", "smddp")
# What optimizers of torch's read of optim_args; packages of their own read theirs.
OPTIM_ARGS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
}
PACKAGES = {"comet_ml": "comet-ml", "azure_ml": "azureml-mlflow"}
UNLISTED = ("flyte", "azure_ml")  # transformers lists them elsewhere


def check_dependent_settings(args: Any) -> None:
    """Check of settings with no effect without another, and of names that transformers looks up too late.

    Args:
        args: an `AdaptationConfig`, before `TrainingArguments` has read its fields.

    Raises:
        ValueError, FileNotFoundError, ImportError: one that cannot do what it says; it is named, with what it needs.
    """
    if args.output_dir is not None and not str(args.output_dir).strip():
        raise ValueError("output_dir is empty: name the folder that the run is written to.")
    if not args.dataloader_num_workers:
        for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if getattr(args, name, None):
                raise ValueError(
                    f"{name}={getattr(args, name)!r} is about processes that read data, and there are none: set "
                    "dataloader_num_workers to 1 or more, or leave it out."
                )
    for kind in ("activation", "gradient"):
        value = getattr(args, f"{kind}_checkpointing_kwargs", None)
        if value:
            _check_checkpointing(args, f"{kind}_checkpointing_kwargs", value)
    is_uncached = getattr(args, "cache_frozen_layers", None) == "none"  # pre-training has no such setting
    if is_uncached and args.frozen_cache_gb != type(args).frozen_cache_gb:
        raise ValueError(
            f"frozen_cache_gb={args.frozen_cache_gb:g} has no effect without cache_frozen_layers: set that to float16 "
            "or float32, or leave this out."
        )
    if args.fsdp_config and not args.fsdp:
        raise ValueError("fsdp_config has no effect without fsdp: set fsdp=True, or leave it out.")
    for name in FILES:
        _check_file(name, getattr(args, name))
    if isinstance(args.accelerator_config, Mapping):
        field_names = [field.name for field in fields(AcceleratorConfig)]
        for name in args.accelerator_config:
            if name not in field_names:
                raise ValueError(
                    f"accelerator_config has no {name!r}; it has {', '.join(field_names)}.{nearest(name, field_names)}"
                )
    if args.deepspeed and find_spec("deepspeed") is None:
        raise ImportError(
            "deepspeed is set, and the package is not installed: `pip install deepspeed`, or leave it out; fsdp=True "
            "shards a model without it."
        )
    if args.ddp_backend is not None and args.ddp_backend not in BACKENDS:
        raise ValueError(
            f"ddp_backend={args.ddp_backend!r} must be one of {', '.join(BACKENDS)}. Leave it out for the one that "
            f"suits the machine.{nearest(args.ddp_backend, BACKENDS)}"
        )
    if args.optim_args:
        _check_optim_args(str(getattr(args.optim, "value", args.optim)), args.optim_args)


def check_report_to(report_to: Any) -> None:
    """Check of the integrations that a run reports to.

    Args:
        report_to: names, as `TrainingArguments` has read them.

    Raises:
        ValueError: there is no such integration.
        ImportError: its package is not installed.
    """
    names = {report_to} if isinstance(report_to, str) else set(report_to or ())
    if names <= {"none", "all"}:
        return  # a look for each package takes longer than all other checks
    available = {*get_available_reporting_integrations(), *UNLISTED}
    for name in sorted(names - {"none", "all"}):
        if name not in INTEGRATION_TO_CALLBACK:
            known = sorted(INTEGRATION_TO_CALLBACK)
            raise ValueError(
                f"report_to={name!r} must be one of {', '.join(known)}, none or all.{nearest(name, known)}"
            )
        if name not in available:
            package = PACKAGES.get(name, name)
            raise ImportError(
                f"report_to={name!r}: {package} is not installed. Install it (`pip install {package}`), or set "
                "report_to='none'."
            )


def check_sharding(args: Any) -> None:
    """Check against FSDP in a run of one process; raises `ValueError`."""
    if args.fsdp and args.world_size == 1:
        raise ValueError(
            "fsdp shards a model over several processes, and this run has one: start it with `accelerate launch` or "
            "`torchrun`, or leave fsdp out."
        )


def _check_checkpointing(args: Any, name: str, value: Any) -> None:
    if not args.recomputes_activations:
        raise ValueError(f"{name} has no effect without activation_checkpointing=True. Set it, or leave this out.")
    for key in value if isinstance(value, Mapping) else ():
        if key not in CHECKPOINTING:
            raise ValueError(f"{name} has no {key!r}; it has {', '.join(CHECKPOINTING)}.{nearest(key, CHECKPOINTING)}")


def _check_file(name: str, value: Any) -> None:
    """A setting that names a JSON file, which must be there."""
    if not isinstance(value, (str, os.PathLike)) or str(value).lstrip().startswith("{") or not str(value):
        return
    if not os.path.isfile(value):
        raise FileNotFoundError(
            f"{name}={redacted(repr(str(value)))}: there is no such file. Give a JSON file, or a map."
        )


def _check_optim_args(optim: str, value: Any) -> None:
    names = []
    for assignment in str(value).replace(" ", "").split(","):
        name, equals, argument = assignment.partition("=")
        if not (name and equals and argument) or "=" in argument:
            raise ValueError(f"optim_args={value!r} must be a list such as 'momentum=0.9,nesterov=true'.")
        names.append(name)
    for name in names if optim in OPTIM_ARGS else ():
        readable = OPTIM_ARGS[optim]
        if name not in readable:
            raise ValueError(
                f"optim_args: {name!r} has no effect with optim={optim!r}, which reads {', '.join(readable)}. Leave "
                f"it out.{nearest(name, readable)}"
            )
