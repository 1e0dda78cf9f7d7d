"""Base class of scores: a subclass names in its arguments what it reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar


class NamedScore:
    """Score whose `compute` names in its arguments what it reads, better when it is larger.

    A subclass has a name, a paper if there is one, and in `remedies` what to do where an input is missing.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    remedies: ClassVar[Mapping[str, str]] = {}

    def compute(self, *args: Any, **kwargs: Any) -> float:
        """The score, from the inputs that its arguments name."""
        raise NotImplementedError(f"{type(self).__name__} has no `compute`.")

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Names of the inputs that `compute` reads."""
        return tuple(name for name in inspect.signature(cls.compute).parameters if name != "self")

    def score(self, inputs: Any) -> float:
        """The score of these inputs.

        Raises:
            ValueError: they lack one that the score reads; the message says which, and how to pass it.
        """
        read = {name: getattr(inputs, name) for name in self.needs()}
        missing = [name for name, value in read.items() if value is None]
        if missing:
            raise ValueError(f"{self.name} needs {missing[0]}: {self.remedies.get(missing[0], 'pass it')}.")
        return float(self.compute(**read))
