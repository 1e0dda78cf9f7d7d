# /// script
# dependencies = ["hftransfer"]
# ///
"""Adapt a fine-tuned model to an unlabelled target, without a row of its source.

hftransfer adapt-source-free --model runs/news --target medical.csv --output_dir runs/medical
accelerate launch recipes/adapt_source_free.py --model runs/news --target medical.csv --output_dir runs/medical
hftransfer adapt-source-free --predictions answers.csv --model MODEL --target medical.csv --output_dir runs/student
"""

from __future__ import annotations

from dataclasses import replace

from hftransfer import run_recipe, stage, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(adapt_without_source, argv)


def adapt_without_source(argv: list[str]) -> int:
    from hftransfer import AdaptationConfig, RecipeParser, SourceFreeArguments

    # 1. Read the options, and check what can be checked before anything is loaded. There is none for a source.
    parser = RecipeParser((SourceFreeArguments, AdaptationConfig), "hftransfer adapt-source-free")
    options, config = parser.parse_args_and_config(argv)
    options.check_domains()
    with stage("adapting", if_stopped="The same command goes on where this one stopped."):
        return run(options, config, parser.given)


def run(options, config, given) -> int:
    from hftransfer import (
        adapt_source_free,
        create_repo,
        print_lines,
        print_source_free,
        print_source_free_plan,
        push_folder,
        with_source_free_defaults,
    )

    # 2. Load the target (your own data set may take its place), and settle what is left open.
    data, model = options.load_domains(config), options.start_model()
    from_predictions = options.predictions is not None
    config = with_source_free_defaults(config, given, model, data, from_predictions, options.model_kwargs())

    # 3. Show what will be done.
    print_source_free_plan(model, data, config, options.method, options.predictions)
    if options.dry_run:
        return 0
    if config.push_to_hub:
        config.hub_model_id = create_repo(config) or config.hub_model_id

    # 4. Train on target rows, judge without labels, and hand over the adapted model, or the start where that is not
    #    shown to be worse.
    result = adapt_source_free(
        model,
        data,
        method=options.method,
        predictions=options.predictions,
        labels=options.labels or None,
        epsilon=options.epsilon,
        source_numbers=options.source_numbers,
        correct_start=options.correct_start,
        args=replace(config, push_to_hub=False),  # once the result is shown
        processing_class=options.processor,
        model_kwargs=options.model_kwargs() or None,
        dataset_names={"target": options.target},
    )
    print_source_free(result, push_hint=not config.push_to_hub)
    if config.push_to_hub and result.model is not None:
        with stage("pushing to the Hub"):
            print_lines(f"Pushed to {push_folder(config, result.model)}.")
    return 0


if __name__ == "__main__":
    start_recipe(main, "adapt_source_free")
