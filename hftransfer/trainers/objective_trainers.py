"""Trainers with one objective: `MMDTrainer`, `AdversarialTrainer`, `ContrastiveTrainer`."""

from __future__ import annotations

from typing import Any, ClassVar

from .config import AdaptationConfig
from .trainer import AdaptationTrainer


class _NamedTrainer(AdaptationTrainer):
    default_kind: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, model: Any = None, args: Any = None, *arguments: Any, **kwargs: Any):
        if not isinstance(args, AdaptationConfig):
            raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
        specs = args.objective_specs()
        if not specs:
            args.objectives = self.default_kind
        elif not any(spec.kind in self.kinds for spec in specs):
            raise ValueError(
                f"{type(self).__name__} trains with {' or '.join(self.kinds)}, but `objectives` names "
                f"{', '.join(s.kind for s in specs)}. Use AdaptationTrainer for any mixture."
            )
        super().__init__(model, args, *arguments, **kwargs)


class MMDTrainer(_NamedTrainer):
    """`AdaptationTrainer` with `objectives="mmd"` unless `args` says more.

    Example:
        >>> model = "sentence-transformers/all-MiniLM-L6-v2"
        >>> MMDTrainer(model, AdaptationConfig("runs/mmd"), news, medical).args.objectives
        'mmd'
    """

    default_kind, kinds = "mmd", ("mmd",)


class AdversarialTrainer(_NamedTrainer):
    """`AdaptationTrainer` with `objectives="dann"` unless `args` names `dann`, `cdan` or `cdan_e`.

    Example:
        >>> args = AdaptationConfig("runs/cdan", objectives="cdan")
        >>> trainer = AdversarialTrainer("sentence-transformers/all-MiniLM-L6-v2", args, news, medical)
    """

    default_kind, kinds = "dann", ("dann", "cdan", "cdan_e")


class ContrastiveTrainer(_NamedTrainer):
    """`AdaptationTrainer` with `objectives="supcon"` unless `args` names `supcon` or `nt_xent`.

    Example:
        >>> args = AdaptationConfig("runs/nt-xent", objectives="nt_xent")
        >>> trainer = ContrastiveTrainer("sentence-transformers/all-MiniLM-L6-v2", args, news, medical)
    """

    default_kind, kinds = "supcon", ("supcon", "nt_xent")
