"""Extras of the distribution: its name on PyPI, and the command that installs an extra."""

from __future__ import annotations

DISTRIBUTION = "hf-domain-adaptation"  # on PyPI, where `hftransfer` would be taken for `hf-transfer`


def install_hint(extra: str) -> str:
    """Command that installs an extra.

    Example:
        >>> install_hint("vision")
        'pip install "hf-domain-adaptation[vision]"'
    """
    return f'pip install "{DISTRIBUTION}[{extra}]"'
