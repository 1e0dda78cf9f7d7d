"""Command `hftransfer <recipe> …`: a recipe's own file, run as accelerate's launcher would."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..cpu_threads import cores
from ..messages import nearest, redacted

USAGE = """\
hftransfer takes a Hugging Face model from the domain with labels to the domain without.

usage: hftransfer <recipe> [--accelerate_config one_process|multi_gpu|fsdp2|FILE] [options]

recipes:
  adapt              one better model for the target, chosen without its labels (hftransfer adapt --help)
  adapt-source-free  a fine-tuned model and unlabelled rows; no source row      (hftransfer adapt-source-free --help)
  pretrain           learn the target's words or images without labels          (hftransfer pretrain --help)
  finetune           train on labelled sources and an unlabelled target         (hftransfer finetune --help)
  benchmark          compare methods over shifts and seeds                      (hftransfer benchmark --help)
  interpolate        average trained weights: WiSE-FT, soups; no training       (hftransfer interpolate --help)
  choose-source      rank checkpoints or source domains; no training            (hftransfer choose-source --help)
  few-shot           a classifier from a few labelled rows a class              (hftransfer few-shot --help)
  align-image-text   words for images: two frozen encoders joined               (hftransfer align-image-text --help)

other:
  cache              list or clear the cache of frozen features                 (hftransfer cache --help)
  --version          print the version
"""


OPTION = "--accelerate_config"


def main() -> None:
    """Entry point of the `hftransfer` command."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if argv[0] == "--version":
        from .._version import __version__

        print(__version__)
        return
    recipe, rest = argv[0], argv[1:]
    if recipe == "cache":
        from .cache_command import main as cache

        cache(rest)
    files = {p.stem.replace("_", "-"): p for p in recipes_folder().glob("*.py") if not p.stem.startswith("_")}
    names = [*sorted(files), "cache"]
    recipe = recipe.replace("_", "-")
    if recipe not in files:
        near = nearest(recipe, names)
        sys.exit(f"hftransfer: there is no recipe {redacted(repr(recipe))}; there is {', '.join(names)}.{near}")
    if "-h" in rest or "--help" in rest:
        from .help import print_help

        print_help(files[recipe].stem)
        return
    try:
        launch(files[recipe], rest)
    except KeyboardInterrupt:
        sys.exit(130)


def recipes_folder() -> Path:
    """Folder of the recipes: those of an installed package, or those beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def launch(script: Path, argv: list[str]) -> None:
    """Start of a script as by `accelerate launch`, with all cores where there is no accelerator (the launcher's own:
    one). A single process takes this one's place; several end with it.

    Args:
        script: the file.
        argv: its options; `--accelerate_config` is taken out and passed to the launcher.
    """
    import torch
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command, launch_command_parser

    from .launcher import ends_together, set_port

    config: list[str] = []
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith(f"{OPTION}=") else [word])]
    if OPTION in argv:
        index = argv.index(OPTION)
        if index + 1 == len(argv):
            sys.exit(f"hftransfer: {OPTION} needs a name or a file.")
        name = argv[index + 1]
        shipped = script.parent / "accelerate" / f"{name}.yaml"
        path = shipped if shipped.is_file() else Path(name)
        if not path.is_file():
            known = sorted(p.stem for p in shipped.parent.glob("*.yaml"))
            sys.exit(
                f"hftransfer: there is no accelerate config {name!r}; there is {', '.join(known)}, or give a file."
            )
        config, argv = ["--config_file", str(path)], argv[:index] + argv[index + 2 :]
    # Quiet: the recipe has said what is wrong; the launcher would bury it under a traceback of its own.
    args = launch_command_parser().parse_args(["--quiet", *config, str(script), *argv])
    settled = args.config_file or os.path.isfile(default_config_file)
    settings = load_config_from_file(args.config_file) if settled else None
    set_port(args, settings)
    if "OMP_NUM_THREADS" not in os.environ and not torch.accelerator.is_available():
        processes = settings.num_processes if settings else 1
        args.num_cpu_threads_per_process = max(1, cores() // max(1, processes))
    with ends_together():
        launch_command(args)
