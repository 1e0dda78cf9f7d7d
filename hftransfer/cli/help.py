"""Help texts of the recipes: `hftransfer <recipe> --help`."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from dataclasses import replace

from .align_options import align_parser
from .benchmark_options import benchmark_parser
from .interpolate_options import interpolate_parser
from .option_listing import Option, module_path, read_options

INTRO = {
    "adapt": """\
One better model for an unlabelled target: candidates are trained, judged without its labels, and one is handed over.

  hftransfer adapt --source news.csv --target medical.csv --output_dir runs/mine
  hftransfer adapt --source sample --target sample --effort quick --output_dir runs/demo --dry_run
  accelerate launch recipes/adapt.py --config recipes/configs/adapt_sample.yaml

Learning rate and number of epochs fit the model where you name none; --dry_run prints them. A run that was stopped
goes on with the same command.
""",
    "adapt_source_free": """\
Adapt a fine-tuned model to an unlabelled target without a row of its source; there is no option for one.

  hftransfer adapt-source-free --model runs/news --target medical.csv --output_dir runs/medical
  hftransfer adapt-source-free --predictions answers.csv --model MODEL --target medical.csv --output_dir runs/student

The start model is kept unless the adapted one passes gates that need no label. Learning rate, epochs and batch fit the
model where you name none. A run that was stopped goes on with the same command.
""",
    "finetune": """\
Take a model from the domain with labels to the domain without.

  hftransfer finetune --source sample --target sample --objectives mmd --output_dir runs/demo
  hftransfer finetune --config news_to_medical.yaml --num_train_epochs 5
  accelerate launch recipes/finetune.py --config recipes/configs/news_to_medical.yaml --dry_run
""",
    "pretrain": """\
Train an encoder on masked words of texts, or masked images, without labels, before the task. What is saved is a plain
model, which finetune and adapt take as --model.

  hftransfer pretrain --target medical.csv --output_dir runs/medical-bert
  hftransfer pretrain --target medical.csv --source news.csv --target_word_bias 0.5 --output_dir runs/medical-bert
  hftransfer pretrain --target scans/ --model google/vit-base-patch16-224-in21k --output_dir runs/scans-vit
  hftransfer finetune --model runs/medical-bert --source news.csv --target medical.csv --output_dir runs/mine

Perplexity, of images the reconstruction loss, is measured on held-out target rows before and after. --dry_run says
what would train, and how.
""",
    "choose_source": """\
Which checkpoint, which source: ranked on frozen features before anything is trained.

  several checkpoints on one labelled set:
    hftransfer choose-source --source reviews.csv --model bert-base-uncased --model answerdotai/ModernBERT-base
  several labelled sets for an unlabelled target:
    hftransfer choose-source --source books=books.csv --source dvd=dvd.csv --target kitchen.csv
  how several labelled sets relate (no target):
    hftransfer choose-source --source books=books.csv --source dvd=dvd.csv --output_dir runs/related
""",
    "few_shot": """\
A plain classifier from a few labelled rows a class: prototypes, a probe, or an encoder tuned on pairs (SetFit).

  hftransfer few-shot --source few.csv --output_dir runs/few
  hftransfer few-shot --source photos --model google/mobilenet_v2_1.0_224 --method prototype --output_dir runs/few
""",
}
COMMON = """\
Options may stand in a YAML file (--config); the command line wins over the file, the file over defaults.
hftransfer itself takes --accelerate_config: one_process, multi_gpu, fsdp2 or a file.
--debug, by itself, shows the trace of what breaks (or HFTRANSFER_DEBUG=1).
"""
FITTED = {  # by the recipe, where the user names none
    "adapt": ("learning_rate", "num_train_epochs"),
    "adapt_source_free": ("learning_rate", "num_train_epochs", "per_device_train_batch_size"),
}
ARGUMENTS = {
    "adapt": "AdaptArguments",
    "adapt_source_free": "SourceFreeArguments",
    "finetune": "FinetuneArguments",
    "pretrain": "PretrainArguments",
    "choose_source": "ChooseSourceArguments",
    "few_shot": "FewShotArguments",
}
CONFIGS = {"pretrain": ("hftransfer.pretraining.pretraining_config", "PretrainingConfig")}  # where it is another
USUAL_CONFIG = ("hftransfer.trainers.config", "AdaptationConfig")
SHARED = {  # dataclasses that others share fields with: where they are, and the group of fields that name none
    "RunArguments": ("hftransfer.cli.run_options", "Domains"),
    "ChooseSourceArguments": ("hftransfer.cli.choose_source_options", "Domains"),
    "AdaptationConfig": ("hftransfer.trainers.config", "Training"),
}
FILES = {"adapt_source_free": "source_free_options"}  # of options that do not bear the recipe's name
UNSHARED = ("adapt_source_free",)  # recipes that have no source, and so none of the options that others share
ALONE = ("choose_source", "few_shot")  # recipes without a training config, which have no options but their own


def recipe_options(recipe: str) -> list[Option]:
    """Options of a recipe with a config, by group.

    Args:
        recipe: `"adapt"`, `"adapt_source_free"`, `"finetune"`, `"pretrain"`, `"choose_source"` or `"few_shot"`.
    """
    file = FILES.get(recipe, f"{recipe}_options")
    others = {name: read_options(module_path(module), name, group) for name, (module, group) in SHARED.items()}
    own = read_options(module_path(f"hftransfer.cli.{file}"), ARGUMENTS[recipe], "Domains", others)
    if recipe in ALONE:
        return own
    shared = others["RunArguments"]
    module, config_class = CONFIGS.get(recipe, USUAL_CONFIG)
    config = read_options(module_path(module), config_class, "Training", others)
    base = read_options(module_path("transformers.training_args"), "TrainingArguments", "Training")
    overridden = {o.name for o in config}
    shared = [] if recipe in UNSHARED else shared
    merged = [*shared, *own, *config, *(o for o in base if o.name not in overridden)]
    fitted = FITTED.get(recipe, ())
    merged = [
        replace(o, default="", help=f"{o.help} Fits the model when absent.") if o.name in fitted else o for o in merged
    ]
    groups = [*dict.fromkeys(o.group for o in merged if o.group != "Training"), "Training"]
    return sorted(merged, key=lambda o: groups.index(o.group))


def finetune_options() -> list[Option]:
    """Options of the recipe `finetune`, by group."""
    return recipe_options("finetune")


def print_help(recipe: str = "finetune") -> None:
    """Help of a recipe, printed: every option with its text; a reader that closes early (`| head`) is no error."""
    parsers = {"align_image_text": align_parser, "benchmark": benchmark_parser, "interpolate": interpolate_parser}
    try:
        print(parsers[recipe]().format_help() if recipe in parsers else help_text(recipe), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains as it exits


def help_text(recipe: str) -> str:
    """Help of a recipe with a config: every option with its default and its text."""
    width = min(110, shutil.get_terminal_size((100, 20)).columns)
    lines, group = [INTRO[recipe], COMMON], ""
    for option in recipe_options(recipe):
        if option.group != group:
            group = option.group
            lines.append(f"\n{group}{' (transformers.TrainingArguments)' if group == 'Training' else ''}:")
        default = f" [{option.default}]" if option.default else ""
        off = f", --no_{option.name}" if option.default == "True" else ""
        lines.append(f"  --{option.name}{off}{default}")
        if option.help:
            lines.append(textwrap.fill(option.help, width, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines)
