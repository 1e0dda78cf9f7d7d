"""Bad labels by name: the labels, settings, the culprit that the message names and the remedy that it offers."""

from __future__ import annotations

from datasets import Dataset

from hftransfer.data.row_origins import ORIGIN

SCORE, ONE, MULTI = "regression", "sequence-classification", "multi-label-classification"
ORIGINS = [f"{i} (news.csv line {i + 2})" for i in range(4)]
CASES = {
    "an empty label of a file": (
        Dataset.from_dict({"label": ["up", "down", None, "up"], ORIGIN: ORIGINS}), {},
        "source row 2 (news.csv line 4) has no label", "Drop or label",
    ),
    "a blank label": (["up", " \t", "down"], {}, "source row 1 has no label", "Drop or label"),
    "NaN for a label": ([1.0, float("nan"), 2.0], {}, "source row 1 has no label", "Drop or label"),
    "empty lists alone": ([[], []], {}, "source holds no label: all lists in 'label' are empty", "Give some rows"),
    "two labels with a slash": (
        ["up/new", "up", "new", "down"], {}, "source row 0: is 'up/new' in 'label' one", "`label_separator: '/'`",
    ),
    "no label at all": ([None, None], {}, "source row 0 has no label", "Drop or label"),
    "a list without a label": ([["up"], None], {}, "source row 1 has no label", "Drop or label"),
    "nothing in a list": ([["up"], ["up", None]], {}, "source row 1: a label in the list", "Leave such items out"),
    "a dict": ([{"name": "up"}, {"name": "down"}], {}, "'label' is a dict ({'name': 'up'})", "`label_column`"),
    "a list of lists": ([[["up"]], [["down"]]], {}, "source row 0: 'label' is a list that holds a list", "flat list"),
    "a list of dicts": ([[{"a": 1}], [{"a": 2}]], {}, "a list that holds a dict ({'a': 1})", "flat list"),
    "bytes": ([b"up", b"down"], {}, "source row 0: 'label' is bytes", "`label_column`"),
    "a list where one label is wanted": ([["up"], ["down"]], {"task": ONE}, "row 0: the label ['up']", "`task`"),
    "one label where a list is wanted": (["up", "down"], {"task": MULTI}, "the label 'up' does not fit", "`label_sep"),
    "a number where a list is wanted": ([1, 2], {"task": MULTI}, "source row 0: the label 1 does not fit", "`task`"),
    "a decimal comma": (["1.5", "2,5", "3"], {}, "source row 1: 'label' is '2,5'", "Write it with a point"),
    "decimal commas throughout": (["1,5", "2,25"], {}, "source row 0: 'label' is '1,5'", "decimal comma"),
    "thousands in the German way": (["1.234,5", "2,25"], {}, "source row 0: 'label' is '1.234,5'", "decimal comma"),
    "a decimal comma in a regression": (["1", "2,5"], {"task": SCORE}, "source row 1: the label '2,5'", "a point"),
    "text in a regression": (["1", "two"], {"task": SCORE}, "source row 1: the label 'two'", "set `task`"),
    "nan as text in a regression": (["1.5", "nan"], {}, "source row 1: the label 'nan' is no finite", "Fix the row"),
    "infinity as text": (["1.5", "-Infinity"], {}, "source row 1: the label '-Infinity'", "Fix the row"),
    "true in a regression": ([True, False], {"task": SCORE}, "source row 0: the label True", "set `task`"),
    "one text among fractions": (["1.5", "2.25"] * 10 + ["n/a"], {}, "source row 20: 'label' is 'n/a'", "Fix the row"),
    "a printed array": (["['up' 'new']", "['up']"], {}, "\"['up' 'new']\", no list", "commas between the items"),
    "a printed array of numbers": (["[0 1]", "[1 1]"], {}, "source row 0: 'label' is '[0 1]'", "commas between"),
    "names without quotes": (["[up, new]", "[up]"], {}, "source row 0: 'label' is '[up, new]'", "texts in quotes"),
    "a list in some rows": (["['up']", "down"] * 2, {}, "source row 1: 'label' is 'down'", "Fix the row"),
    "a list that was cut off": (["['up', 'new']", "['up', 'n"], {}, "source row 1", "Fix the row"),
    "several labels in a text": (["up,new", "up", "new"], {}, "'up,new' in 'label' one class", "label_separator: ','"),
    "a separator for lists": ([["up"], ["new"]], {"separator": ","}, "label_separator=','", "Leave it out"),
    "a separator for one label": (["a,b", "b"], {"separator": ",", "task": ONE}, "label_separator=','", ONE),
    "torch's mark": ([0, 1, -100], {}, "source row 2: label -100", "Drop such rows"),
    "ids": ([f"id{i}" for i in range(40)], {}, "'label' holds 40 classes in 40 rows", "`label_column`"),
    "amounts": (list(range(40)), {}, "'label' holds 40 classes in 40 rows", "`task: regression`"),
    "places beyond a model's names": (
        [0, 1, 3], {"model_names": ("bad", "good")}, "source: '0', '1', '3'", "rename or filter",
    ),
    "a negative place": ([0, -1], {"model_names": ("bad", "good")}, "source row 1: label -1", "Drop rows"),
    "a model's names in another case": (
        ["GOOD", "BAD"], {"model_names": ("bad", "good")}, "source: 'BAD', 'GOOD'", "`merge_label_case`",
    ),
    "one class, once blanks are cut": (["up", "up "], {}, "source holds one class only (up)", "needs two"),
    "one class as number and text": (["1", "1.0"], {}, "one class only", "needs two"),
    "vectors of another width": (
        [[0, 1], [1, 0]], {"evaluation": {"target": Dataset.from_dict({"label": [[0, 1, 1], [1, 0, 0]]})}},
        "target holds vectors of 3 labels", "the same labels",
    ),
    "a class that only a test has": (
        ["up", "down"], {"evaluation": {"target": Dataset.from_dict({"label": ["up", "new", "new"]})}},
        "target row 1: label 'new' is not one of 'down', 'up'", "drop such rows",
    ),
}  # fmt: skip
