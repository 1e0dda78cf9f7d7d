"""Records: json and jsonl files as columns that have the types of their values, rows of jsonl with their lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from itertools import accumulate, chain, islice
from typing import Any

from .json_documents import TYPE_NAMES, WANTED, Columns, columns_of, holds_rows, rows_of
from .row_origins import DataFile
from .text_files import TextFile

EXACT = 2**53  # whole numbers up to here are exact among fractions


def read_json_file(
    characters: TextFile, place: DataFile, suffix: str, label_column: str, used: Collection[str]
) -> tuple[dict[str, Any], list[int] | None, list[str]]:
    """Reads a json or jsonl file: JSON lines, or one document in a shape that `rows_of` knows.

    A column has one type: whole numbers, numbers, true and false, text, or lists of those. Where a column mixes
    them, all its values are text as they are written, whatever the size of the file.

    Args:
        characters: of the file.
        place: of the file.
        suffix: `.json` or `.jsonl`; either may hold what the other is named for.
        label_column: a dict there, or a list among plain values, is an error.
        used: other columns where dicts or lists among plain values are.

    Returns:
        columns by name, as Arrow arrays, missing values as nulls; the line of each row, if rows are lines; notes.

    Raises:
        ValueError: it is not JSON, a line is no object, the document is in another shape, or a column that is used
            mixes what cannot be text.
    """
    wanted = (label_column, *used)
    columns, lines, notes = _parsed(characters, place, suffix, wanted, _decode())

    def written(name: str) -> list:
        return _parsed(characters, place, suffix, wanted, _decode(parse_int=str, parse_float=str, parse_constant=str))[
            0
        ][name]

    if ("" in columns and len(columns) == 1) or not columns:
        raise ValueError(f"{place}: its rows have no columns. {WANTED}")
    arrays = {}
    for name, values in columns.items():
        if name in wanted:
            _refuse_mixed(name, values, place, lines, name == label_column)
        kinds = set(map(type, values)) - {type(None)}
        try:
            array = _array(values, lambda name=name: written(name))  # type: ignore[misc]
        except UnicodeEncodeError as error:
            row = next(i for i, value in enumerate(values) if _halved(value))
            raise ValueError(
                f"{place.row(row, lines[row] if lines else None)}: {name!r} holds half a character (a lone surrogate "
                r"such as \ud83d, as when a text is cut within an emoji). Remove it."
            ) from error
        if (len(kinds) > 1 and kinds != {int, float}) or (dict in kinds and str(array.type) == "string"):
            said = " and ".join(sorted({TYPE_NAMES[kind] for kind in kinds}))
            notes.append(f"{name!r} holds {said}: read as text")
        arrays[name] = array
    return arrays, lines, notes


def _decode(**numbers: Any) -> Callable[[str], Any]:
    """A strict decoder of one JSON value; keys that come twice are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ValueError(f"the key {twice!r} comes twice in one object")
        return found

    return json.JSONDecoder(object_pairs_hook=unique, **numbers).decode


def _parsed(
    characters: TextFile, place: DataFile, suffix: str, wanted: Collection[str], decode: Callable[[str], Any]
) -> tuple[Columns, list[int] | None, list[str]]:
    """Columns, lines and notes by what the file is, which its name need not say."""
    if _are_lines(characters, suffix, decode):
        columns, lines, notes = _lines(characters, place, decode)
        return columns, lines, ["JSON lines", *notes] if suffix == ".json" else notes
    try:
        whole = decode(characters.text())
    except RecursionError as error:
        raise ValueError(f"{place} cannot be read as json: it is nested too deep. {WANTED}") from error
    except ValueError as error:
        at = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{place}{at} cannot be read as json: {_reason(error)}. {WANTED}") from error
    columns, notes = rows_of(whole, place, wanted)
    return columns, None, ["one JSON document, not JSON lines", *notes] if suffix == ".jsonl" else notes


def _are_lines(characters: TextFile, suffix: str, decode: Callable[[str], Any]) -> bool:
    """Whether each line is a value of its own: the first is, and others follow."""
    first, *more = islice((line for line in characters.lines() if line.strip()), 2)
    try:
        value = decode(first)
    except (ValueError, RecursionError):
        return suffix == ".jsonl" and not first.lstrip().startswith("[") and not _is_json(characters, decode)
    if more:
        return True
    if suffix == ".json" or not isinstance(value, dict):
        return False
    return not holds_rows(value)  # an only line may be a row, or all of them


def _is_json(characters: TextFile, decode: Callable[[str], Any]) -> bool:
    try:
        decode(characters.text())
    except (ValueError, RecursionError):
        return False
    return True


def _lines(characters: TextFile, place: DataFile, decode: Callable[[str], Any]) -> tuple[Columns, list[int], list[str]]:
    """Columns of JSON lines."""
    rows, lines = [], []
    for number, line in enumerate(characters.lines(), 1):
        if line.isspace():
            continue
        try:
            row = decode(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{place.line(number)} cannot be read as json: {_reason(error)}: {_short(line)}. Every line of a "
                '.jsonl file is one object, such as {"text": "…", "label": "…"}.'
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{place.line(number)} is {TYPE_NAMES[type(row)]}, not an object: {_short(line)}. {WANTED}")
        rows.append(row)
        lines.append(number)
    columns, notes = columns_of(rows)
    blank = number - len(lines)
    if blank:
        notes.append(f"{blank} blank line{'s' * (blank > 1)} left aside")
    return columns, lines, notes


def _array(values: list, written: Callable[[], list]) -> Any:
    """Values as an Arrow array of one type.

    Args:
        values: as they were parsed.
        written: gives them with numbers as they are written, where they are to be text.
    """
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if float in kinds and not kinds <= {int, float}:  # a bare NaN among other values is a missing one
        values = [None if value != value else value for value in values]
        kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds == {float} or (
        kinds == {int, float} and all(abs(value) <= EXACT for value in values if type(value) is int)
    ):
        return pa.array(values, pa.float64())
    if kinds == {list}:
        lengths = [len(value or ()) for value in values]
        flat = _array(
            list(chain.from_iterable(value or () for value in values)),
            lambda: list(chain.from_iterable(value or () for value in written())),
        )
        if isinstance(flat, pa.ChunkedArray):
            flat = pa.concat_arrays(flat.chunks)
        offsets = pa.array([0, *accumulate(lengths)], pa.int32())
        return pa.ListArray.from_arrays(offsets, flat, mask=pa.array([value is None for value in values]))
    if kinds == {dict} and any(values):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError):
            pass
    texts = [_text(value, raw) for value, raw in zip(values, written(), strict=True)]
    return pa.array(texts, pa.string())


def _text(value: Any, written: Any) -> str | None:
    """A value as it is written, or nearly."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else written


def _refuse_mixed(name: str, values: list, place: DataFile, lines: list[int] | None, label: bool) -> None:
    """Refuses dicts and lists among other values, and dicts as labels."""
    types = list(map(type, values))
    counts = Counter(kind if kind in (dict, list) else str for kind in types if kind is not type(None))
    if len(counts) < 2 and not (label and dict in counts):
        return
    common = counts.most_common(1)[0][0]
    odd = next(kind for kind in (dict, list, str) if kind in counts and (kind is not common or len(counts) == 1))
    row = next(
        i for i, kind in enumerate(types) if (kind if kind in (dict, list) else str) is odd and kind is not type(None)
    )
    others = f"; most rows hold {'a plain value' if common is str else TYPE_NAMES[common]}" if len(counts) > 1 else ""
    wish = "one plain value a row (or a list in every row)" if label else "the same kind of value in every row"
    raise ValueError(
        f"{place.row(row, lines[row] if lines else None)}: {name!r} is {TYPE_NAMES[types[row]]}, "
        f"{_short(json.dumps(values[row], ensure_ascii=False))}{others}. Wanted is {wish}."
    )


def _halved(value: Any) -> bool:
    """Whether a text in it holds half a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (character {error.colno})"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


def _short(text: str, length: int = 60) -> str:
    text = text.strip()
    return text if len(text) <= length else f"{text[:length]}…"
