"""Split names: train, validation or test, by the name of a file, a folder or a stored split."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ENDS = ("split", "data", "set")  # as in "testset"
FILLERS = {*ENDS, "images", "image", "imgs", "img", "pictures", "photos", "files", "rows"}  # as in "test_images"


def split_of(name: str) -> str | None:
    """Split that a whole name means, in any case, or `None`.

    Example:
        >>> split_of("Dev"), split_of("testing"), split_of("TrainSet"), split_of("test_images"), split_of("latest")
        ('validation', 'test', 'train', 'test', None)
    """
    words = re.split(r"[-_. ]", name.casefold())
    meaningful = [word for word in words if word not in FILLERS] or words
    if len(meaningful) != 1:
        return None
    stems = [meaningful[0], *(meaningful[0].removesuffix(end) for end in ENDS)]
    return next((NAMES[base] for base in stems if base in NAMES), None)


def split_words(name: str) -> dict[str, str]:
    """Words of a longer name that mean a split, as written, with the split that each means.

    Example:
        >>> split_words("news-Train_2"), split_words("TestSet"), split_words("latest"), split_words("train_val")
        ({'Train': 'train'}, {'TestSet': 'test'}, {}, {'train': 'train', 'val': 'validation'})
    """
    splits_by_word: dict[str, str] = {}
    for letters in re.split(r"[\W\d_]+", name):
        pieces = [letters] if split_of(letters) else re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+", letters)
        splits_by_word |= {piece: split for piece in pieces if (split := split_of(piece))}
    return splits_by_word


def choose_splits(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Stored splits that are read, by split, and the reasons why others are not.

    A whole name wins ("dev"); where no stored split has one, a longer name does if it is the only one
    ("validation_en").

    Args:
        names: of the stored splits.

    Returns:
        `{split: name}`, and `{name: reason}` of those left aside.

    Raises:
        ValueError: two whole names mean the same split, such as "dev" and "validation".
    """
    names = list(names)
    chosen: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split in chosen:
            raise ValueError(f"{chosen[split]!r} and {name!r} both mean the {split} split")
        if split:
            chosen[split] = name
    left_aside = {}
    for name in names:
        if name in chosen.values():
            continue
        splits = set(split_words(name).values())
        same_meaning = [other for other in names if not split_of(other) and set(split_words(other).values()) == splits]
        if len(splits) == 1 and not splits & set(chosen) and len(same_meaning) == 1:
            chosen[splits.pop()] = name
        else:
            left_aside[name] = (
                "its name says no split" if not splits else "its name alone does not say which split it is"
            )
    return {split: chosen[split] for split in SPLITS if split in chosen}, left_aside
