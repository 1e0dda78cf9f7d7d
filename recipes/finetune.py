# /// script
# dependencies = ["hftransfer"]
# ///
"""Train on labelled sources and an unlabelled target; compare with the source alone; save a plain model.

    accelerate launch recipes/finetune.py --config recipes/configs/news_to_medical.yaml
    accelerate launch recipes/finetune.py --config recipes/configs/digits.yaml
    accelerate launch recipes/finetune.py --source news.csv --target medical.csv --objectives '{"mmd": 0.1}' \
        --output_dir runs/mine --dry_run
"""

from __future__ import annotations

from hftransfer import run_recipe, stage, start_recipe

TITLE = "Results on the test splits; oracle columns are computed with target labels"


def main(argv: list[str]) -> int:
    return run_recipe(finetune, argv)


def finetune(argv: list[str]) -> int:
    from hftransfer import AdaptationConfig, FinetuneArguments, RecipeParser, lock_output_dir

    # 1. Read the options, and check what can be checked before anything is loaded.
    options, config = RecipeParser((FinetuneArguments, AdaptationConfig)).parse_args_and_config(argv)
    options.check_domains()
    with lock_output_dir(config, options.dry_run):
        return run(options, config)


def run(options, config) -> int:
    from hftransfer import (
        AdaptationTrainer,
        create_repo,
        prepare,
        print_lines,
        print_plan,
        print_results,
        print_saved_model,
        save_model_and_card,
        save_results,
        score_test_splits,
        train_source_only,
    )

    # 2. Load the domains. Your own data sets may take their place: see `load_shift`.
    data = options.load_domains(config)
    settings = {
        "model": options.backbone(),
        "args": config,
        "train_dataset": data.train,
        "target_dataset": data.target,
        "eval_dataset": data.validation or None,
        "processing_class": options.processor,
        "peft_config": options.peft_config(),
        "model_kwargs": options.model_kwargs(),
    }

    # 3. Show the plan. Whatever is wrong with the data or the Hub comes to light before anything is trained.
    if options.dry_run:
        with stage("loading the model and encoding the data"):
            prepared = prepare(**settings)
            prepared.encode_test_splits(data.test)
        print_plan(prepared, config, data.summaries)
        return 0
    if config.push_to_hub:
        create_repo(config)
    with stage("loading the model and encoding the data"):
        trainer = AdaptationTrainer(**settings)
        trainer.check_output_folder(config.resume_from_checkpoint)
        test_splits = trainer.prepared.encode_test_splits(data.test)
    trainer.dataset_names = options.dataset_names
    print_plan(trainer, summaries=data.summaries)

    # 4. Train on the source alone, then with the target, from the same seed.
    results = {}
    if options.source_only_baseline and config.adapts:
        print_lines("", "Training on the source alone, for comparison:")
        results["source-only"] = train_source_only(trainer, test_splits)
    print_lines("", "Training with the target:" if config.adapts else "Training on the source:")
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)

    # 5. Save before anything else can fail, then score, show, push.
    save_model_and_card(trainer, results)
    results["adapted" if config.adapts else "source-only"] = score_test_splits(trainer, test_splits)
    save_results(trainer, results)
    print_lines()
    print_results(results, TITLE)
    print_saved_model(trainer)
    if config.push_to_hub:
        with stage("pushing to the Hub"):
            trainer.push_to_hub()
        print_lines(f"Pushed to {trainer.hub_model_id}.")
    trainer.accelerator.end_training()
    return 0


if __name__ == "__main__":
    start_recipe(main, "finetune")
