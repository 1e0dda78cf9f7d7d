"""Options of the recipe `align_image_text`. No heavy import, so that `--help` is instant."""

from __future__ import annotations

import argparse

from .one_line_error_parser import OptionParser, ranged

EXAMPLES = """\
  words for the classes of labelled images, and for two that are not trained on:
    hftransfer align-image-text --image_encoder runs/mobilenet --source photos.parquet --new_classes cat dog \\
        --output_dir runs/dual
  images with sentences:
    hftransfer align-image-text --image_encoder runs/mobilenet --source photos.parquet --caption_column caption \\
        --output_dir runs/dual

Both encoders stay as they are and run once; their features are cached. The result is a VisionTextDualEncoderModel. A
run that was stopped goes on with the same command.
"""


def align_parser() -> argparse.ArgumentParser:
    """Parser of the options of the recipe `align_image_text`.

    Example:
        >>> args = align_parser().parse_args(
        ...     ["--image_encoder", "runs/a", "--source", "photos.parquet", "--output_dir", "runs/dual"]
        ... )
        >>> args.loss, args.steps
        ('clip', 200)
    """
    parser = OptionParser(
        "align-image-text",
        "Join a frozen image encoder and a frozen text encoder, so that words classify images.",
        EXAMPLES,
    )
    add, add_shared = parser.add_argument, parser.add_shared
    add("--image_encoder", required=True, help="Hub id or folder; with its classifier, its own classes are used too")
    add("--text_encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="Hub id or folder [all-MiniLM-L6-v2]")
    add("--source", required=True, help="images with class names or captions, given as in finetune")
    add_shared("output_dir")
    add("--image_column", default="image", help="column with the image [image]")
    add("--label_column", default="label", help="column with the class [label]")
    add("--caption_column", help="column with sentences, instead of classes")
    add("--new_classes", nargs="+", default=[], metavar="NAME", help="classes left out of training, to score on")
    add("--held_out", nargs="+", metavar="NAME", help="classes that choose the number of steps [every fifth]")
    add("--templates", nargs="+", metavar="TEXT", help='sentences with {} for the name ["a photo of a {}." ...]')
    add("--no_known_classes", action="store_true", help="without the image encoder's own classes")
    add("--known_class_weight", type=float, help="how often one counts against a class of yours [1, 3 or 10, chosen]")
    add("--loss", default="clip", choices=("clip", "siglip"), help="[clip]")
    add("--steps", type=int, default=200, help="at most; 0 keeps the ridge regression of the start [200]")
    add("--batch_size", type=int, default=256, help="pairs a step [256]")
    add("--chunk", type=int, default=0, help="anchors at a time in the loss; 0 takes all [0]")
    add("--learning_rate", type=ranged("learning_rate"), default=3e-4, help="[3e-4]")
    add("--ridge", type=float, default=1.0, help="strength of the start's regularisation [1]")
    add("--width", type=int, default=0, help="of the common space; that of the text features when 0 [0]")
    add_shared("validation_fraction")
    add_shared("seed", "of that cut and of training [42]")
    add_shared("encoding")
    add("--cache_dir", metavar="FOLDER", help="of the features, instead of the usual one")
    add_shared("per_device_eval_batch_size", "rows that an encoder sees at once [64]")
    add_shared("debug")
    add_shared("use_cpu")
    return parser
