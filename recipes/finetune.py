# /// script
# dependencies = ["hftransfer"]
# ///
"""Train on labelled sources and an unlabelled target; compare with the source alone; save a plain model.

    accelerate launch recipes/finetune.py --config recipes/configs/news_to_medical.yaml
    accelerate launch recipes/finetune.py --config recipes/configs/digits.yaml
    accelerate launch recipes/finetune.py --source news.csv --target medical.csv --objectives mmd \
        --output_dir runs/mine --dry_run
"""

from __future__ import annotations

import json
from pathlib import Path

HEADLINE = ("accuracy", "macro_f1", "mse", "pearson")


def main(argv: list[str]) -> int:
    from hftransfer.cli.run import run_recipe

    return run_recipe(job, argv)


def job(argv: list[str]) -> int:
    from hftransfer.cli.arguments import FinetuneArguments
    from hftransfer.cli.parser import parse
    from hftransfer.messages import keep_secret
    from hftransfer.stages import stage
    from hftransfer.trainers.config import AdaptationConfig
    from hftransfer.trainers.saving.output_folder import resume_hint

    script, config = parse(argv, [FinetuneArguments, AdaptationConfig])
    keep_secret(config.hub_token)
    with stage("checking the settings", if_stopped=lambda: resume_hint(config.output_dir)):
        return run(script, config)


def run(script, config) -> int:
    from hftransfer.cli.arguments import named
    from hftransfer.trainers.saving.claim import claimed_folder, resumed

    # 1. Check what can be checked before anything is loaded.
    if not script.source:
        raise ValueError("--source is missing: name a labelled source, or `--source sample`.")
    if script.target and script.target != "sample" and script.target in named(script.source).values():
        raise ValueError(f"--target {script.target} is a source too: there is nothing to adapt to.")
    if script.dry_run:
        config.resume_from_checkpoint = resumed(config)
        return adapt(script, config)
    with claimed_folder(config):
        return adapt(script, config)


def adapt(script, config) -> int:
    from hftransfer import AdaptationTrainer, print_policy
    from hftransfer.cli.arguments import named
    from hftransfer.data.domain_loading import load_shift
    from hftransfer.reporting.model_card import load_lines
    from hftransfer.reporting.screen import show
    from hftransfer.reporting.tables import print_plan, print_results
    from hftransfer.stages import stage
    from hftransfer.trainers.hub.push import claim_repo, upload_command
    from hftransfer.trainers.saving.folder_marks import BY_RECIPE, COMPARISON, RESULTS
    from hftransfer.trainers.setup.plan import plan
    from hftransfer.trainers.setup.preparation import prepare

    # 2. Load the domains.
    with stage("reading the data"), config.main_process_first(desc="loading"):
        data = load_shift(
            named(script.source),
            script.target,
            script.validation_fraction,
            config.seed,
            image_column=config.image_column,
            encoding=script.encoding,
            label_column=config.label_column,
            used=(config.text_column, config.text_pair_column, config.tokens_column),
        )

    peft_config = lora(script) if script.use_lora else None
    model = script.backbone()
    common = {
        "train_dataset": data.train,
        "target_dataset": data.target,
        "eval_dataset": data.validation or None,
        "peft_config": peft_config,
        "model_kwargs": script.model_kwargs(),
        "processing_class": script.processor,
    }

    if script.dry_run:
        with stage("loading the model and encoding the data"):
            prepared = prepare(model, config, **common)
            encode_tests(prepared, data.test)
        if config.process_index == 0:
            print_plan(plan(config, prepared, data.account))
            print_policy(prepared, config, title="Blocks")
        return 0

    # 3. Whatever is wrong with the data or the Hub comes to light before anything is trained.
    if config.push_to_hub and config.process_index == 0:
        claim_repo(config)
    with stage("loading the model and encoding the data"):
        trainer = AdaptationTrainer(model, config, **common)
        trainer.check_output_folder(config.resume_from_checkpoint, BY_RECIPE)
        trainer.dataset_names = {**named(script.source), "target": script.target or ""}
        test = encode_tests(trainer.prepared, data.test)
    if trainer.is_world_process_zero():
        print_plan(plan(config, trainer.prepared, data.account))
        print_policy(trainer, title="Blocks")

    # 4. The source alone, then with the target, which `train` starts from the same seed either way.
    results = {}
    main_process = trainer.is_world_process_zero()
    adapts = bool(config.objective_specs()) or config.label_shift != "none" or config.adabn
    if script.source_only_baseline and adapts:
        if main_process:
            show("", "Training on the source alone, for comparison:")
        results["source-only"] = source_only(model, config, common, test)
        trainer.add_callback(comparison(results["source-only"]))
    if main_process:
        show("", "Training with the target:" if adapts else "Training on the source:")
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)

    # 5. Save before anything else can fail, then score, show, push.
    trainer.results = results
    with stage("saving the model"):
        trainer.save_model(_internal_call=True)
        if main_process and "source-only" in results:
            keep(config.output_dir, COMPARISON, results["source-only"])
        trainer.create_model_card()
    with stage("scoring the test splits"):
        scores = score(trainer, test)
    results["adapted" if adapts else "source-only"] = headline(scores)
    with stage("saving the model"):
        trainer.create_model_card()
        if main_process:
            keep(config.output_dir, RESULTS, results)
    if main_process:
        show()
        print_results(results, "Results on the test splits; oracle columns read target labels and chose nothing")
        where, lines = config.output_dir, load_lines(trainer.card_facts(), config.output_dir)
        show("", f"The model is in {where}. Load it anywhere, without hftransfer:", "")
        show(*(f"  {line}".rstrip() for line in lines), "")
        if not config.push_to_hub:
            repo = config.hub_model_id or f"your-name/{Path(where).name}"
            show("Push it:", "", f"  {upload_command(repo, where)}", "")
    if config.push_to_hub:
        with stage("pushing to the Hub"):
            trainer.push_to_hub()
        if main_process:
            show(f"Pushed to {trainer.hub_model_id}.")
    trainer.accelerator.end_training()
    return 0


def encode_tests(prepared, test) -> dict:
    """The test splits as the model reads them; what is wrong in one of them is said here."""
    return {name: prepared.encode_evaluation(part, f"the test split of {name}") for name, part in test.items()}


def score(trainer, test) -> dict[str, float]:
    """Scores of a model that is saved already, which an error must not hide."""
    try:
        return trainer.evaluate(test, metric_key_prefix="test") if test else {}
    except Exception as error:
        where = trainer.args.output_dir
        raise ValueError(
            f"The trained model is saved in {where}, but scoring it on the test splits failed: {error}"
        ) from error


def source_only(model, config, common, test) -> dict[str, float]:
    """Trains and scores the same model without the target; a resumed run reads what the first one found."""
    import copy
    from contextlib import suppress

    from hftransfer import AdaptationTrainer
    from hftransfer.trainers.saving.folder_marks import COMPARISON

    done = Path(config.output_dir) / COMPARISON
    folder = done.parent
    if config.resume_from_checkpoint and done.is_file():
        try:
            return json.loads(done.read_text())
        except ValueError as error:
            raise ValueError(f"{done} cannot be read: {error}. Remove it, and it is made again.") from error
    alone = copy.copy(config)
    alone.objectives, alone.teacher, alone.output_dir, alone.overwrite_output_dir = None, None, str(folder), True
    alone.save_strategy, alone.push_to_hub, alone.load_best_model_at_end = "no", False, False
    alone.reveal_target_labels, alone.label_shift, alone.adabn, alone.resume_from_checkpoint = 0, "none", False, None
    try:
        trainer = AdaptationTrainer(model, alone, **{**common, "target_dataset": None})
        trainer.train()
        return headline(trainer.evaluate(test, metric_key_prefix="test") if test else {})
    finally:
        with suppress(OSError):  # it stays if something is in it: an older run's scores
            folder.rmdir()


def comparison(scores):
    """Keeps the scores of the source alone with the first checkpoint: until then, an older run may stand there."""
    from transformers import TrainerCallback

    from hftransfer.trainers.saving.folder_marks import COMPARISON

    class Comparison(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                keep(args.output_dir, COMPARISON, scores)

    return Comparison()


def keep(folder: str, name: str, scores) -> None:
    """Writes scores to a file of the output folder, whole or not at all, as our own."""
    from hftransfer.trainers.saving.folder_marks import mark, write_whole

    path, text = Path(folder) / name, json.dumps(scores, indent=2)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(exist_ok=True)
    write_whole(path, text)
    mark(Path(folder), [name])


def headline(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics worth a column."""
    return {k.removeprefix("test_"): v for k, v in metrics.items() if k.endswith(HEADLINE)}


def lora(script):
    from peft import LoraConfig

    return LoraConfig(
        r=script.lora_r,
        lora_alpha=script.lora_alpha,
        lora_dropout=script.lora_dropout,
        target_modules=script.lora_target_modules or None,
    )


if __name__ == "__main__":
    from hftransfer.cli.run import start_recipe

    start_recipe(main, "finetune")
