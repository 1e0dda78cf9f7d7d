"""Names of teachers: the setting `teacher`, read and checked."""

from __future__ import annotations

from typing import Any

from ...settings import read_setting


def read_teacher_names(teacher: Any) -> list[str]:
    """Hub ids or folders of the teachers, in order; nothing for the model itself as it is before training.

    Args:
        teacher: a name, or a list of names, or that list as JSON or YAML.

    Raises:
        ValueError: neither a name nor a list of names, or a name twice.

    Example:
        >>> read_teacher_names("[runs/a, runs/b]")
        ['runs/a', 'runs/b']
    """
    value = teacher
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = read_setting("teacher", value)
    names = value if isinstance(value, (list, tuple)) else [] if value in (None, "") else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"teacher must be a Hub id or folder, or a list of them, not {teacher!r}.")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"teacher names {repeated[0]!r} twice.")
    return list(names)
