"""Options of the recipe `pretrain` besides its config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import explain_fields
from .run_options import RunArguments


@explain_fields()
@dataclass
class PretrainArguments(RunArguments):
    """Arguments of the recipe `pretrain` besides `PretrainingConfig`: which texts, which model.

    `source` and `target` are as in `RunArguments`; one of them is enough, and labels are never read.

    Example:
        >>> PretrainArguments(target="medical.csv").target
        'medical.csv'
    """

    def check_domains(self) -> None:
        """Check of the domains.

        Raises:
            ValueError: there is neither a source nor a target, or the target is a source.
        """
        if not self.source and not self.target:
            raise ValueError("--target and --source are missing: name texts to read, such as `--target sample`.")
        if self.source:
            super().check_domains()
