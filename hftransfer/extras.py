"""Extras: what the distribution is called where it is installed from, and which extra brings which package."""

from __future__ import annotations

DISTRIBUTION = "hf-domain-adaptation"  # on PyPI, where `hftransfer` would be taken for `hf-transfer`


def install_hint(extra: str) -> str:
    """The command that installs an extra.

    Example:
        >>> install_hint("vision")
        'pip install "hf-domain-adaptation[vision]"'
    """
    return f'pip install "{DISTRIBUTION}[{extra}]"'
