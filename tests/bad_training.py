"""Bad habits of training by name: optimizers, adapters, frozen models and collators that would run something else than
was passed. As in `bad_cases`: what is given, the exception, the culprit and the remedy."""

from __future__ import annotations

from functools import partial
from inspect import isfunction

import families
import pictures
import tiny
import torch
from bad_cases import trainer as usual
from peft import LoraConfig, get_peft_model
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import DataCollatorWithPadding

from hftransfer import AdaptationTrainer

LORA = {"r": 2, "target_modules": ["query"]}
WHOLE = tiny.bert()
OTHER = tiny.bert()
EVERYTHING = SGD(WHOLE.parameters(), lr=0.1)


def trainer(folder, cls=AdaptationTrainer, config=None, **given):
    """As in `bad_cases`, but of what is given only functions that make a model are called."""
    kept = {k: v if k == "model" and isfunction(v) else partial(lambda v: v, v) for k, v in given.items()}
    return usual(folder, cls, config, **kept)


def frozen_adapter():
    model = get_peft_model(tiny.bert(), LoraConfig(**LORA, modules_to_save=["classifier"]))
    model.requires_grad_(False)
    return model


def headless_adapter():
    return get_peft_model(tiny.bert(), LoraConfig(**LORA))


def adapter_on_the_head():
    return get_peft_model(tiny.bert(), LoraConfig(r=2, target_modules=["query", "classifier"]))


def decoder():
    return families.build("llama")


def headless_decoder():
    return get_peft_model(decoder(), LoraConfig(r=2, target_modules=["q_proj"]))


def unsaved_embeddings():
    model = get_peft_model(tiny.bert(), LoraConfig(**LORA, modules_to_save=["classifier"]))
    model.get_base_model().bert.embeddings.requires_grad_(True)
    return model


def still():
    return tiny.bert().requires_grad_(False)


def injected():
    model = tiny.bert()
    model.add_adapter(LoraConfig(**LORA))
    return model


def without(*names):
    """A collator that leaves these out of what the trainer's own makes of plain rows."""

    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        batch = {
            "input_ids": torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows]),
            "labels": torch.tensor([row.get("labels", -100) for row in rows]),
            "domain": torch.tensor([row.get("domain", 0) for row in rows]),
            "num_source": sum(row.get("domain", 0) >= 0 for row in rows),
        }
        return {k: v for k, v in batch.items() if k not in names}

    return collate


def head_of(model):
    return SGD(model.classifier.parameters(), lr=0.1)


DANN = {"objectives": {"dann": 0.1}}
IMAGES = {
    "model": pictures.resnet,
    "train_dataset": pictures.pictures(12),
    "target_dataset": pictures.pictures(9, seed=1, labelled=False),
    "processing_class": pictures.processor(),
}
OPTIMIZERS = {
    "an optimizer without the discriminator": (
        {"model": WHOLE, "optimizers": (AdamW(WHOLE.parameters()), None), "config": DANN},
        ValueError, "'objectives.by_name.dann.", "`optimizer_cls_and_kwargs=(torch.optim.AdamW",
    ),
    "an optimizer of another copy": (
        {"model": tiny.bert, "optimizers": (AdamW(OTHER.parameters()), None)},
        ValueError, "are no part of this run's model: those of another copy", "`optimizer_cls_and_kwargs=",
    ),
    "an optimizer of the head alone": (
        {"model": WHOLE, "optimizers": (head_of(WHOLE), None)},
        ValueError, "'bert.embeddings.word_embeddings.weight'", "leave the optimizer to the trainer",
    ),
    "an optimizer of the head alone, for unfreezing": (
        {"model": WHOLE, "optimizers": (head_of(WHOLE), None), "config": {"unfreeze": {"by": "step", "every": 1}}},
        ValueError, "that are to train: 'bert.embeddings", "`optimizer_cls_and_kwargs=",
    ),
    "a schedule of another optimizer": (
        {"model": WHOLE, "optimizers": (EVERYTHING, LambdaLR(SGD(OTHER.parameters(), lr=0.1), lambda step: 1.0))},
        ValueError, "scheduler that was passed drives another optimizer", "Make it of optimizers[0]",
    ),
    "a schedule without its optimizer": (
        {"model": WHOLE, "optimizers": (None, LambdaLR(EVERYTHING, lambda step: 1.0))},
        ValueError, "the scheduler drives an optimizer of its own", "`lr_scheduler_type`",
    ),
    "a class for an optimizer": (
        {"model": WHOLE, "optimizers": (AdamW, None)}, TypeError, "the class AdamW", "`optimizer_cls_and_kwargs=",
    ),
    "an optimizer alone": (
        {"model": WHOLE, "optimizers": EVERYTHING}, TypeError, "not SGD", "(optimizer, scheduler)",
    ),
    "an optimizer and a class": (
        {"model": WHOLE, "optimizers": (EVERYTHING, None), "optimizer_cls_and_kwargs": (SGD, {"lr": 0.1})},
        ValueError, "Both optimizers and optimizer_cls_and_kwargs", "leave out one",
    ),
    "a class and a rate": (
        {"optimizer_cls_and_kwargs": (SGD, 0.1)}, TypeError, "not the class SGD and float", "a dict of its arguments",
    ),
    "a class with parameters": (
        {"optimizer_cls_and_kwargs": (SGD, {"params": [], "lr": 0.1})}, ValueError, "names 'params'", "Leave it out",
    ),
    "rates that a passed optimizer has not": (
        {"model": WHOLE, "optimizers": (EVERYTHING, None), "config": {"layer_decay": 0.9}},
        ValueError, "layer_decay=0.9 has no effect", "leave the optimizer to the trainer",
    ),
}  # fmt: skip
MODELS = {
    "a frozen adapter": ({"model": frozen_adapter}, ValueError, "adapter (default) is frozen", "is_trainable=True"),
    "a frozen adapter and an adversary": (
        {"model": frozen_adapter, "config": DANN}, ValueError, "adapter (default) is frozen", "is_trainable=True",
    ),
    "a model without anything to train": (
        {"model": still}, ValueError, "this BertForSequenceClassification has requires_grad=False", "in `trainable`",
    ),
    "an adapter without the head": (
        {"model": headless_adapter}, ValueError, "the head 'classifier' as it is", "modules_to_save=['classifier']",
    ),
    "an adapter on the head": (
        {"model": adapter_on_the_head}, ValueError, "put on the head 'classifier'", "exclude_modules=['classifier']",
    ),
    "weights that no adapter saves": (
        {"model": unsaved_embeddings}, ValueError, "trained and not saved with the adapter: 'bert.embeddings",
        "modules_to_save=['bert.embeddings",
    ),
    "an adapter that transformers put in": (
        {"model": injected}, ValueError, "carries an adapter that transformers put into it", "is_trainable=True",
    ),
    "the head of another family": (
        {"peft_config": LoraConfig(r=2, modules_to_save=["score"])},
        ValueError, "modules_to_save names 'score'", "its head is 'classifier'",
    ),
    "the head and one of another family": (
        {"peft_config": LoraConfig(r=2, modules_to_save=["classifier", "scroe"])},
        ValueError, "names 'scroe'", "its head is 'classifier'",
    ),
    "the head of an encoder in a decoder": (
        {"model": decoder, "processing_class": families.tokenizer(),
         "peft_config": LoraConfig(r=2, modules_to_save=["classifier"])},
        ValueError, "modules_to_save names 'classifier'", "its head is 'score'",
    ),
    "a decoder's adapter without the head": (
        {"model": headless_decoder, "processing_class": families.tokenizer()},
        ValueError, "the head 'score' as it is", "modules_to_save=['score']",
    ),
    "an adapter of sequences on images": (
        IMAGES | {"peft_config": LoraConfig(r=2, task_type="SEQ_CLS")},
        ValueError, "task_type='SEQ_CLS' is not for ResNetForImageClassification", "Leave it out",
    ),
    "the head of a text model on images": (
        IMAGES | {"peft_config": LoraConfig(r=2, modules_to_save=["score"])},
        ValueError, "modules_to_save names 'score'", "its head is 'classifier.1'",
    ),
    "a pooler without the head": (
        {"peft_config": LoraConfig(**LORA, modules_to_save=["pooler"])},
        ValueError, "leaves out the head 'classifier'", "Add it, or leave modules_to_save open",
    ),
    "a target that is not there": (
        {"peft_config": LoraConfig(r=2, target_modules=["query", "valeu"])},
        ValueError, "target_modules names 'valeu'", "Did you mean 'value'?",
    ),
    "an adapter of language models": (
        {"peft_config": LoraConfig(r=2, task_type="CAUSAL_LM")},
        ValueError, "task_type='CAUSAL_LM' is not for BertForSequenceClassification", "give 'SEQ_CLS'",
    ),
    "an adapter of taggers": (
        {"peft_config": LoraConfig(r=2, task_type="TOKEN_CLS")}, ValueError, "'TOKEN_CLS' is not", "'SEQ_CLS'",
    ),
    "a dict for an adapter": ({"peft_config": {"r": 2}}, TypeError, "not dict", "LoraConfig(r=8)"),
    "a class for an adapter": ({"peft_config": LoraConfig}, TypeError, "not the class LoraConfig", "LoraConfig(r=8)"),
    "two adapters": (
        {"model": frozen_adapter, "peft_config": LoraConfig(r=2)}, ValueError, "PEFT-wrapped already", "not both",
    ),
}  # fmt: skip
COLLATORS = {
    f"a collator without {name}": (
        {"data_collator": without(name)}, ValueError, f"leaves {name!r} out", "`trainer.prepared.collator",
    )
    for name in ("labels", "domain", "num_source")
} | {
    "a collator that knows no target rows": (
        {"data_collator": DataCollatorWithPadding(tiny.tokenizer())},
        ValueError, "data_collator DataCollatorWithPadding", "`trainer.prepared.collator",
    ),
    "a collator without evaluation labels": (
        {
            "data_collator": lambda rows: without(*(() if "domain" in rows[0] else ("labels",)))(rows),
            "eval_dataset": tiny.domain(6, seed=2),
        },
        ValueError, "out of the batches of eval_dataset['source']", "Leave data_collator out",
    ),
}  # fmt: skip
CASES = OPTIMIZERS | MODELS | COLLATORS
