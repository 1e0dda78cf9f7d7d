"""Unlabelled domains of a pre-training: checked rows by name, the target first, behind one index or as one stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..data.domain_arguments import as_domain, by_name, source_label
from ..data.pairing import PairedDataset
from ..data.streaming import PairedStream
from .pretraining_config import PretrainingConfig

SHUFFLED = 1000  # rows of a stream among which the next is drawn


def unlabelled_domains(target: Any, source: Any) -> dict[str, Any]:
    """Checked rows by name, the target first.

    Args:
        target: rows of the target, or `None`.
        source: rows of a source, a dict of several by name, or `None`.

    Raises:
        TypeError, ValueError: no rows at all, rows that are none, a source called target, or streams beside data sets.
    """
    domains: dict[str, Any] = {}
    if target is not None:
        domains["target"] = as_domain(target, "target")
    if source is not None:
        for name, rows in by_name(source, what="source").items():
            if name == "target":
                raise ValueError("A source is called 'target'. Give it another name.")
            domains[name] = as_domain(rows, source_label(name))
    if not domains:
        raise ValueError("There are no texts and no images: give a target, a source, or both.")
    streams = [name for name, rows in domains.items() if not hasattr(rows, "__len__")]
    if streams and len(streams) < len(domains):
        raise ValueError(
            f"{streams[0]} is a stream and other rows are not: pass all as streams (`to_iterable_dataset()`), or none."
        )
    return domains


def checked_validation(validation: Any, args: PretrainingConfig) -> Any:
    """Checked rows to measure on, `None` where some are to be held out.

    Raises:
        ValueError: a stream, or there are none and none are held out although that is asked for.
    """
    if validation is None:
        if not args.held_out and str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no":
            raise ValueError(
                "eval_strategy measures on held-out rows, and held_out=0 holds none out. Leave one of them out."
            )
        return None
    rows = as_domain(validation, "validation")
    if not hasattr(rows, "__len__"):
        raise ValueError("validation is a stream, and is read before and after training. Take some rows of it.")
    return rows


def domain_title(name: str) -> str:
    """Name of a domain in messages."""
    return name if name == "target" else source_label(name)


def is_counted(domains: Iterable[Any]) -> bool:
    """Whether no domain is a stream."""
    return all(hasattr(rows, "__len__") for rows in domains)


def training_rows(encoded: Mapping[str, Any], args: PretrainingConfig) -> Any:
    """Rows to train on behind one index, or one stream. Raises a `ValueError` for a stream without `max_steps`, and
    for one domain in balance."""
    if args.balance_domains and len(encoded) < 2:
        raise ValueError("balance_domains shares a batch among domains, and there is one. Give a source and a target.")
    if is_counted(encoded.values()):
        return PairedDataset(dict(encoded), None, draws=True)
    if args.max_steps <= 0:
        raise ValueError("A stream has no end: set max_steps to the number of updates.")
    seed = args.seed if args.data_seed is None else args.data_seed
    return PairedStream(dict(encoded), None, seed=seed, buffer_size=SHUFFLED, draws=True)
