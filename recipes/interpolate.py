# /// script
# dependencies = ["hftransfer"]
# ///
"""Average trained weights: WiSE-FT between start and fine-tuned model, soups of several. Nothing is trained.

    python recipes/interpolate.py --start sentence-transformers/all-MiniLM-L6-v2 --models runs/mine \
        --source news.csv --target notes.csv --output_dir runs/wise
    python recipes/interpolate.py --models runs/a runs/b runs/c --source news.csv --output_dir runs/soup
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

STATISTICS_BATCHES = 100  # that batch norm is estimated from, where a model has it


def main(argv: list[str]) -> int:
    from hftransfer.cli.interpolate_options import interpolate_parser
    from hftransfer.cli.run import run_recipe
    from hftransfer.stages import stage

    def job(words: list[str]) -> int:
        args = interpolate_parser().parse_args(words)
        with stage("averaging and scoring", if_stopped=f"Nothing was saved in {args.output_dir}; start it again."):
            return run(args)

    return run_recipe(job, argv)


def run(args) -> int:
    from hftransfer.cli.arguments import sources_by_name
    from hftransfer.cli.interpolate_options import DATA
    from hftransfer.data.domain_loading import load_shift
    from hftransfer.data.label_sets import resolve_label_space
    from hftransfer.models.ingredients import is_adapter
    from hftransfer.models.interpolation import ALPHAS, Mixture
    from hftransfer.reporting.screen import print_lines
    from hftransfer.reporting.tables import print_results
    from hftransfer.stages import stage

    # 1. Check what can be checked before anything is loaded.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("interpolate scores one model at a time. Start it as one process.")
    if Path(args.output_dir).exists():
        raise FileExistsError(f"{args.output_dir} exists already; name an --output_dir that does not.")
    if args.alphas and not args.start:
        raise ValueError("--alphas needs a --start to interpolate from; a soup has none.")
    sources = sources_by_name(args.source)
    if len(sources) > 1 and not args.metric:
        names = ", ".join(f"eval_{name}_accuracy" for name in sources)
        raise ValueError(f"There are several sources: say with --metric whose validation rows choose ({names}).")

    # 2. Load the rows that choose, and the models.
    with stage("reading the data"):
        data = load_shift(
            sources,
            args.target,
            args.validation_fraction,
            args.seed,
            image_column=args.image_column or "image",
            encoding=args.encoding,
            label_column=args.label_column or "label",
            used=(args.text_column, args.text_pair_column, args.tokens_column),
        )
    missing = [name for name in sources if name not in data.validation]
    if missing:
        raise ValueError(
            f"--source {sources[missing[0]]} has no validation split and --validation_fraction is 0: nothing is left "
            "to choose by."
        )
    evaluation = {name: data.validation[name] for name in sources}
    if args.target:
        evaluation["target"] = data.test.get("target", data.target)
    columns: dict[str, Any] = {name: getattr(args, name) for name in DATA if getattr(args, name)}
    labels = None
    if all(is_adapter(path) for path in args.models):  # their folders do not name their labels
        label, tokens = columns.get("label_column", "label"), columns.get("tokens_column", "tokens")
        labels = resolve_label_space(data.train, label, tokens, args.task).names
    trainers: list = []  # the one below, once there is a model

    def batches():
        return islice(trainers[0].get_train_dataloader(), STATISTICS_BATCHES)

    with (
        Mixture(args.models, args.start, labels, args.dtype, batches) as mixture,
        tempfile.TemporaryDirectory() as aside,
    ):
        # Rows to train on are read only where batch norm needs them; the trainer itself has no other use for them.
        train = data.train if mixture.norms else {name: data.validation[name] for name in sources}
        trainer = scorer(args, mixture, train, evaluation, columns, aside)
        trainers.append(trainer)
        for note in mixture.notes:
            print_lines(f"note: {note}")

        # 3. Try every place, choose one, keep it.
        by = trainer.args.metric_for_best_model
        tried = mixture.search(
            lambda model: headline(trainer.evaluate(), by),
            by.removeprefix("eval_"),
            bool(trainer.args.greater_is_better),
            args.soup,
            args.alphas or ALPHAS,
        )
        results = {point.name: dict(point.scores) for point in tried}
        print_results(results, "Weights averaged after training, scored on the source's validation rows")
        print_lines(f"Chosen by {by.removeprefix('eval_')}: {mixture.place}.")
        mixture.save(args.output_dir, trainer.processing_class, card(args, trainer, mixture, results, by))
    print_lines(f"The model is in {args.output_dir}; it loads like any other.")
    return 0


def scorer(args, mixture, train, evaluation, columns: dict[str, Any], folder):
    """An `AdaptationTrainer` that is only asked to evaluate. It refuses metrics that read target labels."""
    from hftransfer import AdaptationConfig, AdaptationTrainer
    from hftransfer.cli.arguments import sources_by_name

    still: dict[str, Any] = {"augment": "none"} if mixture.norms else {}  # statistics are of images as they are
    regression = mixture.model.config.problem_type == "regression"
    config = AdaptationConfig(
        folder,
        metric_for_best_model=args.metric or f"eval_source_{'mse' if regression else 'accuracy'}",
        max_length=args.max_length,
        per_device_eval_batch_size=args.per_device_eval_batch_size,
        use_cpu=args.use_cpu,
        seed=args.seed,
        disable_tqdm=True,
        report_to="none",
        **still,
        **columns,
    )
    trainer = AdaptationTrainer(
        mixture.model, config, train, eval_dataset=evaluation, processing_class=mixture.processor
    )
    trainer.dataset_names = {**sources_by_name(args.source), "target": args.target or ""}
    return trainer


def headline(metrics, by) -> dict[str, float]:
    """What is worth a column, and what chooses."""
    ends = ("accuracy", "macro_f1", "mse", "pearson", "information")
    return {k.removeprefix("eval_"): v for k, v in metrics.items() if k.endswith(ends) or k == by}


def card(args, trainer, mixture, results, by) -> str:
    """README.md: what was averaged, what chose, what every place scored."""
    from hftransfer.models.interpolation import PAPERS
    from hftransfer.reporting.model_card import render_card

    made = (getattr(mixture.model.config, "hftransfer", None) or {}).get("objectives", {})
    papers = [PAPERS["wise"]] * bool(args.start) + [PAPERS["soup"]] * (len(args.models) > 1)
    facts = dataclasses.replace(
        trainer.card_facts(Path(args.output_dir).name, args.start),
        objectives={name: f"{spec['weight']:g} x {spec['kind']}" for name, spec in made.items()},
        papers=papers,
        trained="nothing: weights were averaged after training",
        settings={"weights": str(mixture.place), "chosen by": by.removeprefix("eval_")},
        results=results,
    )
    return render_card(facts, ["weight-interpolation"])


if __name__ == "__main__":
    from hftransfer.cli.run import start_recipe

    start_recipe(main, "interpolate")
