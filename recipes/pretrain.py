# /// script
# dependencies = ["hftransfer"]
# ///
"""Train an encoder on masked words, sentences or images without labels, before the task; save a plain model.

    accelerate launch recipes/pretrain.py --target medical.csv --output_dir runs/medical-bert
    accelerate launch recipes/pretrain.py --target medical.csv --source news.csv --target_word_bias 0.5 \
        --output_dir runs/medical-bert
    accelerate launch recipes/pretrain.py --target scans/ --model google/vit-base-patch16-224-in21k \
        --output_dir runs/scans-vit
    accelerate launch recipes/pretrain.py --config recipes/configs/two_steps_encoder.yaml
    hftransfer finetune --model runs/medical-bert --source news.csv --target medical.csv --output_dir runs/mine
"""

from __future__ import annotations

from hftransfer import run_recipe, start_recipe


def main(argv: list[str]) -> int:
    return run_recipe(pretrain_without_labels, argv)


def pretrain_without_labels(argv: list[str]) -> int:
    from hftransfer import PretrainArguments, PretrainingConfig, RecipeParser, lock_output_dir

    # 1. Read the options, and check what can be checked before anything is loaded.
    parser = RecipeParser((PretrainArguments, PretrainingConfig), "hftransfer pretrain")
    options, config = parser.parse_args_and_config(argv)
    options.check_domains()
    with lock_output_dir(config, options.dry_run):
        return run(options, config)


def run(options, config) -> int:
    from hftransfer import prepare_pretraining, pretrain, print_lines

    # 2. Load texts or images (your own data sets may take their place). Labels, if any, are not read.
    rows = options.load_rows(config)
    settings = {
        "model": options.backbone(),
        "args": config,
        "target": rows.target,
        "source": rows.source,
        "validation": rows.validation,
        "processing_class": options.processor,
        "peft_config": options.peft_config(),
        "model_kwargs": options.model_kwargs(),
    }

    # 3. Train, measure before and after, and save a plain model; or say how it would be done.
    if options.dry_run:
        print_lines(*prepare_pretraining(**settings).notes)
    else:
        pretrain(**settings, dataset_names=options.dataset_names)
    return 0


if __name__ == "__main__":
    start_recipe(main, "pretrain")
