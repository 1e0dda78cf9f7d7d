"""Arguments of `adapt` that cannot be: what is given, the error, the culprit that its message names, the remedy."""

from __future__ import annotations

import math
from typing import Any

import tiny
import tiny_shift
from datasets import Dataset
from transformers import TrainingArguments

from hftransfer import SelectionRule

SOURCE, VALIDATION = tiny_shift.domain(60, 0), tiny_shift.domain(30, 2)
TARGET = tiny_shift.domain(40, 1, labelled=False)
ONE_CLASS = SOURCE.filter(lambda row: row["label"] == 0)
PLAIN: dict[str, Any] = {"source-only": {}}


def of_ones_own(**recipe: Any) -> dict[str, Any]:
    """A list with one candidate besides the plain run."""
    return {"candidates": PLAIN | {"mine": recipe}}


ADAPT_DATA = {
    "no validation rows": (
        {"validation": None, "validation_fraction": 0}, ValueError, "source has no validation rows",
        "Leave validation_fraction at 0.1",
    ),
    "a class without a validation row": (
        {"validation": VALIDATION.filter(lambda row: row["label"] != 2)}, ValueError,
        "source validation holds no row of 'flat'", "Give rows of each class to the validation split",
    ),
    "validation rows without labels": (
        {"validation": VALIDATION.remove_columns("label")}, ValueError,
        "the validation split of source has no column 'label'", "Rename one, or leave validation out",
    ),
    "no row in validation": (
        {"validation": VALIDATION.select([])}, ValueError, "the validation split of source is empty", "no rows",
    ),
    "validation by another name": (
        {"validation": {"books": VALIDATION}}, ValueError, "no source 'books'", "by the sources' names (source)",
    ),
    "a name as validation": (
        {"validation": "held_out.csv"}, TypeError, "the validation split of source", "Read a file first",
    ),
    "training rows as validation": (
        {"validation": SOURCE.select(range(9))}, ValueError,
        "9 of 9 rows of the validation split of source are rows of the training rows of source",
        "Drop them from one of the two",
    ),
    "a fraction in words": (
        {"validation": None, "validation_fraction": "a tenth"}, ValueError, "validation_fraction='a tenth'",
        "below 1",
    ),
    "a fraction that is none": (
        {"validation": None, "validation_fraction": math.nan}, ValueError, "validation_fraction=nan", "below 1",
    ),
    "all as validation": (
        {"validation": None, "validation_fraction": 1}, ValueError, "validation_fraction=1", "below 1",
    ),
    "five target rows": (
        {"target": TARGET.select(range(5))}, ValueError, "target holds 5 rows", "Give more unlabelled rows",
    ),
    "no target row": ({"target": TARGET.select([])}, ValueError, "target is empty", "no rows"),
    "no target": ({"target": None}, ValueError, "There is no target", "--target"),
    "target rows as texts": ({"target": ["w1 up", "w2"]}, TypeError, "whose row 0 is of type str", "list of dicts"),
    "several targets": ({"target": {"a": TARGET, "b": TARGET}}, TypeError, "target is a dict", "pass one of them"),
    "a target by name beside rows": (
        {"target": "medical.csv"}, TypeError, "source and target", "both of the same kind",
    ),
    "a target with another column": (
        {"target": TARGET.rename_column("text", "body")}, ValueError, "target has neither a column 'text'",
        "`text_column`",
    ),
    "a target that is the source": (
        {"target": SOURCE.remove_columns("label")}, ValueError, "All 60 rows of the target are rows of the source",
        "Give the rows of the other domain",
    ),
    "one class": (
        {"source": ONE_CLASS, "validation": VALIDATION.filter(lambda row: row["label"] == 0)}, ValueError,
        "All rows of source carry the same label", "a classifier needs two",
    ),
    "no source": ({"source": None}, ValueError, "source is missing", "give at least one data set"),
    "no source by name": ({"source": {}}, ValueError, "source is missing", "give at least one data set"),
    "no source row": ({"source": SOURCE.select([])}, ValueError, "source is empty", "no rows"),
    "a source without labels": (
        {"source": SOURCE.remove_columns("label")}, ValueError, "source has no column 'label'", "`label_column`",
    ),
    "a source with another column": (
        {"source": SOURCE.rename_column("text", "body")}, ValueError, "source has neither a column 'text'",
        "`text_column`",
    ),
    "labels that are empty": (
        {"source": Dataset.from_dict({"text": SOURCE["text"][:], "label": [None] * 60})}, ValueError,
        "source row 0 has no label", "Drop or label such rows first",
    ),
    "a test split without a name": ({"test": VALIDATION}, TypeError, "test must be a dict", '{"target": rows'),
    "a test split of nobody": (
        {"test": {"medical": tiny_shift.domain(9, 7)}}, ValueError, "there is no 'medical'", "'target'",
    ),
    "training rows as test": (
        {"test": {"source": SOURCE.select(range(3))}}, ValueError, "3 of 3 rows of the test split of source",
        "Drop them from one of the two",
    ),
    "a test label of no class": (
        {"test": {"target": Dataset.from_dict({"text": ["w1 up"], "label": ["sideways"]})}}, ValueError,
        "the test split of target row 0: label 'sideways'", "Rename it, drop such rows",
    ),
}  # fmt: skip
ADAPT_ARGUMENTS = {
    "an effort with a typo": ({"effort": "quik"}, ValueError, "effort='quik'", "Did you mean 'quick'?"),
    "no effort": ({"effort": None}, ValueError, "effort=None", "'quick', 'standard' or 'thorough'"),
    "an effort and a list": (
        {"effort": "quick", "candidates": PLAIN}, ValueError, "effort and candidates are both given", "Leave one out",
    ),
    "a rule in words": ({"rule": "strict"}, TypeError, "rule must be a SelectionRule", "not str"),
    "a rule's class": ({"rule": SelectionRule}, TypeError, "SelectionRule itself", "call it"),
    "a rule of an unknown score": (
        {"rule": SelectionRule(scores=("nuclear_nrm",))}, ValueError, "no validator 'nuclear_nrm'",
        "Did you mean 'nuclear_norm'?",
    ),
    "a rule of no score": ({"rule": SelectionRule(scores=())}, ValueError, "scores=()", "at least one"),
    "a rule of one score's letters": (
        {"rule": SelectionRule(scores="information")}, ValueError, "scores='information'", "must be a tuple",
    ),
    "a threshold in words": ({"rule": SelectionRule(clear="2")}, ValueError, "clear='2'", "a number of at least 0"),
    "a threshold that is none": (
        {"rule": SelectionRule(diversity=math.nan)}, ValueError, "diversity=nan", "a number of at least 0",
    ),
    "a threshold below zero": ({"rule": SelectionRule(clear=-1.0)}, ValueError, "clear=-1.0", "at least 0"),
    "a model that is not there": (
        {"model": "/gone/model"}, FileNotFoundError, "no folder '/gone/model'", "Give an existing folder",
    ),
    "a model that nobody has": (
        {"model": "owner/gone"}, FileNotFoundError, "Could not load 'owner/gone'", "the Hub is out of reach",
    ),
    "no model": ({"model": None}, TypeError, "not NoneType", "a Hub id, a folder"),
    "a loaded model": ({"model": tiny.bert()}, TypeError, "A loaded model is changed", "save_pretrained"),
    "settings of another library": (
        {"args": TrainingArguments("out", use_cpu=True, report_to="none")}, TypeError, "not TrainingArguments",
        "an AdaptationConfig",
    ),
    "settings as a dict": ({"args": {"output_dir": "out"}}, TypeError, "not dict", "an AdaptationConfig"),
    "names of data sets in a word": ({"dataset_names": "news"}, TypeError, "dataset_names must be a dict", "not str"),
    "options of a model in a word": ({"model_kwargs": "main"}, TypeError, "model_kwargs must be a dict", "not str"),
    "an adapter as a dict": (
        {"peft_config": {"r": 4}}, TypeError, "peft_config must be a PEFT config", "LoraConfig(r=8)",
    ),
}  # fmt: skip
ADAPT_CANDIDATES = {
    "an objective with a typo": (
        of_ones_own(training={"objectives": {"mdm": 0.1}}), ValueError,
        "Candidate 'mine': There is no objective 'mdm'", "there is mmd",
    ),
    "a rate in words": (
        of_ones_own(training={"learning_rate": "fast"}), ValueError, "Candidate 'mine': learning_rate='fast'",
        "must be a number",
    ),
    "a weight of no class": (
        of_ones_own(training={"objectives": "im", "class_weights": {"dwon": 2.0}}), ValueError,
        "Candidate 'mine': class_weights names 'dwon'", "Did you mean 'down'?",
    ),
    "a weight of no source": (
        of_ones_own(training={"objectives": "im", "source_weights": {"books": 2.0}}), ValueError,
        "Candidate 'mine': source_weights names 'books'", "the sources are source",
    ),
    "labels of the target": (
        of_ones_own(training={"objectives": "im", "reveal_target_labels": 2}), ValueError,
        "'reveal_target_labels' cannot stand here", "use finetune",
    ),
    "other labels": (
        of_ones_own(training={"label_column": "topic"}), ValueError, "'label_column' cannot stand here",
        "belongs to the whole run",
    ),
    "a student of nobody": (of_ones_own(student_of=""), ValueError, "mine: student_of is empty", "name a candidate"),
    "a mean of nobody": (of_ones_own(mean_of=[]), ValueError, "mine: mean_of is empty", "leave it out"),
    "a mean of one twice": (
        of_ones_own(mean_of=["source-only", "source-only"]), ValueError, "mean_of names 'source-only' twice",
        "Name each candidate once",
    ),
    "a mean of a map": (
        of_ones_own(mean_of={"a": 1}), ValueError, "mine: mean_of takes names of candidates", "not {'a': 1}",
    ),
    "a student of itself": (
        of_ones_own(student_of="mine"), ValueError, "there is no candidate 'mine' before it", "student_of",
    ),
    "a ring": (
        {"candidates": PLAIN | {"a": {"start": "b"}, "b": {"start": "a"}}}, ValueError,
        "a: start: there is no candidate 'b' before it", "before",
    ),
    "settings in a list": (of_ones_own(training=["mmd"]), ValueError, "training must be a map", "not ['mmd']"),
    "a description in a list": (of_ones_own(about=["mmd"]), ValueError, "about must be one line", "not ['mmd']"),
    "a seed in words": (of_ones_own(seed="one"), ValueError, "seed='one'", "whole number of at least 0"),
    "a path as a name": (
        {"candidates": PLAIN | {"../../up": {}}}, ValueError, "'../../up': a name is", "letters, digits",
    ),
    "a name that is taken": (
        {"candidates": PLAIN | {"run.json": {"training": {"objectives": "im"}}}}, ValueError, "'run.json'",
        "is not run.json",
    ),
    "a name that ends in a blank": (
        {"candidates": PLAIN | {"im ": {"training": {"objectives": "im"}}}}, ValueError, "'im '", "does not end in",
    ),
    "a name without end": (
        {"candidates": PLAIN | {"m" * 101: {"training": {"objectives": "im"}}}}, ValueError, "mmm",
        "up to 100 letters",
    ),
    "two names that differ in capitals": (
        {"candidates": PLAIN | {"Source-Only": {"training": {"objectives": "im"}}}}, ValueError,
        "'source-only' has that name already", "Choose another",
    ),
    "a list of names": (
        {"candidates": ["source-only"]}, TypeError, "candidates=['source-only']", "a map of recipes by name",
    ),
    "a number of candidates": ({"candidates": 3}, TypeError, "candidates=3", "the path of a YAML file"),
    "no file": (
        {"candidates": "gone.yaml"}, ValueError, "there is no config file gone.yaml", "gone.yaml",
    ),
}  # fmt: skip
# Files of candidates, by what stands in them.
CANDIDATE_FILES = {
    "nothing": ("", ValueError, "there is no plain source-only run", "add `source-only: {}`"),
    "a list": ("- source-only\n", ValueError, "must map names of candidates", "to recipes"),
    "a word": ("false\n", ValueError, "must map names of candidates", "to recipes"),
    "an open bracket": ("source-only: {\n", ValueError, "is not valid YAML", "line"),
    "a name twice": (
        "source-only: {}\nim: {training: {objectives: im}}\nim: {training: {objectives: mcc}}\n", ValueError,
        "the key 'im' stands twice", "line 3",
    ),
    "a setting twice": (
        "source-only: {}\nim: {training: {objectives: im, objectives: mcc}}\n", ValueError,
        "the key 'objectives' stands twice", "line 2",
    ),
    "letters of another encoding": (
        b"source-only: {about: caf\xe9}\n", ValueError, "is not UTF-8 text", "Save it as UTF-8",
    ),
    "code": ("source-only: !!python/object/apply:os.getcwd []\n", ValueError, "is not valid YAML", "line 1"),
}  # fmt: skip
