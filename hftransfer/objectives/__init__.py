"""What else is asked of the model?"""

from .base import Objective
from .registry import REGISTRY, register_objective
from .specification import build_objectives, parse_objectives

__all__ = ["REGISTRY", "Objective", "build_objectives", "parse_objectives", "register_objective"]
