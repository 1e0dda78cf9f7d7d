"""Objectives: extra terms of the training loss, for domain alignment, anchoring and self-training."""

from .base import Objective
from .registry import REGISTRY, register_objective
from .specification import build_objectives, parse_objectives

__all__ = ["REGISTRY", "Objective", "build_objectives", "parse_objectives", "register_objective"]
