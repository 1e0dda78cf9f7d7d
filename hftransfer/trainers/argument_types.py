"""Types of a trainer's arguments: rows, domains, model, processing class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from datasets import Dataset, IterableDataset
    from peft import PeftMixedModel, PeftModel
    from transformers import (
        BaseImageProcessor,
        FeatureExtractionMixin,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )

# Rows of one domain, and one domain or several by name.
Rows: TypeAlias = Union[
    "Dataset",
    "IterableDataset",
    "pandas.DataFrame",
    "pyarrow.Table",
    Mapping[str, Sequence[Any]],
    list[dict[str, Any]],
]
Domains: TypeAlias = Rows | Mapping[str, Rows]
# A name or folder, a loaded model, or settings of one from scratch.
Model: TypeAlias = Union[str, "os.PathLike[str]", "PreTrainedModel", "PeftModel", "PeftMixedModel", Mapping[str, Any]]
Processing: TypeAlias = Union[
    str,
    "os.PathLike[str]",
    "PreTrainedTokenizerBase",
    "BaseImageProcessor",
    "FeatureExtractionMixin",
    "ProcessorMixin",
]
