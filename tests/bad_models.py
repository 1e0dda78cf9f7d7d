"""Bad models by name: how a folder is spoilt or what is passed, the exception, the culprit it names, the remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, DistilBertConfig, DistilBertForSequenceClassification

WEIGHTS = "model.safetensors"
BELONG = "config.json and weights were saved together"


def good(folder: Path, **config) -> Path:
    """A tiny BERT with a tokenizer."""
    tiny.bert(**config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def config(**changes):
    """Changes settings of the config; `None` takes one out."""

    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        settings = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))

    return spoil


def weights(change):
    """Changes the weights, a dict."""

    def spoil(folder: Path) -> None:
        file = folder / WEIGHTS
        held = load_file(file)
        save_file(change(held) or held, file, metadata={"format": "pt"})

    return spoil


def without(*parts: str):
    return weights(lambda held: {k: v for k, v in held.items() if not any(part in k for part in parts)})


def renamed(old: str, new: str):
    return weights(lambda held: {k.replace(old, new): v for k, v in held.items()})


def value(key: str, number: float, at: int = 0):
    def change(held: dict) -> None:
        held[key].view(-1)[at] = number

    return weights(change)


def files(*names: str, content: str | bytes | None = None):
    """Deletes files, or writes something else into them."""

    def spoil(folder: Path) -> None:
        for name in names:
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder: Path) -> None:
    tiny.bert().save_pretrained(folder / "shards", max_shard_size="10KB")
    (folder / "model.safetensors").unlink()
    for file in (folder / "shards").glob("model*"):
        shutil.move(file, folder / file.name)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def of_another_kind(folder: Path) -> None:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "vocab_size": 64, "max_position_embeddings": 64}
    DistilBertForSequenceClassification(DistilBertConfig(**sizes)).save_pretrained(folder / "other")
    shutil.copy(folder / "other/model.safetensors", folder)


def slow(folder: Path) -> None:
    """A vocabulary without what merges it."""
    config(model_type="roberta")(folder)
    renamed("bert.", "roberta.")(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    (folder / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "w": 4, "<mask>": 5}')


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


LAYER = "bert.encoder.layer.1.output.dense.weight"
ONLY = "only the head of a model may be new"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
NO_VOCABULARY = "has no vocabulary for a tokenizer (BertTokenizer looks for tokenizer.json, vocab.txt)"
FOLDERS = {
    "no tokenizer files": (no_tokenizer, FileNotFoundError, NO_VOCABULARY, "processing_class; in the recipe, --p"),
    "a tokenizer's config alone": (files("tokenizer.json"), FileNotFoundError, NO_VOCABULARY, "Copy the tokenizer"),
    "a vocabulary without merges": (slow, FileNotFoundError, "no tokenizer that can be read", "merges"),
    "a tokenizer that is cut off": (
        files("tokenizer.json", content='{"version": "1.0", "mod'), FileNotFoundError, "no tokenizer that can be read",
        "processing_class",
    ),
    "a tokenizer of nothing": (files("tokenizer.json", content=""), FileNotFoundError, "can be read", "--processor"),
    "a config of another width": (
        config(hidden_size=64), ValueError, "is 64 x 32 in the file and 64 x 64 by its config (and", BELONG,
    ),
    "a config of more layers": (
        config(num_hidden_layers=6), ValueError, "(its config says 6 layers, the file holds 2)", BELONG,
    ),
    "a config of fewer layers": (
        config(num_hidden_layers=1), ValueError, "the checkpoint has 2 layers, and its config says 1", "`transplant`",
    ),
    "a config of another vocabulary": (
        config(vocab_size=100), ValueError,
        "'bert.embeddings.word_embeddings.weight' is 64 x 32 in the file and 100 x 32", BELONG,
    ),
    "a config of more positions": (
        config(max_position_embeddings=128), ValueError, "position_embeddings.weight' is 64 x 32 in the file", BELONG,
    ),
    "a config of another middle": (
        config(intermediate_size=64), ValueError, "intermediate.dense.weight' is 48 x 32 in the file and 64 x", ONLY,
    ),
    "a config of another kind of model": (
        config(model_type="roberta", architectures=["RobertaForSequenceClassification"]),
        ValueError, "none of them", "it holds 'bert.",
    ),
    "weights of another kind of model": (of_another_kind, ValueError, "it holds 'distilbert.", BELONG),
    "weights without a layer": (without("layer.1."), ValueError, "says 2 layers, the file holds 1)", BELONG),
    "weights without the first layer": (without("layer.0."), ValueError, "'bert.encoder.layer.0.", "missing from"),
    "weights without embeddings": (
        without("word_embeddings"), ValueError, "'bert.embeddings.word_embeddings.weight' is missing", ONLY,
    ),
    "weights without one number": (without(LAYER), ValueError, f"{LAYER!r} is missing", "1 of the "),
    "half a pooler": (without("pooler.dense.bias"), ValueError, "'bert.pooler.dense.bias' is missing", ONLY),
    "other names": (renamed("bert.", "my_model."), ValueError, "it holds 'my_model.", ONLY),
    "not a number": (value(LAYER, float("nan"), 3), ValueError, f"{LAYER!r} holds 1 values of 1,536", "earlier"),
    "infinity": (value(LAYER, float("inf")), ValueError, f"{LAYER!r} holds 1 values", "NaN or infinite"),
    "not a number in the head": (value("classifier.bias", float("nan")), ValueError, "'classifier.bias'", "anew"),
    "a pickle": (pickled, ValueError, "holds its weights in pytorch_model.bin, a pickle", "save_pretrained"),
    "weights of TensorFlow": (
        lambda folder: (folder / "model.safetensors").rename(folder / "tf_model.h5"),
        ValueError, "tf_model.h5, TensorFlow's", "Convert it once",
    ),
    "no weights": (files("model.safetensors"), FileNotFoundError, "a config.json and no weights", "`model_config`"),
    "a shard that is missing": (sharded, FileNotFoundError, "lacks model-00002-of-", "Copy or download it"),
    "a pointer": (files("model.safetensors", content=POINTER), FileNotFoundError, "a Git LFS pointer", "git lfs pull"),
    "weights of nothing": (
        files("model.safetensors", content=b""), FileNotFoundError, "Could not load", "not a whole checkpoint",
    ),
    "a config that is no json": (files("config.json", content="{nope"), ValueError, "config.json is no JSON", "anew"),
    "a config that is a list": (files("config.json", content="[]"), ValueError, "config.json holds a list", "anew"),
    "a kind of model that there is not": (
        config(model_type="brt"), ValueError, "says model_type='brt'", "Did you mean",
    ),
    "a model of no kind": (config(model_type=None), ValueError, "config.json has no model_type", "config.json"),
    "a model of its own code": (
        config(model_type="mine", auto_map={"AutoModelForSequenceClassification": "modeling_mine.Mine"}),
        ValueError, "code of its own", "`trust_remote_code`",
    ),
    "padding beyond the vocabulary": (config(pad_token_id=99), ValueError, "Could not load", "Look at its config"),
    "heads that do not share a width": (config(num_attention_heads=5), ValueError, "attention heads (5)", "config"),
    "a width that is a word": (config(hidden_size="wide"), ValueError, "hidden_size", "Look at its config.json"),
}  # fmt: skip


def larger_tokenizer():
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"new{i}" for i in range(20)])
    return tokenizer


def padded_beyond():
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(14)], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    return tokenizer


def with_nan(key: str = "bert.embeddings.word_embeddings.weight"):
    model = tiny.bert()
    with torch.no_grad():
        model.get_parameter(key).view(-1)[7] = float("nan")
    return model


def on_meta():
    with torch.device("meta"):
        return tiny.bert()


def odd_padding():
    model = tiny.bert()
    model.config.pad_token_id = 64
    return model


SCRATCH = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BUILT = "'bert' cannot be built of these settings"
OBJECTS = {
    "more tokens than rows": (
        {"processing_class": larger_tokenizer}, ValueError, "ids up to 69 ('new19'), and the embedding of this Bert",
        "has 64 rows: 6 of the 70 tokens have none. Pass the model's own tokenizer",
    ),
    "padding beyond the rows": (
        {"processing_class": padded_beyond}, ValueError, "ids up to 64 ('<padding>')", "`model.resize_token_emb",
    ),
    "a config that pads beyond the rows": (
        {"model": odd_padding}, ValueError, "says pad_token_id=64, and its embedding has 64 rows", "tokenizer's, 0",
    ),
    "not a number": ({"model": with_nan}, ValueError, "'bert.embeddings.word_embeddings.weight' holds 1", "earlier"),
    "weights that are shapes": ({"model": on_meta}, ValueError, "is on the meta device", "without `device_map`"),
    "a head for language": ({"model": lambda: BertForMaskedLM(tiny.bert().config)}, ValueError, "no head", "Pass the"),
    "settings of nothing": ({"model": {}}, ValueError, "model_type=None", "An example"),
    "a kind that is a list": ({"model": {"model_type": ["bert"]}}, ValueError, "model_type=['bert']", "An example"),
    "a mistyped setting": ({"model": SCRATCH | {"hiden_size": 3}}, ValueError, "no setting 'hiden_size'", "'hidden_"),
    "classes": ({"model": SCRATCH | {"num_labels": 2}}, ValueError, "'num_labels' follows from the data", "Leave"),
    "names of classes": ({"model": SCRATCH | {"id2label": {}}}, ValueError, "'id2label' follows from", "Leave it out"),
    "heads that do not share a width": (
        {"model": SCRATCH | {"num_attention_heads": 5}}, ValueError, BUILT, "attention heads (5)",
    ),
    "a width that is a word": ({"model": SCRATCH | {"hidden_size": "32"}}, ValueError, BUILT, "hidden_size"),
    "a width below nothing": ({"model": SCRATCH | {"hidden_size": -32}}, ValueError, BUILT, "-32"),
    "an unknown activation": ({"model": SCRATCH | {"hidden_act": "rleu"}}, ValueError, BUILT, "rleu"),
    "a vocabulary below the tokenizer's": (
        {"model": SCRATCH | {"vocab_size": 20}}, ValueError, "has 20 rows", "from scratch, leave vocab_size out",
    ),
    "settings of loading that the data decide": (
        {"model_kwargs": {"num_labels": 4}}, ValueError, "model_kwargs: 'num_labels' follows from the", "Leave",
    ),
    "a setting of loading that there is not": (
        {"model_kwargs": {"atn_implementation": "eager"}}, ValueError, "model_kwargs (atn_implementation)", "Look at",
    ),
    "a setting of loading that changes shapes": (
        {"model_kwargs": {"hidden_size": 64}}, ValueError, "(model_kwargs: hidden_size)", ONLY,
    ),
    "more layers by a setting of loading": (
        {"model_kwargs": {"num_hidden_layers": 3}}, ValueError, "its config says 3 layers, the file holds 2", ONLY,
    ),
}  # fmt: skip
