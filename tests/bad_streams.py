"""Bad test-time adaptation: what the adapter is made with and the batch it is given, the exception, the culprit, the
remedy."""

from __future__ import annotations

from pathlib import Path

import pictures
import tiny
import torch

TEXT = {"input_ids": torch.tensor([[2, 9, 10, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
PIXELS = torch.rand(3, 3, 12, 12)


def spoilt():
    model = tiny.bert()
    model.classifier.bias.data.fill_(float("nan"))
    return model


STREAMS = {  # the model, keywords of the adapter, a batch
    "a model that is none": ((lambda: 7, {}, TEXT), TypeError, "model=7", "folder or Hub id of a saved classifier"),
    "a folder that is not there": (
        (lambda: Path("nowhere/model"), {}, TEXT), FileNotFoundError, "nowhere/model", "folder of a saved classifier",
    ),
    "weights that are no numbers": (
        (spoilt, {}, TEXT), ValueError, "'classifier.bias' holds 3 values of 3 that are NaN", "an earlier checkpoint",
    ),
    "a regression": (
        (lambda: tiny.bert(("LABEL_0",), num_labels=1), {}, TEXT), ValueError, "a single output", "adapt_batch_norm",
    ),
    "several labels a row": (
        (lambda: tiny.bert(problem_type="multi_label_classification"), {}, TEXT),
        ValueError, "multi_label_classification", "adapt_batch_norm",
    ),
    "a tagger": (
        (lambda: tiny.bert(tiny.TAGS, tagging=True), {}, TEXT), ValueError, "(1, 4, 2)", "(rows, classes)",
    ),
    "an unknown method": (
        (tiny.bert, {"method": "tend"}, TEXT), ValueError, "method='tend'", "Did you mean 'tent'?",
    ),
    "an unknown setting": (
        (tiny.bert, {"learning_rat": 1e-3}, TEXT), ValueError, "'learning_rat'", "Did you mean 'learning_rate'?",
    ),
    "a share of the start of 1": (
        (tiny.bert, {"start_share": 1.0}, TEXT), ValueError, "start_share=1.0", "would have no say",
    ),
    "a threshold in nats": (
        (tiny.bert, {"entropy_threshold": 2.0}, TEXT), ValueError, "entropy_threshold=2.0", "a share of ln K",
    ),
    "weights without a threshold": (
        (tiny.bert, {"entropy_threshold": None}, TEXT), ValueError, "entropy_weights=True", "needs entropy_threshold",
    ),
    "a negative sharpness": (
        (tiny.bert, {"sharpness": -0.1}, TEXT), ValueError, "sharpness=-0.1", "at least 0",
    ),
    "a switch that is none": (
        (tiny.bert, {"agreement": "perhaps"}, TEXT), ValueError, "agreement='perhaps'", "true or false",
    ),
    "statistics of a model without batch norm": (
        (tiny.bert, {"batch_norm": "mixed"}, TEXT), ValueError, "batch_norm='mixed' has no effect", "Leave it out",
    ),
    "statistics alone of such a model": (
        (tiny.bert, {"method": "statistics"}, TEXT), ValueError, "method='statistics' has no effect",
        "Use method='stable'",
    ),
    "a prior of statistics that do not count it": (
        (pictures.resnet, {"method": "tent", "prior_rows": 9}, PIXELS), ValueError, "prior_rows=9 has no effect",
        "batch_norm='batch'",
    ),
    "a design effect without mixed statistics": (
        (pictures.resnet, {"method": "sar", "design_effect": True}, PIXELS), ValueError,
        "design_effect=True has no effect", "batch_norm='batch'",
    ),
    "a design effect without batch norm": (
        (tiny.bert, {"design_effect": True}, TEXT), ValueError, "design_effect=True has no effect", "Leave it out",
    ),
    "a momentum of Adam": (
        (tiny.bert, {"method": "tent", "momentum": 0.5}, TEXT), ValueError, "momentum=0.5 has no effect",
        "optimizer='adam'",
    ),
    "LoRA of a plain model": (
        (tiny.bert, {"parameters": "lora"}, TEXT), ValueError, "no active LoRA adapter", "get_peft_model",
    ),
    "no norms at all": (
        (lambda: torch.nn.Linear(4, 3), {}, torch.rand(2, 4)), ValueError, "no normalisation layer",
        "parameters='lora'",
    ),
    "Fisher information of nothing": (
        (tiny.bert, {"fisher": 1.0}, TEXT), ValueError, "fisher=1", "needs fisher_batches",
    ),
    "Fisher batches that nothing reads": (
        (tiny.bert, {"fisher_batches": [TEXT]}, TEXT), ValueError, "fisher_batches have no effect", "set fisher",
    ),
    "Fisher batches without a batch": (
        (tiny.bert, {"method": "eata", "fisher_batches": []}, TEXT), ValueError, "fisher_batches is empty",
        "unlabelled batches",
    ),
    "a device for a model that is not copied": (
        (tiny.bert, {"copy": False, "device": "cpu"}, TEXT), ValueError, "copy=False would move", "move it there",
    ),
    "texts that are not tokenised": (
        (tiny.bert, {}, {"input_ids": ["w1 w2"]}), TypeError, "batch['input_ids']", 'return_tensors="pt"',
    ),
    "rows that do not match": (
        (tiny.bert, {}, {**TEXT, "attention_mask": torch.ones(3, 4, dtype=torch.long)}),
        ValueError, "batch['attention_mask'] has the shape (3, 4), and input_ids (1, 4)", "one call of the tokenizer",
    ),
    "ids that the model does not know": (
        (tiny.bert, {}, {"input_ids": torch.full((1, 4), 999)}),
        ValueError, "BertForSequenceClassification cannot read the batch", "own tokenizer",
    ),
    "pixels of one channel": (
        (pictures.resnet, {}, PIXELS[:, :1]), ValueError, "pixel_values (3, 1, 12, 12)", "image processor",
    ),
    "a copy that is neither": ((tiny.bert, {"copy": "no"}, TEXT), ValueError, "copy='no'", "true or false"),
    "a device that is not there": (
        (tiny.bert, {"device": "nowhere"}, TEXT), ValueError, "device='nowhere'", "leave it out",
    ),
    "Fisher batches that are none": (
        (tiny.bert, {"method": "eata", "fisher_batches": 7}, TEXT), TypeError, "fisher_batches=7", "a list of batches",
    ),
    "a batch that is a list": ((tiny.bert, {}, [1, 2]), TypeError, "batch=[1, 2]", "a map of tensors"),
    "labels alone": ((tiny.bert, {}, {"labels": torch.ones(2)}), ValueError, "no model input", "it has labels"),
    "no rows": ((pictures.resnet, {}, PIXELS[:0]), ValueError, "batch has no rows", "one row or more"),
    "pixels that are not finite": (
        (pictures.resnet, {}, torch.full((2, 3, 12, 12), float("nan"))), FloatingPointError, "row 0 of the batch",
        "look at its inputs",
    ),
}  # fmt: skip
