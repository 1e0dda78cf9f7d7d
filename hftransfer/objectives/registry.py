"""Registry of objectives: one line for each method."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from .alignment.adda import ADDA
from .alignment.afn import AFN
from .alignment.bsp import BSP
from .alignment.cdan import CDAN, CDANE
from .alignment.cdann import CDANN
from .alignment.cmd import CMD
from .alignment.coral import CORAL
from .alignment.dann import DANN
from .alignment.deepjdot import DeepJDOT
from .alignment.dsan import DSAN
from .alignment.iwan import IWAN
from .alignment.jan import JAN
from .alignment.m3sda import M3SDA
from .alignment.mcd import MCD
from .alignment.mdd import MDD
from .alignment.mmd import MMD
from .alignment.mmd_rff import MMDRFF
from .alignment.osbp import OSBP
from .alignment.prototype import Prototype
from .alignment.supcon import SupCon
from .alignment.swd import SWD
from .alignment.wdgrl import WDGRL
from .anchoring.bi_tuning import BiTuning
from .anchoring.bss import BSS
from .anchoring.co_tuning import CoTuning
from .anchoring.delta import Delta
from .anchoring.distill_attention import DistillAttention
from .anchoring.distill_features import DistillFeatures
from .anchoring.distill_logits import DistillLogits
from .anchoring.l2_sp import L2SP
from .anchoring.lwf import LwF
from .anchoring.prediction_constraint import Constraint
from .anchoring.rkd import RKD
from .base import FIT_INPUTS, Objective
from .schedules import get_schedule, is_weight
from .self_training.bnm import BNM
from .self_training.entropy import Entropy
from .self_training.fixmatch import FixMatch
from .self_training.im import InformationMaximization
from .self_training.masked_lm import MaskedLM
from .self_training.mcc import MCC
from .self_training.mean_teacher import MeanTeacher
from .self_training.mixup import Mixup
from .self_training.nt_xent import NTXent
from .self_training.soft_labels import SoftLabels
from .self_training.vat import VAT

REGISTRY: dict[str, type[Objective]] = {
    "mmd": MMD,
    "mmd_rff": MMDRFF,
    "jan": JAN,
    "dsan": DSAN,
    "coral": CORAL,
    "cmd": CMD,
    "swd": SWD,
    "deepjdot": DeepJDOT,
    "m3sda": M3SDA,
    "dann": DANN,
    "adda": ADDA,
    "cdan": CDAN,
    "cdan_e": CDANE,
    "cdann": CDANN,
    "mdd": MDD,
    "mcd": MCD,
    "wdgrl": WDGRL,
    "iwan": IWAN,
    "osbp": OSBP,
    "prototype": Prototype,
    "supcon": SupCon,
    "nt_xent": NTXent,
    "mcc": MCC,
    "bnm": BNM,
    "entropy": Entropy,
    "im": InformationMaximization,
    "afn": AFN,
    "bsp": BSP,
    "vat": VAT,
    "mixup": Mixup,
    "soft_labels": SoftLabels,
    "fixmatch": FixMatch,
    "mean_teacher": MeanTeacher,
    "masked_lm": MaskedLM,
    "l2_sp": L2SP,
    "lwf": LwF,
    "distill_logits": DistillLogits,
    "distill_features": DistillFeatures,
    "distill_attention": DistillAttention,
    "bss": BSS,
    "delta": Delta,
    "rkd": RKD,
    "co_tuning": CoTuning,
    "bi_tuning": BiTuning,
    "constraint": Constraint,
}


def register_objective(name: str, cls: type[Objective]) -> type[Objective]:
    """Registration of an objective of your own under a name, for `objectives`, the command line, the plan and the
    model card.

    Args:
        name: what it is called.
        cls: a subclass of `Objective`; its `forward` names inputs from `INPUTS`.

    Returns:
        The class.

    Raises:
        TypeError: no subclass of `Objective`, or `forward` or `fit` asks for an input that there is not.
        ValueError: the name is taken or cannot be one, or the default weight or schedule is none.

    Example:
        >>> class MeanGap(Objective):
        ...     def forward(self, source_features, target_features):
        ...         return (source_features.mean(0) - target_features.mean(0)).square().sum()
        >>> register_objective("mean_gap", MeanGap).__name__
        'MeanGap'
    """
    check_objective_class(cls)
    if not isinstance(name, str) or not name.isidentifier() or name == "task" or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"An objective cannot be called {name!r}: take letters, digits and _, and no name in use.")
    if REGISTRY.get(name, cls) is not cls:
        raise ValueError(
            f"There is an objective {name!r} already ({REGISTRY[name].__qualname__}). Choose another name."
        )
    REGISTRY[name] = cls
    return cls


def check_objective_class(cls: Any) -> None:
    """Check that a run can use a class as an objective. Raises a `TypeError` or a `ValueError`."""
    if not (inspect.isclass(cls) and issubclass(cls, Objective)):
        raise TypeError(f"{getattr(cls, '__qualname__', cls)!r} is no subclass of hftransfer.Objective.")
    if cls.forward is Objective.__dict__.get("forward", nn.Module.forward):
        raise TypeError(f"{cls.__qualname__} has no forward: let it name its inputs and return a scalar.")
    cls.needs()
    if callable(getattr(cls, "learn", None)):
        raise TypeError(f"{cls.__qualname__}.learn: the method is called fit now.")
    unknown = [name for name in cls.fit_inputs({}) if name not in FIT_INPUTS]
    if unknown:
        raise TypeError(f"{cls.__qualname__}.fit asks for {unknown[0]!r}; there is only {', '.join(FIT_INPUTS)}.")
    if not is_weight(cls.default_weight):
        raise ValueError(
            f"{cls.__qualname__}.default_weight={cls.default_weight!r} must be a finite number of at least 0."
        )
    get_schedule(cls.default_schedule)


def registered_kind(cls: Any) -> str:
    """Registered name of a class in a specification; a class that has none goes by its module's."""
    for name, registered in REGISTRY.items():
        if registered is cls:
            return name
    check_objective_class(cls)
    name = f"{cls.__module__}:{cls.__qualname__}"
    REGISTRY[name] = cls  # one that was written anew, in a notebook, takes the place of the old one
    return name
