"""What else is asked of the model?"""

from .base import Objective
from .registry import REGISTRY, build_objectives, parse_objectives, register_objective

__all__ = ["REGISTRY", "Objective", "build_objectives", "parse_objectives", "register_objective"]
