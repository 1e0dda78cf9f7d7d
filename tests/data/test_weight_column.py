"""Weight column: which column it is, what is a weight, and that it comes through encoding, pairing and streams."""

from __future__ import annotations

from itertools import islice

import pictures
import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.domain_arguments import as_domain
from hftransfer.data.domain_loading import load_domain
from hftransfer.data.image_encoder import ImageEncoder
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.pairing import PairedDataset
from hftransfer.data.streaming import PairedStream
from hftransfer.data.text_encoder import WORD_MASK, TextEncoder
from hftransfer.data.weight_column import find_weight_column, read_weights

WEIGHTS = [0.25 * i for i in range(24)]
CLASSES = LabelSpace("sequence-classification", tiny.LABELS)
TAGGING = LabelSpace("token-classification", tiny.TAGS)


def text(task: str = "sequence") -> tuple[TextEncoder, Dataset, Dataset]:
    tagging = task == "tagging"
    space, domain = (TAGGING, tiny.tagged) if tagging else (CLASSES, tiny.domain)
    return TextEncoder(tiny.tokenizer(), space), domain().add_column("weight", WEIGHTS), domain(seed=1, labelled=False)


def images(_: str = "image") -> tuple[ImageEncoder, Dataset, Dataset]:
    encoder = ImageEncoder(pictures.processor(), LabelSpace("sequence-classification", ("down", "up", "flat")))
    data, target = pictures.pictures(24), pictures.pictures(24, seed=1, labelled=False)
    return encoder, data.add_column("weight", WEIGHTS), target


KINDS = {"sequence": text, "tagging": text, "image": images}


def marks(batch: dict) -> list:
    """What tells rows of a batch apart: their inputs, without padding."""
    inputs = batch["pixel_values"] if "pixel_values" in batch else batch["input_ids"]
    return [tuple(row[row != 0].flatten().tolist()) for row in inputs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streams", ["neither", "both", "source", "target"])
def test_each_row_keeps_its_weight(kind, streams):
    """In batches of pairs from data sets and streams, whichever way rows are shuffled; target rows count 1."""
    encoder, source, target = KINDS[kind](kind)
    encoder.augmentation = None
    sources, targets = (as_domain(data, "x") for data in (source, target))
    plain = [{k: v for k, v in row.items() if k != WORD_MASK} for row in encoder.encode(sources, "source", None)]
    expected = dict(zip(marks(encoder.stack(plain, [None] * 24)), WEIGHTS, strict=True))
    if streams in ("both", "source"):
        sources = sources.to_iterable_dataset()
    if streams in ("both", "target"):
        targets = targets.to_iterable_dataset()
    rows = {"source": encoder.encode(sources, "source", "label", "weight")}
    paired = encoder.encode(targets, "target", None)
    collator = AdaptationCollator(encoder, encoder.space, weighs_rows=True)
    if streams == "neither":
        batch = collator(PairedDataset(rows, paired).__getitems__([3, 20, 7, 24, 30]))
    else:
        stream = iter(PairedStream(rows, paired, batch_size=3, seed=5))
        batch = collator([next(stream) for _ in range(3)])
    n = batch["num_source"]
    assert n == 3
    assert batch["row_weights"].dtype == torch.float32
    assert batch["row_weights"][:n].tolist() == [expected[mark] for mark in marks(batch)[:n]]
    assert batch["row_weights"][n:].eq(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_batches_have_no_weights(kind):
    encoder, source, _ = KINDS[kind](kind)
    rows = list(encoder.encode(as_domain(source, "x"), "source", "label", "weight"))[:3]
    assert "row_weights" not in AdaptationCollator(encoder, encoder.space, weighs_rows=True)(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1.0, "-1.0"), (float("nan"), "nan"), (float("inf"), "inf"), (1e39, "1e\\+39"), (None, "None")],
)
def test_what_is_no_weight_is_named_with_its_row(kind, stream, value, shown):
    encoder, source, _ = KINDS[kind](kind)
    source = source.remove_columns("weight").add_column("weight", [*WEIGHTS[:5], value, *WEIGHTS[6:]])
    source = as_domain(source.to_iterable_dataset() if stream else source, "x")
    with pytest.raises(ValueError, match=f"source row 5: 'weight' must be a number of at least 0, not {shown}"):
        list(encoder.encode(source, "source", "label", "weight"))


@pytest.mark.parametrize("kind", KINDS)
def test_all_zeros_leave_nothing_to_train_on(kind):
    encoder, source, _ = KINDS[kind](kind)
    source = source.remove_columns("weight").add_column("weight", [0.0] * 24)
    with pytest.raises(ValueError, match="source: 'weight' is 0 in all rows"):
        encoder.encode(as_domain(source, "x"), "source", "label", "weight")
    stream = encoder.encode(as_domain(source, "x").to_iterable_dataset(), "source", "label", "weight")
    with pytest.raises(ValueError, match="is 0 in all rows"):
        list(islice(PairedStream({"source": stream}, None), 30))


def test_numbers_written_as_text_are_read():
    assert read_weights(["0.5", " 2 ", 3, 1e-3], list("0123"), "weight", "source") == [0.5, 2.0, 3.0, 1e-3]
    for wrong in ("heavy", "", "nan", True):
        with pytest.raises(ValueError, match=r"source row 7 \(a.csv line 9\): 'weight' must be a number"):
            read_weights([wrong], ["7 (a.csv line 9)"], "weight", "source")


PLAIN, WEIGHTED = tiny.domain(4), tiny.domain(4).add_column("weight", [1.0] * 4)
READ = ["text", "label"]


def test_the_column_is_found_where_a_source_has_it():
    def find(setting, *sources, target=PLAIN):
        named = {f"source {i}": source for i, source in enumerate(sources)}
        return find_weight_column(setting, named, {"target_dataset": target}, READ)

    assert find(None, PLAIN) is None
    assert find(None, PLAIN, WEIGHTED) == "weight"
    assert find("none", WEIGHTED) is None
    assert find("none", WEIGHTED, target=WEIGHTED) is None
    assert find("mass", WEIGHTED.rename_column("weight", "mass")) == "mass"
    assert find(None, IterableDataset.from_generator(lambda: iter([{"text": "w1", "weight": 2}]))) == "weight"


def test_a_label_called_weight_is_no_weight():
    assert find_weight_column(None, {"source": WEIGHTED}, {}, ["text", "weight"]) is None


@pytest.mark.parametrize(
    ("setting", "source", "target", "message"),
    [
        ("wieght", WEIGHTED, PLAIN, "source has no column 'wieght' for weight_column.*Did you mean 'weight'"),
        (None, WEIGHTED, WEIGHTED, "target_dataset has a column 'weight', and so has a source: weights are of source"),
        ("label", PLAIN, PLAIN, "weight_column='label' is read as text, image or label already"),
    ],
)
def test_columns_that_are_refused(setting, source, target, message):
    with pytest.raises(ValueError, match=message):
        find_weight_column(setting, {"source": source}, {"target_dataset": target}, READ)


def test_a_csv_has_weights(tmp_path):
    """As text, with the line in messages."""
    path = tmp_path / "a.csv"
    path.write_text("text,label,weight\nw1 w2,down,0.5\nw3,up,2\n")
    encoder = text()[0]
    encoded = encoder.encode(
        as_domain(load_domain(str(path), "source")["train"], "source"), "source", "label", "weight"
    )
    assert list(encoded["row_weight"]) == [0.5, 2.0]
    path.write_text("text,label,weight\nw1 w2,down,0.5\nw3,up,\n")
    wrong = as_domain(load_domain(str(path), "source")["train"], "source")
    with pytest.raises(ValueError, match=r"source row 1 \(a.csv line 3\): 'weight' must be a number of at least 0"):
        encoder.encode(wrong, "source", "label", "weight")
