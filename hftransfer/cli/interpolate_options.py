"""Options of the recipe `interpolate`. No heavy import, so that `--help` is instant."""

from __future__ import annotations

import argparse

from .one_line_error_parser import OptionParser, ranged

EXAMPLES = """\
  WiSE-FT, between what a model was and what training made of it:
    hftransfer interpolate --start sentence-transformers/all-MiniLM-L6-v2 --models runs/mine --source news.csv \\
        --target notes.csv --output_dir runs/wise
  a greedy soup of several runs:
    hftransfer interpolate --models runs/a runs/b runs/c --source news.csv --output_dir runs/soup

The source's validation rows choose, or a label-free score of the target (--metric eval_target_information). Give the
same --source, --validation_fraction and --seed as in training, so that these rows were not trained on. What reads
target labels is shown as oracle and cannot choose.
"""
DATA = {
    "task": "read off the labels when absent",
    "text_column": "column with the text",
    "text_pair_column": "column with a second text",
    "tokens_column": "column with pre-split words",
    "image_column": "column with the image",
    "label_column": "column with the label",
}


def interpolate_parser() -> argparse.ArgumentParser:
    """Parser of the options of the recipe `interpolate`.

    Example:
        >>> args = interpolate_parser().parse_args(
        ...     ["--models", "runs/a", "runs/b", "--source", "news.csv", "--output_dir", "runs/soup"]
        ... )
        >>> args.models, args.soup
        (['runs/a', 'runs/b'], 'greedy')
    """
    parser = OptionParser(
        "interpolate",
        "Average the weights of trained models, with the start or with each other. Nothing is trained.",
        EXAMPLES,
    )
    add, add_shared = parser.add_argument, parser.add_shared
    add("--models", nargs="+", required=True, metavar="FOLDER", help="fine-tuned models; adapters are merged")
    add("--start", help="Hub id or folder of what they were fine-tuned from; leave it out for a soup alone")
    add("--source", action="append", required=True, help="labelled source, as in finetune; repeat it as name=...")
    add("--target", help="target, as in finetune, for label-free scores; labels, if any, are shown as oracle")
    add_shared("output_dir")
    add(
        "--alphas",
        nargs="+",
        type=ranged("alphas"),
        metavar="ALPHA",
        help="shares of the fine-tuned weights [0 0.1 ... 1]",
    )
    add("--soup", default="greedy", choices=("greedy", "uniform"), help="how several models become one [greedy]")
    add("--metric", help="what chooses [eval_source_accuracy; eval_source_mse in regression]")
    for name in ("validation_fraction", "seed", "encoding"):
        add_shared(name)
    add("--dtype", help="float32, bfloat16 or float16, where the folders differ")
    for name, text in DATA.items():
        add(f"--{name}", help=text)
    add(
        "--max_length",
        type=ranged("max_length"),
        help="longest input in tokens; the model's own limit when absent",
    )
    for name in ("per_device_eval_batch_size", "debug", "use_cpu"):
        add_shared(name)
    return parser
