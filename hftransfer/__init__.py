"""Take a Hugging Face model from the domain where there are labels to the domain where there are none."""

import lazy_loader

# The public names are listed once, in __init__.pyi; each module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

from ._version import __version__  # noqa: E402, F401
