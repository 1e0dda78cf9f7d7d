# /// script
# dependencies = ["hftransfer"]
# ///
"""A plain classifier from a few labelled rows a class, by prototypes, a probe, or pairs (SetFit).

hftransfer few-shot --source few.csv --output_dir runs/few
hftransfer few-shot --source photos --model google/mobilenet_v2_1.0_224 --method prototype --output_dir runs/few
python recipes/few_shot.py --config recipes/configs/few_shot.yaml
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from hftransfer import run_recipe, stage, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(learn, argv)


def learn(argv: list[str]) -> int:
    from hftransfer import FewShotArguments, RecipeParser, check_new_folder

    # 1. Read the options, and check what can be checked before anything is loaded.
    (options,) = RecipeParser((FewShotArguments,), "hftransfer few-shot").parse_args_and_config(argv)
    options.check()
    options.pair_settings()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("few-shot trains on a handful of rows. Start it as one process.")
    if options.output_dir:
        check_new_folder(options.output_dir)
    with stage("learning from few labels", if_stopped="The same command goes on where this one stopped."):
        return run(options)


def run(options) -> int:
    from hftransfer import few_shot_card, print_lines

    # 2. Load the source; what could not be saved is refused before the encoder is tuned.
    source, test = load_domains(options)
    classifier = make_classifier(options)
    classifier.check_save(source, options.label_column)
    if options.dry_run:
        print_lines(f"source: {len(source):,} rows; to be done: {options.method}.")
        return 0

    # 3. Learn, and score on the source's test split where there is one.
    classifier.fit(source, options.label_column)
    counts = Counter(map(str, classifier.labels_))
    print_lines("source, labelled rows: " + ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items())) + ".")
    if training := classifier.training_:
        earlier = f", {training.earlier_steps:,} of them by a run that was stopped" if training.earlier_steps else ""
        print_lines(f"Steps of pair training: {training.steps:,}{earlier}.")
    accuracy = None
    if test is not None:
        with stage("scoring"):
            accuracy = classifier.score(test, options.label_column)
        print_lines(f"Accuracy on the source's test split: {100 * accuracy:.1f} %.")

    # 4. Save a plain model with its card.
    name = Path(options.output_dir).name
    card = few_shot_card(name, options.source, **classifier.card_facts(), accuracy=accuracy)
    classifier.save(options.output_dir, card=card)
    print_lines(f"The model is in {options.output_dir}; transformers loads it.")
    return 0


def make_classifier(options):
    from hftransfer import FewShotClassifier, PairSettings

    pairs = options.pair_settings()
    return FewShotClassifier(
        options.model,
        options.method,
        pooling=options.pooling,
        pairs=None if pairs is None else PairSettings(**pairs),
        C=options.C,
        max_length=options.max_length,
        batch_size=options.per_device_eval_batch_size,
        device="cpu" if options.use_cpu else None,
        cache_dir=options.cache_dir,
        column=options.text_column or options.image_column,
        folder=f"{Path(options.output_dir).expanduser()}.training"
        if pairs is not None and options.output_dir
        else None,
    )


def load_domains(options):
    """Labelled source, and its test split or `None`; your own data sets may take their place."""
    from hftransfer import load_shift

    data = load_shift(
        {"source": options.source},
        None,
        0,
        options.seed,
        image_column=options.image_column or "image",
        encoding=options.encoding,
        label_column=options.label_column,
        text_columns=(options.text_column,),
    )
    return data.train["source"], data.test.get("source")


if __name__ == "__main__":
    start_recipe(main, "few_shot")
