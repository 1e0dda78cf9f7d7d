# /// script
# dependencies = ["hftransfer"]
# ///
"""One better model for an unlabelled target: candidates are made, judged without its labels, and one is handed over.

hftransfer adapt --source news.csv --target medical.csv --output_dir runs/mine
accelerate launch recipes/adapt.py --config recipes/configs/adapt_sample.yaml
accelerate launch recipes/adapt.py --config recipes/configs/adapt_digits.yaml --effort quick --dry_run
"""

from __future__ import annotations

from dataclasses import replace

from hftransfer import run_recipe, stage, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(adapt_to_target, argv)


def adapt_to_target(argv: list[str]) -> int:
    from hftransfer import AdaptArguments, AdaptationConfig, RecipeParser

    # 1. Read the options, and check what can be checked before anything is loaded.
    parser = RecipeParser((AdaptArguments, AdaptationConfig), "hftransfer adapt")
    options, config = parser.parse_args_and_config(argv)
    options.check_domains()
    with stage("adapting", if_stopped="The same command goes on where this one stopped."):
        return run(options, config, parser.given)


def run(options, config, given) -> int:
    from hftransfer import (
        adapt,
        create_repo,
        print_adaptation,
        print_adaptation_plan,
        print_lines,
        push_folder,
        with_training_defaults,
    )

    # 2. Load the domains (your own data sets may take their place: see `load_shift`), and settle what is left open.
    data = options.load_domains(config)
    model, peft_config, model_kwargs = options.backbone(), options.peft_config(), options.model_kwargs()
    config = with_training_defaults(config, given, model, data, peft_config, model_kwargs)
    settings = {
        "model": model,
        "source": data,
        "target": data.target,
        "effort": options.effort or "standard",
        "candidates": options.candidates,
        "rounds": options.rounds,
        "args": config,
        "processing_class": options.processor,
        "peft_config": peft_config,
        "model_kwargs": model_kwargs,
        "dataset_names": options.dataset_names,
    }

    # 3. Show the plan. Whatever is wrong with the data or the Hub comes to light before anything is trained.
    with stage("loading the model and encoding the data"):
        print_adaptation_plan(**settings, given=given, look=options.dry_run)
    if options.dry_run:
        return 0
    if config.push_to_hub:
        config.hub_model_id = create_repo(config) or config.hub_model_id
        settings["args"] = replace(config, push_to_hub=False)  # once the result is shown

    # 4. Make the candidates, judge them, hand one over. What an earlier call has made is not made again. Then ask for
    #    target labels, or use those that were asked for, where the user says so.
    result = adapt(**settings, ask=options.ask, answers=options.answers)
    print_adaptation(result, push_hint=not config.push_to_hub)
    if config.push_to_hub:
        with stage("pushing to the Hub"):
            print_lines(f"Pushed to {push_folder(config, result.model)}.")
    return 0


if __name__ == "__main__":
    start_recipe(main, "adapt")
