"""Validators: scores of a model that need no target labels, by name."""

from __future__ import annotations

from ...messages import nearest
from .accuracy_estimates import ATC, COT
from .class_ami import ClassAMI
from .ensemble_agreement import EnsembleAgreement, EnsembleConfidence
from .importance import DEV, DEVN, ImportanceWeightedRisk
from .information import Information
from .mixval import MixValInter, MixValIntra
from .nuclear_norm import NuclearNorm
from .prediction_entropy import Entropy
from .snd import SND
from .source_accuracy import SourceAccuracy
from .validator import Validator

VALIDATORS: dict[str, type[Validator]] = {
    cls.name: cls
    for cls in (
        Entropy,
        Information,
        NuclearNorm,
        SND,
        DEV,
        DEVN,
        ImportanceWeightedRisk,
        ClassAMI,
        MixValInter,
        MixValIntra,
        SourceAccuracy,
        EnsembleAgreement,
        EnsembleConfidence,
        ATC,
        COT,
    )
}


def get_validator(name: str) -> Validator:
    """A validator by name, with its default settings.

    Raises:
        ValueError: there is none of that name; the nearest is offered.

    Example:
        >>> get_validator("entropy").needs()
        ('target_probabilities',)
    """
    if name not in VALIDATORS:
        raise ValueError(
            f"There is no validator {name!r}; there is {', '.join(VALIDATORS)}.{nearest(name, VALIDATORS)}"
        )
    return VALIDATORS[name]()
