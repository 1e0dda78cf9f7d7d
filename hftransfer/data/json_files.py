"""Strict reader of json and jsonl files: columns that have the types of their values, rows with their lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from itertools import accumulate, chain, islice
from typing import Any

from .json_layouts import EXPECTED, TYPE_NAMES, Columns, document_to_columns, holds_rows, rows_to_columns
from .row_origins import DataFile
from .text_files import TextFile

EXACT = 2**53  # whole numbers up to here are exact among fractions


def read_json_file(
    text_file: TextFile, data_file: DataFile, suffix: str, label_column: str, content_columns: Collection[str]
) -> tuple[dict[str, Any], list[int] | None, list[str]]:
    """Columns of a json or jsonl file: JSON lines, or a document in a layout that `document_to_columns` knows.

    A column has one type: whole numbers, numbers, true and false, text, or lists of those. Where a column mixes
    them, all its values are text as they are written, whatever the size of the file.

    Args:
        text_file: content of the file.
        data_file: the file, for messages.
        suffix: `.json` or `.jsonl`; either may hold what the other is named for.
        label_column: a dict there, or a list among plain values, is an error.
        content_columns: other columns where dicts or lists among plain values are.

    Returns:
        columns by name, as Arrow arrays, missing values as nulls; the line of each row, if rows are lines; notes.

    Raises:
        ValueError: it is not JSON, a line is no object, the document is in another shape, or a column that is used
            mixes what cannot be text.
    """
    used_columns = (label_column, *content_columns)
    columns, lines, notes = _parsed(text_file, data_file, suffix, used_columns, _strict_decoder())

    def values_as_written(name: str) -> list:
        return _parsed(
            text_file,
            data_file,
            suffix,
            used_columns,
            _strict_decoder(parse_int=str, parse_float=str, parse_constant=str),
        )[0][name]

    if ("" in columns and len(columns) == 1) or not columns:
        raise ValueError(f"{data_file}: its rows have no columns. {EXPECTED}")
    arrays = {}
    for name, values in columns.items():
        if name in used_columns:
            _refuse_mixed(name, values, data_file, lines, name == label_column)
        types = set(map(type, values)) - {type(None)}
        try:
            array = _arrow_array(values, lambda name=name: values_as_written(name))  # type: ignore[misc]
        except UnicodeEncodeError as error:
            row = next(i for i, value in enumerate(values) if _has_lone_surrogate(value))
            raise ValueError(
                f"{data_file.row(row, lines[row] if lines else None)}: {name!r} holds half a character (a lone "
                r"surrogate such as \ud83d, as when a text is cut within an emoji). Remove it."
            ) from error
        if (len(types) > 1 and types != {int, float}) or (dict in types and str(array.type) == "string"):
            type_names = " and ".join(sorted({TYPE_NAMES[value_type] for value_type in types}))
            notes.append(f"{name!r} holds {type_names}: read as text")
        arrays[name] = array
    return arrays, lines, notes


def _strict_decoder(**numbers: Any) -> Callable[[str], Any]:
    """Strict decoder of one JSON value; keys that come twice are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        json_object = dict(pairs)
        if len(json_object) < len(pairs):
            duplicate = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ValueError(f"the key {duplicate!r} comes twice in one object")
        return json_object

    return json.JSONDecoder(object_pairs_hook=unique, **numbers).decode


def _parsed(
    text_file: TextFile, data_file: DataFile, suffix: str, used_columns: Collection[str], decode: Callable[[str], Any]
) -> tuple[Columns, list[int] | None, list[str]]:
    """Columns, lines and notes, by what the file holds, which its name need not say."""
    if _are_lines(text_file, suffix, decode):
        columns, lines, notes = _read_lines(text_file, data_file, decode)
        return columns, lines, ["JSON lines", *notes] if suffix == ".json" else notes
    try:
        document = decode(text_file.text())
    except RecursionError as error:
        raise ValueError(f"{data_file} cannot be read as json: it is nested too deep. {EXPECTED}") from error
    except ValueError as error:
        line_text = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(
            f"{data_file}{line_text} cannot be read as json: {_error_reason(error)}. {EXPECTED}"
        ) from error
    columns, notes = document_to_columns(document, data_file, used_columns)
    return columns, None, ["one JSON document, not JSON lines", *notes] if suffix == ".jsonl" else notes


def _are_lines(text_file: TextFile, suffix: str, decode: Callable[[str], Any]) -> bool:
    """Whether each line is a value of its own: the first is, and others follow."""
    first, *rest = islice((line for line in text_file.lines() if line.strip()), 2)
    try:
        value = decode(first)
    except (ValueError, RecursionError):
        return suffix == ".jsonl" and not first.lstrip().startswith("[") and not _is_json(text_file, decode)
    if rest:
        return True
    if suffix == ".json" or not isinstance(value, dict):
        return False
    return not holds_rows(value)  # an only line may be a row, or all of them


def _is_json(text_file: TextFile, decode: Callable[[str], Any]) -> bool:
    try:
        decode(text_file.text())
    except (ValueError, RecursionError):
        return False
    return True


def _read_lines(
    text_file: TextFile, data_file: DataFile, decode: Callable[[str], Any]
) -> tuple[Columns, list[int], list[str]]:
    """Columns of JSON lines, the line of each row, and notes."""
    rows, lines = [], []
    for number, line in enumerate(text_file.lines(), 1):
        if line.isspace():
            continue
        try:
            row = decode(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{data_file.line(number)} cannot be read as json: {_error_reason(error)}: {_shortened(line)}. Every "
                'line of a .jsonl file is one object, such as {"text": "…", "label": "…"}.'
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"{data_file.line(number)} is {TYPE_NAMES[type(row)]}, not an object: {_shortened(line)}. {EXPECTED}"
            )
        rows.append(row)
        lines.append(number)
    columns, notes = rows_to_columns(rows)
    blank = number - len(lines)
    if blank:
        notes.append(f"{blank} blank line{'s' * (blank > 1)} left aside")
    return columns, lines, notes


def _arrow_array(values: list, values_as_written: Callable[[], list]) -> Any:
    """Arrow array of values, all of one type.

    Args:
        values: as they were parsed.
        values_as_written: gives them with numbers as they are written, where they are to be text.
    """
    import pyarrow as pa

    types = set(map(type, values)) - {type(None)}
    if float in types and not types <= {int, float}:  # a bare NaN among other values is a missing one
        values = [None if value != value else value for value in values]
        types = set(map(type, values)) - {type(None)}
    if types <= {str}:
        return pa.array(values, pa.string())
    if types == {bool}:
        return pa.array(values, pa.bool_())
    if types == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if types == {float} or (
        types == {int, float} and all(abs(value) <= EXACT for value in values if type(value) is int)
    ):
        return pa.array(values, pa.float64())
    if types == {list}:
        lengths = [len(value or ()) for value in values]
        flat = _arrow_array(
            list(chain.from_iterable(value or () for value in values)),
            lambda: list(chain.from_iterable(value or () for value in values_as_written())),
        )
        if isinstance(flat, pa.ChunkedArray):
            flat = pa.concat_arrays(flat.chunks)
        offsets = pa.array([0, *accumulate(lengths)], pa.int32())
        return pa.ListArray.from_arrays(offsets, flat, mask=pa.array([value is None for value in values]))
    if types == {dict} and any(values):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError):
            pass
    texts = [_value_text(value, raw) for value, raw in zip(values, values_as_written(), strict=True)]
    return pa.array(texts, pa.string())


def _value_text(value: Any, as_written: Any) -> str | None:
    """Text of a value as it is written, or nearly."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else as_written


def _refuse_mixed(name: str, values: list, data_file: DataFile, lines: list[int] | None, is_label: bool) -> None:
    """Check for dicts and lists among other values, and for dicts as labels; raises `ValueError`."""
    types = list(map(type, values))
    counts = Counter(
        value_type if value_type in (dict, list) else str for value_type in types if value_type is not type(None)
    )
    if len(counts) < 2 and not (is_label and dict in counts):
        return
    common_type = counts.most_common(1)[0][0]
    odd_type = next(
        value_type
        for value_type in (dict, list, str)
        if value_type in counts and (value_type is not common_type or len(counts) == 1)
    )
    row = next(
        i
        for i, value_type in enumerate(types)
        if (value_type if value_type in (dict, list) else str) is odd_type and value_type is not type(None)
    )
    rest = (
        f"; most rows hold {'a plain value' if common_type is str else TYPE_NAMES[common_type]}"
        if len(counts) > 1
        else ""
    )
    remedy = "one plain value a row (or a list in every row)" if is_label else "the same kind of value in every row"
    raise ValueError(
        f"{data_file.row(row, lines[row] if lines else None)}: {name!r} is {TYPE_NAMES[types[row]]}, "
        f"{_shortened(json.dumps(values[row], ensure_ascii=False))}{rest}. Wanted is {remedy}."
    )


def _has_lone_surrogate(value: Any) -> bool:
    """Whether a text in a value holds half a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _error_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (character {error.colno})"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _shortened(text: str, length: int = 60) -> str:
    text = text.strip()
    return text if len(text) <= length else f"{text[:length]}…"
