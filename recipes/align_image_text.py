# /// script
# dependencies = ["hftransfer"]
# ///
"""Words for images: a frozen image encoder and a frozen text encoder, joined by projections of cached features.

    python recipes/align_image_text.py --image_encoder google/mobilenet_v2_1.0_224 --source photos.parquet \
        --new_classes cat dog --output_dir runs/dual
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from hftransfer import run_recipe, stage, start_recipe

TITLE = "Test images by the names of their classes"


def main(argv: list[str]) -> int:
    return run_recipe(align, argv)


def align(argv: list[str]) -> int:
    from hftransfer import align_parser

    args = align_parser().parse_args(argv)
    with stage("aligning", if_stopped="The same command goes on where this one stopped."):
        return run(args)


def run(args) -> int:
    from hftransfer import (
        ProjectionSettings,
        align_image_text,
        alignment_card,
        print_lines,
        print_results,
        zero_shot_report,
    )

    # 1. Check what can be checked before anything is loaded.
    check(args)
    names = ("loss", "steps", "batch_size", "chunk", "learning_rate", "ridge", "width", "seed")
    settings = ProjectionSettings(**{name: getattr(args, name) for name in names})
    templates = {"templates": None} if args.caption_column else {"templates": args.templates} if args.templates else {}

    # 2. Load the images; classes that are to be new are left out of training.
    data = load_images(args)
    train, validation = (without(data[split], args.new_classes) for split in ("train", "validation"))
    images, captions = train

    # 3. Run both encoders once, and train the projections on their features.
    alignment = align_image_text(
        args.image_encoder,
        args.text_encoder,
        images,
        captions,
        validation=validation,
        held_out=args.held_out,
        use_known_classes=not args.no_known_classes,
        known_class_weight=args.known_class_weight,
        settings=settings,
        folder=f"{Path(args.output_dir).expanduser()}.training",
        cache_dir=args.cache_dir,
        batch_size=args.per_device_eval_batch_size,
        device="cpu" if args.use_cpu else None,
        **templates,
    )
    if alignment.held_out:
        print_lines(f"Held out to choose the number of steps: {', '.join(alignment.held_out)}.")
    print_lines(f"Steps: {alignment.step}.")
    if alignment.known:
        weight = alignment.known_class_weight
        print_lines(
            f"Classes of the image encoder that were trained on too: {alignment.known}, with weight {weight:g}."
        )

    # 4. Score on test images, and save a plain model.
    test_images, test_captions = data["test"]
    with stage("scoring"):
        report = zero_shot_report(alignment, test_images, test_captions, anchors=train, **templates)
    print_results(report, TITLE)
    card = alignment_card(
        Path(args.output_dir).name,
        args.image_encoder,
        args.text_encoder,
        alignment.names,
        alignment.known,
        dataclasses.asdict(settings),
        report,
    )
    alignment.save(args.output_dir, card)
    print_lines(f"The model is in {args.output_dir}; VisionTextDualEncoderModel loads it.")
    return 0


def check(args) -> None:
    from hftransfer import check_new_folder

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("align_image_text trains small projections. Start it as one process.")
    check_new_folder(args.output_dir)
    for name in ("new_classes", "held_out", "templates"):
        if args.caption_column and getattr(args, name):
            raise ValueError(f"--{name} is of classes, and --caption_column of sentences: leave one of them out.")


def load_images(args):
    """Images and captions by split; what has no test split is tested on its validation rows."""
    from hftransfer import captioned_images, load_shift

    data = load_shift(
        {"source": args.source},
        None,
        args.validation_fraction,
        args.seed,
        image_column=args.image_column,
        encoding=args.encoding,
        label_column=args.label_column,
        text_columns=(args.caption_column,),
    )
    if "source" not in data.validation:
        raise ValueError(
            "The source has no validation split and --validation_fraction is 0: nothing chooses the step."
        )
    splits = {"train": data.train["source"], "validation": data.validation["source"]}
    splits["test"] = data.test.get("source", splits["validation"])
    column = args.caption_column or args.label_column
    captioned = {
        name: captioned_images(rows, column, args.image_column, f"--source {args.source}, {name}")
        for name, rows in splits.items()
    }
    unknown = [name for name in args.new_classes if name not in captioned["train"][1]]
    if unknown:
        raise ValueError(
            f"--new_classes {unknown[0]} is no class of the source: {sorted(set(captioned['train'][1]))}."
        )
    return captioned


def without(captioned, names):
    """Rows of other classes."""
    images, captions = captioned
    kept = [row for row, caption in enumerate(captions) if caption not in names]
    return images.select(kept), [captions[row] for row in kept]


if __name__ == "__main__":
    start_recipe(main, "align_image_text")
