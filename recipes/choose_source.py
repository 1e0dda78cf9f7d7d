# /// script
# dependencies = ["hftransfer"]
# ///
"""Which checkpoint for labelled data, which source for an unlabelled target, how domains relate: nothing is trained.

hftransfer choose-source --source reviews.csv --model bert-base-uncased --model answerdotai/ModernBERT-base
hftransfer choose-source --source books=books.csv --source dvd=dvd.csv --target kitchen.csv
python recipes/choose_source.py --config recipes/configs/choose_source.yaml
"""

from __future__ import annotations

import os
from typing import Any

from hftransfer import run_recipe, stage, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(choose, argv)


def choose(argv: list[str]) -> int:
    from hftransfer import ChooseSourceArguments, RecipeParser, check_choice_folder

    # 1. Read the options, and check what can be checked before anything is loaded.
    (options,) = RecipeParser((ChooseSourceArguments,), "hftransfer choose-source").parse_args_and_config(argv)
    question = options.question
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("choose-source compares in one process. Start it as one.")
    if options.output_dir:
        check_choice_folder(options.output_dir)
    with stage("comparing", if_stopped="What was embedded is kept in the cache; start it again."):
        return run(options, question)


def run(options, question: str) -> int:
    from hftransfer import (
        choose_source,
        count_parameters,
        print_choice,
        print_lines,
        rank_checkpoints,
        relate_domains,
        save_choice,
    )

    # 2. Load the domains, and look at the checkpoints: a name that is wrong comes to light before any is loaded.
    data = load_domains(options)
    domains = data.train if data.target is None else {**data.train, "target": data.target}
    print_lines(*(f"{name}: {len(rows):,} rows" for name, rows in domains.items()))
    print_lines(*(f"{model}: {count_parameters(model):,} parameters" for model in options.models))
    if options.dry_run:
        print_lines(f"To be compared: {question}.")
        return 0

    # 3. Embed what is not in the cache yet, compare, show.
    reading, bootstrap = options.reading(), {"resamples": options.resamples}
    if question == "checkpoints":
        (rows,) = data.train.values()
        choice: Any = rank_checkpoints(options.models, rows, scores=options.scores, **reading, **bootstrap)
    elif question == "sources":
        choice = choose_source(options.models[0], data.train, data.target, **reading, **bootstrap)
    else:
        choice = relate_domains(options.models[0], data.train, **reading)
    print_choice(choice)
    if options.output_dir:
        save_choice(choice, options.output_dir)
        print_lines(f"Table and picture are in {options.output_dir}.")
    return 0


def load_domains(options):
    """Labelled sets and target as datasets; replace it by your own for data that are loaded in another way."""
    from hftransfer import load_shift

    return load_shift(
        options.sources,
        options.target,
        0,
        options.seed,
        image_column=options.image_column or "image",
        label_column=options.label_column,
        text_columns=(options.text_column,),
    )


if __name__ == "__main__":
    start_recipe(main, "choose_source")
