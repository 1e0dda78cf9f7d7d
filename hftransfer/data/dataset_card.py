"""Files by split that the dataset card of a folder (README.md) names, as on the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .file_listing import SplitFiles, listed
from .split_names import choose_splits

CARD = "README.md"
FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


def list_card_files(folder: Path, tables: Sequence[Path], name: str) -> SplitFiles | None:
    """Tables by split that a card's `configs` name, or `None` where there is no card that names any.

    Args:
        folder: of the data set.
        tables: its table files, relative to it.
        name: of the folder, for messages.

    Raises:
        ValueError: several configurations, none of which is the default; a split whose files are not there; two
            names for one split.
    """
    patterns = _declared_patterns(folder, name)
    if patterns is None:
        return None
    tables_by_split: dict[str, list[Path]] = {}
    for split, paths in patterns.items():
        matching = [table for table in tables if any(_matches(path, table) for path in paths)]
        if not matching:
            raise ValueError(
                f"{name}: {CARD} names {listed(map(repr, paths))} for {split!r}, and there is no such table. Mend its "
                "`data_files`, or give the file to train on itself."
            )
        tables_by_split[split] = matching
    try:
        chosen, ignored = choose_splits(tables_by_split)
    except ValueError as error:
        raise ValueError(f"{name}: {error} in the `data_files` of {CARD}. Rename one there.") from error
    files = {split: tuple(tables_by_split[card_split]) for split, card_split in chosen.items()}
    left_aside = [
        f"{listed(map(str, tables_by_split[card_split]))} ({card_split!r} of {CARD}: {reason})"
        for card_split, reason in ignored.items()
    ]
    undeclared = [table for table in tables if not any(table in paths for paths in tables_by_split.values())]
    left_aside += [f"{listed(map(str, undeclared))} (not named in {CARD})"] if undeclared else []
    return SplitFiles(files, tuple(left_aside))


def _declared_patterns(folder: Path, name: str) -> dict[str, list[str]] | None:
    """File patterns by split, as the card has them."""
    configs = [config for config in _configs(folder / CARD) if config.get("data_files")]
    if not configs:
        return None
    config_names = [str(config.get("config_name", "default")) for config in configs]
    default = [c for c, n in zip(configs, config_names, strict=True) if c.get("default") is True or n == "default"]
    if len(configs) > 1 and len(default) != 1:
        raise ValueError(
            f"{name}: {CARD} names {len(configs)} configurations ({listed(map(repr, config_names))}), and which is "
            "meant cannot be known. Give the folder or the file of one of them."
        )
    config = (default or configs)[0]
    files, data_dir = config["data_files"], str(config.get("data_dir") or "")
    if isinstance(files, list) and all(isinstance(item, dict) for item in files):
        by_split = {str(item.get("split", "train")): item.get("path") for item in files}
    else:
        by_split = files if isinstance(files, dict) else {"train": files}
    patterns = {}
    for split, paths in by_split.items():
        split_patterns = [str(path) for path in (paths if isinstance(paths, list) else [paths]) if path]
        if not split_patterns or any("://" in path for path in split_patterns):
            return None  # files that stand elsewhere
        patterns[str(split)] = [str(Path(data_dir, path)) for path in split_patterns]
    return patterns


def _configs(card: Path) -> list[dict[str, Any]]:
    """Configurations in the YAML header of a card; none where it cannot be read."""
    import yaml

    try:
        head = FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        meta = yaml.safe_load(head[1]) if head else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    configs = meta.get("configs") if isinstance(meta, dict) else None
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def _matches(pattern: str, table: Path) -> bool:
    """Whether a pattern means a table, letter by letter or by its wildcards; a folder means what is in it."""
    if table == Path(pattern) or Path(pattern) in table.parents:
        return True
    regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(regex.replace(r"\?", "[^/]"), table.as_posix()) is not None
