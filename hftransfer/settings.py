"""Reading and checking of settings: from text, and in the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import os
import textwrap
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, TypeVar

from .messages import nearest, redacted
from .setting_ranges import RANGES, read_number

TEXT_OR_SWITCH = ("resume_from_checkpoint", "fsdp")
SWITCH_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
INDENT = "    "

Class = TypeVar("Class", bound=type)


class Help(str):
    """Help text of a field, with the group that `--help` shows it in, and whether the option may be repeated.

    It stands in the field's metadata, whose keys transformers' `HfArgumentParser` hands to argparse one by one: a key
    of ours beside it would be refused there.
    """

    __slots__ = ("group", "repeated")
    group: str
    repeated: bool

    def __new__(cls, text: str, group: str, repeated: bool = False) -> Help:
        help_text = super().__new__(cls, text)
        help_text.group, help_text.repeated = group, repeated
        return help_text


def option(default: Any, group: str, text: str, repeated: bool = False) -> Any:
    """Field of a dataclass of settings with the text and the group that `--help` shows.

    Args:
        default: a value, or a function that makes one.
        group: heading of the option.
        text: what it says.
        repeated: whether the option may be given several times.
    """
    extra = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**extra, metadata={"help": Help(text, group, repeated)})


def field_of(cls: Any, name: str, group: str | None = None) -> Any:
    """Field as another dataclass of settings has it, with its default and its text, for one that shares the setting.

    Args:
        cls: the other dataclass.
        name: of the field, in both.
        group: heading of the option here; the other's when `None`.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     seed: int = option(42, "Run", "Of all draws.")
        >>> @dataclasses.dataclass
        ... class Others:
        ...     seed: int = field_of(Settings, "seed")
        >>> Others().seed, str(dataclasses.fields(Others)[0].metadata["help"])
        (42, 'Of all draws.')
    """
    shared = next(field for field in dataclasses.fields(cls) if field.name == name)
    metadata = dict(shared.metadata)
    if group is not None:
        metadata["help"] = Help(metadata["help"], group, getattr(metadata["help"], "repeated", False))
    return dataclasses.field(default=shared.default, default_factory=shared.default_factory, metadata=metadata)


def explain_fields(inherited: str | None = None) -> Callable[[Class], Class]:
    """Decorator of dataclasses of settings: their docstring explains every field, under the heading of its group.

    The text is the one that `--help` shows. The headings stand before the docstring's `Example:`.

    Args:
        inherited: heading of the class's own fields without a group, such as defaults that differ from a parent's;
            it comes last. Fields that only parents declare are left to their documentation.

    Example:
        >>> @explain_fields()
        ... @dataclasses.dataclass
        ... class Settings:
        ...     '''Settings of a run.'''
        ...
        ...     seed: int = dataclasses.field(default=42, metadata={"help": Help("Of all draws.", "Run")})
        >>> print(Settings.__doc__)
        Settings of a run.
        <BLANKLINE>
        Run:
            seed (int): Of all draws. Default: `42`.
    """

    def decorate(cls: Class) -> Class:
        groups: dict[str, list[str]] = {}
        own_annotations, hints = inspect.get_annotations(cls), typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            text = field.metadata.get("help", "")
            group = getattr(text, "group", inherited if field.name in own_annotations else None)
            if group is not None and field.init:
                groups.setdefault(group, []).append(_explanation(field, hints[field.name]))
        last = groups.pop(inherited, None) if inherited else None
        groups |= {inherited: last} if inherited and last else {}
        before, example, after = inspect.cleandoc(cls.__doc__ or "").partition("Example:\n")
        sections = ["\n".join([f"{group}:", *entries]) for group, entries in groups.items()]
        cls.__doc__ = "\n\n".join([before.rstrip(), *sections, *([example + after] if example else [])])
        return cls

    return decorate


def _explanation(field: dataclasses.Field[Any], hint: Any) -> str:
    """Entry of a docstring for one field: name, type, help text and default."""
    has_factory = field.default_factory is not dataclasses.MISSING
    default = "" if has_factory or field.default is None else f" Default: `{field.default!r}`."
    text = f"{field.name} ({_type_words(hint)}): {' '.join(str(field.metadata.get('help', '')).split())}{default}"
    return textwrap.fill(
        text,
        width=115,
        initial_indent=INDENT,
        subsequent_indent=2 * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _type_words(hint: Any) -> str:
    """Type as one writes it, each choice by itself: `'source' | 'longest'`."""
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    members = _union_members(hint)
    if len(members) > 1:
        return " | ".join(map(_type_words, members))
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def read_setting(name: str, value: Any) -> Any:
    """Value that JSON or YAML text says; whatever is no text comes back as it is.

    Raises:
        ValueError: text that is neither.
    """
    if not isinstance(value, str):
        return value
    import yaml  # not for those who only ask for help

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is neither JSON nor YAML: {redacted(repr(value))}") from error


def read_fields(settings: Any, but: tuple[str, ...] = ()) -> None:
    """Check of the fields of a dataclass, in place: numbers in their range, switches, choices and texts.

    What a YAML or JSON file holds as text (`"1e-3"`, `"false"`) becomes what it says. `None` is right where it is the
    default. Fields of other kinds (maps, lists) are left to whoever reads them.

    Args:
        settings: an instance, which is changed in place.
        but: fields that somebody else reads.

    Raises:
        ValueError: a value that is no number, out of its range, or none of the choices; the message names the field.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     seed: int = 42
        >>> read_fields(Settings(seed=-1))
        Traceback (most recent call last):
        ValueError: seed=-1 must be at least 0 and at most 4294967295.
    """
    cls: Any = type(settings)
    hints = _type_hints(cls)
    for field in dataclasses.fields(settings):
        if not field.init or field.name in but:
            continue
        value = getattr(settings, field.name)
        bounds = RANGES.get(field.name)
        if value is None and (field.default is None or _takes_none(hints[field.name]) or (bounds and bounds.none)):
            continue
        read_value = value
        if bounds is not None:
            read_value = read_number(field.name, value)
        else:
            field_type = _field_type(hints[field.name])
            if field_type is bool:
                read_value = _read_switch(field.name, value)
            elif isinstance(field_type, tuple):
                read_value = read_choice(field.name, value, field_type)
            elif field_type is str:
                off = value is False and _takes_none(hints[field.name])
                read_value = value if off else _read_text(field.name, value)
        if read_value is not value:
            setattr(settings, field.name, read_value)


@lru_cache
def _type_hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _union_members(hint: Any) -> list[Any]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if is_union else [hint]


def _takes_none(hint: Any) -> bool:
    return type(None) in _union_members(hint)


def _field_type(hint: Any) -> Any:
    """Type to read a field as: `bool`, `str`, or a tuple of choices; `None` for what is read elsewhere."""
    members = [member for member in _union_members(hint) if member is not type(None)]
    enum_types = [type_ for type_ in members if isinstance(type_, type) and issubclass(type_, Enum)]
    if enum_types and set(members) <= {*enum_types, str}:
        return tuple(member.value for member in enum_types[0])
    if len(members) != 1:
        return None
    if typing.get_origin(members[0]) is Literal:
        return typing.get_args(members[0])
    return members[0] if members[0] in (bool, str) else None


def _read_switch(name: str, value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return bool(value)
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word not in SWITCH_WORDS:
        raise ValueError(f"{name}={redacted(repr(value))} must be true or false.")
    return SWITCH_WORDS[word]


def read_choice(name: str, value: Any, choices: Any) -> Any:
    """Value of a setting that is one of several choices.

    Args:
        name: of the setting.
        value: as it was given.
        choices: a `Literal`, or a tuple of them.

    Raises:
        ValueError: it is none of them; the nearest is offered.

    Example:
        >>> read_choice("sources", "eech", Literal["joint", "each"])
        Traceback (most recent call last):
        ValueError: sources='eech' must be 'joint' or 'each'. Did you mean 'each'?
    """
    choices = typing.get_args(choices) or choices
    word = getattr(value, "value", value)
    if word is False and "no" in choices:  # YAML takes the word no for a switch
        word = value = "no"
    if not isinstance(word, Hashable) or word not in choices:
        *first, last = (repr(choice) for choice in choices)
        shown = redacted(repr(word))
        known = f"{'one of ' * (len(first) > 1)}{', '.join(first)} or {last}"
        raise ValueError(f"{name}={shown} must be {known}.{nearest(word, choices)}")
    return value


def text_keys(values: Mapping[Any, Any], what: str) -> dict[str, Any]:
    """Map with its names as texts, as YAML and messages write them.

    Args:
        values: by name.
        what: what messages call the map.

    Raises:
        ValueError: two names that are written alike; one would take the other's place.

    Example:
        >>> text_keys({1: "books", "1": "dvd"}, "sources")
        Traceback (most recent call last):
        ValueError: sources holds the names 1 and '1', which are written alike: rename one of them.
    """
    named: dict[str, Any] = {}
    for name, value in values.items():
        if str(name) in named:
            first = next(other for other in values if str(other) == str(name))
            raise ValueError(
                f"{what} holds the names {first!r} and {name!r}, which are written alike: rename one of them."
            )
        named[str(name)] = value
    return named


def _read_text(name: str, value: Any) -> Any:
    if name == "fsdp" and str(value).strip().lower() in SWITCH_WORDS:
        return SWITCH_WORDS[str(value).strip().lower()]
    if isinstance(value, (str, os.PathLike)) or (name in TEXT_OR_SWITCH and isinstance(value, bool)):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a name such as 2024, which YAML takes for a number
    raise ValueError(f"{name}={redacted(repr(value))} must be text.")
