"""Bad input by name: what is passed instead of something right, the exception, the culprit that its message names and
the remedy that it offers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import runs
import tiny
from datasets import Dataset, DatasetDict
from peft import LoraConfig
from transformers import BertModel, TrainingArguments

from hftransfer import AdaptationTrainer, AdversarialTrainer, MMDTrainer

NEWS = tiny.domain()
TEXTS, IDS = list(NEWS["text"]), list(NEWS["label"])
NAMES = [tiny.LABELS[i] for i in IDS]
SWAPPED = tiny.domain(9, seed=3, labels=tuple(reversed(tiny.LABELS)))


def rows(text=TEXTS, label=None, **more) -> Dataset:
    """Rows with these columns; `None` leaves a column out."""
    columns = {"text": text, "label": label, **more}
    return Dataset.from_dict({k: v for k, v in columns.items() if v is not None})


def first(value, of: list) -> list:
    """A column whose first value is another."""
    return [value, *of[1:]]


def trainer(folder: Path, cls=AdaptationTrainer, config: dict | None = None, **given) -> AdaptationTrainer:
    """A trainer on the usual input, or on what is given instead; `folder` is where it would write."""
    usual = {
        "model": tiny.bert,
        "args": lambda: runs.config(folder, **(config or {})),
        "train_dataset": NEWS,
        "target_dataset": tiny.domain(seed=1, labelled=False),
        "processing_class": tiny.tokenizer,
    }
    arguments = {k: v() if callable(v) else v for k, v in (usual | given).items()}
    return cls(arguments.pop("model"), arguments.pop("args"), **arguments)


def tokenizer_without_pad():
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = None
    return tokenizer


def tagger():
    return tiny.bert(tiny.TAGS, tagging=True)


def scorer():
    return tiny.bert(("LABEL_0",), num_labels=1)


WORDS = [["w1", "w2"]] * 8
SAME = tiny.domain(12)
DATA = {
    "no text column": (
        {"train_dataset": NEWS.rename_column("text", "body")},
        ValueError, "source has neither a column 'text' nor 'tokens'; its columns are 'body', 'label'",
        "`text_column`",
    ),
    "a mistyped text column": (
        {"config": {"text_column": "txet"}}, ValueError, "source has neither a column 'txet'", "Did you mean 'text'?",
    ),
    "no text in the target": (
        {"target_dataset": rows(None, body=TEXTS)}, ValueError, "target_dataset has neither a column 'text'", "Rename",
    ),
    "no label in the source": (
        {"train_dataset": rows()},
        ValueError, "source has no column 'label'; its columns are 'text'", "`label_column`",
    ),
    "no label in one of two sources": (
        {"train_dataset": {"books": NEWS, "dvd": rows()}}, ValueError, "source 'dvd' has no column 'label'", "Rename",
    ),
    "a mistyped label column": (
        {"config": {"label_column": "lable"}}, ValueError, "no column 'lable'", "Did you mean 'label'?",
    ),
    "no second text": (
        {"config": {"text_pair_column": "premise"}}, ValueError, "no column 'premise'", "`text_pair_column`",
    ),
    "no labels in a source's evaluation set": (
        {"eval_dataset": {"source": rows()}}, ValueError, "eval_dataset['source'] is a source's", "`label_column`",
    ),
    "a label outside the set": (
        {"train_dataset": rows(label=first("sideways", NAMES))},
        ValueError, "'down', 'flat', 'sideways', 'up'", "rename",
    ),
    "a number outside the set": (
        {"train_dataset": rows(label=first(7, IDS))}, ValueError, "source: '0', '1', '2', '7'", "rename or filter",
    ),
    "a negative label": (
        {"train_dataset": rows(label=first(-1, IDS))}, ValueError, "source row 0: label -1 in 'label'", "Drop rows",
    ),
    "a label that is None": (
        {"train_dataset": rows(label=[*NAMES[:5], None, *NAMES[6:]])},
        ValueError, "source row 5 has no label", "Drop or label",
    ),
    "a declared label that is None": (
        {"train_dataset": Dataset.from_dict(
            {"text": TEXTS, "label": [*IDS[:5], None, *IDS[6:]]}, features=NEWS.features)},
        ValueError, "source row 5 has no label", "Drop or label",
    ),
    "a label that is half a number": (
        {"train_dataset": rows(label=[i + 0.5 for i in IDS]), "config": {"task": "sequence-classification"}},
        ValueError, "source: '0.5', '1.5', '2.5'", "rename or filter",
    ),
    "names where numbers belong": (
        {"train_dataset": rows(label=NAMES), "model": scorer, "config": {"task": "regression", "objectives": None}},
        ValueError, "source row 0: the label 'down' is no finite number", "set `task`",
    ),
    "other names in the evaluation set": (
        {"eval_dataset": {"target": rows(["w1"] * 3, ["UP", "DOWN", "FLAT"])}},
        ValueError, "eval_dataset['target'] row 0: label 'UP' is not one of", "`merge_label_case`",
    ),
    "other names in the model": (
        {"model": lambda: tiny.bert(("bad", "good"))}, ValueError, "the model: 'bad', 'good'", "rename or filter",
    ),
    "other names among revealed labels": (
        {"target_dataset": tiny.domain(seed=1, labels=("a", "b", "c")), "config": {"reveal_target_labels": 1}},
        ValueError, "target_dataset row", "is not one of 'down', 'up', 'flat'",
    ),
    "one class only": (
        {"train_dataset": NEWS.filter(lambda r: r["label"] == 1)},
        ValueError, "same label in 'label' ('up')", "needs two",
    ),
    "one class only, undeclared": (
        {"train_dataset": rows(label=["up"] * 24), "model": lambda: tiny.bert(("LABEL_0", "LABEL_1"))},
        ValueError, "source holds one class only (up)", "needs two",
    ),
    "an empty source": ({"train_dataset": NEWS.select([])}, ValueError, "source is empty", "no rows"),
    "an empty source among two": (
        {"train_dataset": {"books": NEWS, "dvd": NEWS.select([])}}, ValueError, "source 'dvd' is empty", "no rows",
    ),
    "an empty stream": (
        {"train_dataset": NEWS.to_iterable_dataset().take(0)}, ValueError, "source is empty", "no rows",
    ),
    "an empty target": ({"target_dataset": NEWS.select([])}, ValueError, "target_dataset is empty", "no rows"),
    "an empty evaluation set": (
        {"eval_dataset": {"target": NEWS.select([])}}, ValueError, "eval_dataset['target'] is empty", "no rows",
    ),
    "a text that is None": (
        {"train_dataset": rows(first(None, TEXTS), NAMES)}, ValueError, "source row 0: 'text' is None", "Drop or fill",
    ),
    "a target text that is None": (
        {"target_dataset": rows([*TEXTS, None])}, ValueError, "target_dataset row 24: 'text' is None", "Drop or fill",
    ),
    "a text that is empty": (
        {"target_dataset": rows([*TEXTS, " \n"])},
        ValueError, "target_dataset row 24: 'text' is empty", "Drop or fill",
    ),
    "a text that is a number": (
        {"target_dataset": rows(IDS)}, ValueError, "target_dataset row 0: 'text' must be a string", "not int",
    ),
    "words in one string": (
        {"train_dataset": rows(None, [["whole", "split"]] * 8, tokens=["w1 w2"] * 8), "model": tagger},
        ValueError, "source row 0: 'tokens'", "must be a list of words",
    ),
    "more words than tags": (
        {"train_dataset": rows(None, [*[["whole", "split"]] * 7, ["split"]], tokens=WORDS), "model": tagger,
         "target_dataset": rows(None, tokens=WORDS)},
        ValueError, "source row 7: 2 words but 1 labels", "each word needs one",
    ),
    "source and target the same": (
        {"train_dataset": SAME, "target_dataset": SAME},
        ValueError, "target_dataset is the same object", "other domain",
    ),
    "one source and the target the same": (
        {"train_dataset": {"a": NEWS, "b": SAME}, "target_dataset": SAME},
        ValueError, "the same object", "other domain",
    ),
    "no source": ({"train_dataset": None}, ValueError, "train_dataset is missing", "at least one labelled source"),
    "a dict without sources": ({"train_dataset": {}}, ValueError, "train_dataset is an empty dict", "name at least"),
    "no target": ({"target_dataset": None}, ValueError, "target_dataset is missing", "leave `objectives` empty"),
    "splits for sources": (
        {"train_dataset": DatasetDict(train=NEWS, test=SAME)}, ValueError, "holds splits (train, test)", "['train']",
    ),
    "splits for a target": (
        {"target_dataset": DatasetDict(train=NEWS, test=SAME)},
        TypeError, "target_dataset is a dict", "pass one of them",
    ),
    "a list of texts": ({"train_dataset": TEXTS}, TypeError, "source must be", "a list of dicts"),
    "one column of a data frame": (
        {"target_dataset": NEWS.to_pandas()["text"]}, TypeError, "target_dataset must be", "a DataFrame",
    ),
    "a name for a data set": ({"eval_dataset": "sample"}, TypeError, "eval_dataset['source'] must be", "not str"),
    "a stream without an end": (
        {"train_dataset": NEWS.to_iterable_dataset(), "config": {"max_steps": -1}},
        ValueError, "source is a stream", "set max_steps",
    ),
    "more workers than shards": (
        {"target_dataset": rows().to_iterable_dataset(), "config": {"dataloader_num_workers": 2}},
        ValueError, "dataloader_num_workers=2", "set dataloader_num_workers to 1",
    ),
    "labels to reveal that are not there": (
        {"config": {"reveal_target_labels": 1}}, ValueError, "target_dataset has no column 'label'", "`label_column`",
    ),
    "more labels to reveal than there are": (
        {"target_dataset": tiny.domain(9, seed=1), "config": {"reveal_target_labels": 4}},
        ValueError, "class 'down' of target_dataset has 3 rows, fewer than 4", "Reveal fewer",
    ),
    "labels to reveal in a stream": (
        {"target_dataset": SWAPPED.to_iterable_dataset(), "config": {"reveal_target_labels": 1}},
        ValueError, "target_dataset is a stream", "Load it map-style",
    ),
    "labels to reveal without a target": (
        {"target_dataset": None, "config": {"reveal_target_labels": 1, "objectives": None}},
        ValueError, "target_dataset is missing", "leave it 0",
    ),
}  # fmt: skip
MODELS = {
    "a folder that is not there": ({"model": "./gone"}, FileNotFoundError, "no folder './gone'", "an existing folder"),
    "an absolute path that is not there": (
        {"model": "/gone/model"}, FileNotFoundError, "no folder '/gone/model'", "a Hub id such as owner/name",
    ),
    "a name without the Hub": (
        {"model": "models/gone"}, FileNotFoundError, "Could not load 'models/gone'", "the Hub is out of reach",
    ),
    "a folder without a model": (
        {"model": str(Path(__file__).parent)},
        FileNotFoundError, "Could not load", "config.json, weights and tokenizer",
    ),
    "no model": ({"model": None}, TypeError, "model must be", "a Hub id, a folder or a loaded model"),
    "a bare backbone": (
        {"model": lambda: BertModel(tiny.bert().config)}, ValueError, "BertModel has no head",
        "`AutoModelForSequenceClassification`",
    ),
    "a head of another size": (
        {"model": lambda: tiny.bert(("LABEL_0", "LABEL_1"))}, ValueError, "2 outputs", "Pass the checkpoint's name",
    ),
    "a tokenizer without a pad token": (
        {"processing_class": tokenizer_without_pad}, ValueError, "neither a pad token", "add_special_tokens",
    ),
    "no tokenizer": ({"processing_class": None}, ValueError, "processing_class is missing", "Pass the tokenizer"),
    "more tokens than positions": (
        {"config": {"max_length": 65}}, ValueError, "max_length=65", "only 64 positions. Leave it out",
    ),
    "an unknown policy": (
        {"config": {"trainable": "heads"}}, ValueError, "trainable='heads'", "all, auto, head, norms, biases",
    ),
    "more layers than there are": (
        {"config": {"trainable": "last_3"}}, ValueError, "trainable='last_3'", "has 2 layers",
    ),
    "a policy and an adapter": (
        {"config": {"trainable": "head"}, "peft_config": LoraConfig()},
        ValueError, "The adapter decides what trains", "leave out trainable='head'",
    ),
    "the wrong kind of arguments": (
        {"args": lambda: TrainingArguments("out", use_cpu=True)},
        TypeError, "TrainingArguments", "an AdaptationConfig",
    ),
    "an objective of another trainer": (
        {"cls": MMDTrainer, "config": {"objectives": {"dann": 0.1}}}, ValueError, "MMDTrainer trains with mmd",
        "Use AdaptationTrainer",
    ),
    "an adversarial trainer without an adversary": (
        {"cls": AdversarialTrainer}, ValueError, "trains with dann or cdan or cdan_e", "Use AdaptationTrainer",
    ),
    "an objective on classes where there are none": (
        {"train_dataset": rows(label=[i / 7 for i in range(24)]), "model": scorer,
         "config": {"objectives": {"cdan": 0.1}}},
        ValueError, "cdan on regression", "need one label a row",
    ),
}  # fmt: skip
BOTH = {"eval_dataset": {"source": NEWS, "target": SWAPPED}}
SELECTION = {
    "a choice by target labels": (
        BOTH | {"config": {"metric_for_best_model": "eval_target_accuracy"}}, ValueError,
        "'eval_target_accuracy' reads the labels of 'target'", "eval_target_information",
    ),
    "a choice by an oracle": (
        BOTH | {"config": {"metric_for_best_model": "target_oracle_macro_f1"}}, ValueError,
        "'target_oracle_macro_f1' reads the labels of 'target'", "`allow_oracle_selection=True`",
    ),
    "a choice by the target's loss": (
        BOTH | {"config": {"metric_for_best_model": "eval_target_loss"}},
        ValueError, "'eval_target_loss' reads", "source",
    ),
    "a choice by a set that is not there": (
        BOTH | {"config": {"metric_for_best_model": "eval_sorce_accuracy"}}, ValueError,
        "'eval_sorce_accuracy' names none of the evaluation sets (source, target)", "Did you mean 'source_accuracy'?",
    ),
    "a choice by a loss of no set": (
        BOTH | {"config": {"metric_for_best_model": "loss"}}, ValueError, '"loss" does not say of which set',
        '"eval_source_loss"',
    ),
}  # fmt: skip


def tables() -> dict[str, dict[str, tuple]]:
    """All tables of bad input by file and name: those above and those of `bad_*.py` beside this file.

    Each is run by a parametrised test, and each entry ends in the culprit that its message names and the remedy that
    it offers.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("bad_*.py")):
        for name, table in vars(import_module(path.stem)).items():
            if (
                name.isupper()
                and isinstance(table, dict)
                and all(isinstance(entry, tuple) for entry in table.values())
            ):
                found[f"{path.name} {name}"] = table
    return found
