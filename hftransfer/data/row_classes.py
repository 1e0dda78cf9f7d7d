"""Classes of rows by name: which rows of a data set have a label, and what each is called."""

from __future__ import annotations

from typing import Any

from .label_space import declared_names, require_column
from .label_values import label_key, label_name, read_labels, row_name


def row_classes(dataset: Any, label_column: str = "label", name: str = "the data set") -> list[str | None]:
    """Class name of each row, `None` where the label is empty.

    Of a `ClassLabel` it is the declared name; -1 is no label there. "1" and 1.0 are one class.

    Args:
        dataset: map-style.
        label_column: where the labels are.
        name: of the data set, for messages.

    Raises:
        ValueError: no such column, a label that is a list, a dict or bytes, or a number that no class is declared for.

    Example:
        >>> row_classes(Dataset.from_dict({"label": ["up", None, "up "]}))
        ['up', None, 'up']
    """
    require_column(dataset, label_column, name)
    column = read_labels(dataset, label_column, name)
    if column.widths is not None:
        raise ValueError(f"{name}: {label_column!r} holds lists; one class a row is needed.")
    declared = declared_names(dataset, label_column)
    spellings: dict[str, str] = {}
    names: dict[Any, str | None] = {}
    for value in column.values:
        if declared is not None and isinstance(value, int):
            if value >= len(declared):
                row = row_name(dataset, column.first_row(value))
                raise ValueError(
                    f"{name} row {row}: the label is {value}, and {label_column!r} declares {len(declared)} classes."
                )
            names[value] = declared[value] if value >= 0 else None
        else:
            written = str(label_name(value))
            names[value] = spellings.setdefault(label_key(written), written)
    return [names.get(value) for value in dataset[label_column]]
