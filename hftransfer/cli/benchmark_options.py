"""Options of the recipe `benchmark`. No heavy import, so that `--help` is instant."""

from __future__ import annotations

import argparse
from pathlib import Path

from .benchmark_file import KEYS
from .one_line_error_parser import OptionParser


def benchmark_parser() -> argparse.ArgumentParser:
    """Parser of the options of the recipe `benchmark`; everything else stands in its file.

    Example:
        >>> args = benchmark_parser().parse_args(["--config", "mine.yaml", "--only", "method=mmd,dann", "seed=1"])
        >>> args.only
        ['method=mmd,dann', 'seed=1']
    """
    width = max(map(len, KEYS))
    keys = "\n".join(f"  {key:{width}}  {text}" for key, text in KEYS.items())
    parser = OptionParser(
        "benchmark",
        "Compare methods over shifts, policies and seeds; a run that stopped goes on where it was.",
        f"The file's keys:\n{keys}\n\n  hftransfer benchmark --config mine.yaml --only method=mmd,dann seed=1",
    )
    parser.add_argument("--config", type=Path, required=True, help="the YAML file")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="FIELD=NAME,…",
        help="run these cells only; FIELD is shift, method, policy or seed",
    )
    parser.add_argument(
        "--trust_config_code",
        action="store_true",
        help="import what the file's methods name as module:name (a constraint's function)",
    )
    parser.add_shared("debug")
    parser.add_argument("--dry_run", action="store_true", help="check everything, print the cells and stop")
    return parser
