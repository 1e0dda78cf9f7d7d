# /// script
# dependencies = ["hftransfer"]
# ///
"""Average trained weights: WiSE-FT between start and fine-tuned model, soups of several. Nothing is trained.

    python recipes/interpolate.py --start sentence-transformers/all-MiniLM-L6-v2 --models runs/mine \
        --source news.csv --target notes.csv --output_dir runs/wise
    python recipes/interpolate.py --models runs/a runs/b runs/c --source news.csv --output_dir runs/soup
"""

from __future__ import annotations

import os
import tempfile
from itertools import islice

from hftransfer import run_recipe, stage, start_recipe

TITLE = "Weights averaged after training, scored on the source's validation rows"
METRICS = ("accuracy", "macro_f1", "mse", "pearson", "information")  # ends of those that are worth a column
COLUMNS = ("task", "text_column", "text_pair_column", "tokens_column", "image_column", "label_column")
STATISTICS_BATCHES = 100  # that batch norm is estimated from, where a model has it


def main(argv: list[str]) -> int:
    return run_recipe(interpolate, argv)


def interpolate(argv: list[str]) -> int:
    from hftransfer import interpolate_parser

    args = interpolate_parser().parse_args(argv)
    with stage("averaging and scoring", if_stopped=f"Nothing was saved in {args.output_dir}; start it again."):
        return run(args)


def run(args) -> int:
    from hftransfer import Mixture, interpolation_card, print_lines, print_results, read_label_names, sources_by_name

    # 1. Check what can be checked before anything is loaded.
    sources = sources_by_name(args.source)
    check(args, sources)

    # 2. Load the rows that choose, and the models.
    data = load_domains(args, sources)
    evaluation = {name: data.validation[name] for name in sources}
    if args.target:
        evaluation["target"] = data.test.get("target", data.target)
    columns = {name: getattr(args, name) for name in COLUMNS if getattr(args, name)}

    def label_names():
        given = {name: columns[name] for name in ("label_column", "tokens_column", "task") if name in columns}
        return read_label_names(data.train, **given)

    def batches():
        return islice(trainer.get_train_dataloader(), STATISTICS_BATCHES)

    with (
        Mixture(args.models, args.start, label_names, args.dtype, batches) as mixture,
        tempfile.TemporaryDirectory() as scratch,
    ):
        # Rows to train on are read only where batch norm needs them; the trainer itself has no other use for them.
        train = data.train if mixture.norms else {name: data.validation[name] for name in sources}
        trainer = make_scorer(args, mixture, train, evaluation, columns, scratch)
        for note in mixture.notes:
            print_lines(f"note: {note}")

        # 3. Try every mixture, choose one, keep it.
        chooser = trainer.args.metric_for_best_model
        points = mixture.search(
            lambda model: shown_metrics(trainer.evaluate(), chooser),
            chooser.removeprefix("eval_"),
            bool(trainer.args.greater_is_better),
            args.soup,
            args.alphas,
        )
        results = {point.name: dict(point.scores) for point in points}
        print_results(results, TITLE)
        print_lines(f"Chosen by {chooser.removeprefix('eval_')}: {mixture.point}.")
        card = interpolation_card(mixture, trainer, args.output_dir, results, args.start)
        mixture.save(args.output_dir, trainer.processing_class, card)
    print_lines(f"The model is in {args.output_dir}; it loads like any other.")
    return 0


def check(args, sources) -> None:
    from hftransfer import check_new_folder

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("interpolate scores one model at a time. Start it as one process.")
    check_new_folder(args.output_dir)
    if args.alphas and not args.start:
        raise ValueError("--alphas needs a --start to interpolate from; a soup has none.")
    if len(sources) > 1 and not args.metric:
        names = ", ".join(f"eval_{name}_accuracy" for name in sources)
        raise ValueError(f"There are several sources: say with --metric whose validation rows choose ({names}).")


def load_domains(args, sources):
    """Sources and target as datasets; every source has validation rows."""
    from hftransfer import load_shift

    data = load_shift(
        sources,
        args.target,
        args.validation_fraction,
        args.seed,
        image_column=args.image_column or "image",
        encoding=args.encoding,
        label_column=args.label_column or "label",
        text_columns=(args.text_column, args.text_pair_column, args.tokens_column),
    )
    for name, spec in sources.items():
        if name not in data.validation:
            raise ValueError(
                f"--source {spec} has no validation split and --validation_fraction is 0: nothing is left to choose "
                "by."
            )
    return data


def make_scorer(args, mixture, train, evaluation, columns, folder):
    """An `AdaptationTrainer` that is only asked to evaluate. It refuses metrics that read target labels."""
    from hftransfer import AdaptationConfig, AdaptationTrainer, sources_by_name

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
        augment="none" if mixture.norms else None,  # statistics are of images as they are
        **columns,
    )
    trainer = AdaptationTrainer(
        mixture.model, config, train, eval_dataset=evaluation, processing_class=mixture.processor
    )
    trainer.dataset_names = {**sources_by_name(args.source), "target": args.target or ""}
    return trainer


def shown_metrics(metrics, chooser) -> dict[str, float]:
    """Metrics that are worth a column, and the one that chooses."""
    return {k.removeprefix("eval_"): v for k, v in metrics.items() if k.endswith(METRICS) or k == chooser}


if __name__ == "__main__":
    start_recipe(main, "interpolate")
