"""Soft labels: the objective, its column, where the collator places it, and what training makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from cases import array, batch, descend, make, softmax

from hftransfer import add_soft_labels
from hftransfer.data.soft_label_column import SOFT_LABELS


def distributions(rows: int, classes: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_the_definition(seed):
    given = batch(m=9, seed=seed)
    z, q = given["target_logits"], given["target_soft_labels"]
    wanted = -(array(q) * np.log(softmax(array(z)))).sum(1).mean()
    assert make("soft_labels")(z, q).item() == pytest.approx(wanted, rel=1e-5)


def test_certain_soft_labels_are_cross_entropy():
    z, labels = batch()["target_logits"], torch.tensor([0, 2, 1, 1, 0])
    value = make("soft_labels")(z, torch.nn.functional.one_hot(labels, 3).float())
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(z, labels))


def test_the_minimum_is_the_entropy_of_the_soft_labels():
    q = torch.tensor(distributions(5), dtype=torch.float32)
    moved = torch.zeros(5, 3, requires_grad=True)
    values = descend(lambda: make("soft_labels")(moved, q), [moved], 400, 0.1)
    assert values[-1] == pytest.approx(-(q * q.log()).sum(1).mean().item(), abs=1e-4)
    torch.testing.assert_close(moved.softmax(-1), q, atol=2e-3, rtol=0)


# ---- in a run


def test_a_batch_has_the_soft_labels_of_its_rows(tmp_path):
    """Each target row its own, found again by the row's text; 0 on source rows."""
    q, target = distributions(24), tiny.domain(seed=1, labelled=False)
    run = runs.trainer(tmp_path, target_dataset=add_soft_labels(target, q), objectives={"soft_labels": 1.0})
    encode = run.processing_class
    by_text = {tuple(encode(text)["input_ids"]): soft for text, soft in zip(target["text"], q, strict=True)}
    inputs = next(iter(run.get_train_dataloader()))
    n = inputs["num_source"]
    assert inputs[SOFT_LABELS].shape == (len(inputs["domain"]), 3)
    assert not inputs[SOFT_LABELS][:n].any()
    for ids, mask, soft in list(zip(inputs["input_ids"], inputs["attention_mask"], inputs[SOFT_LABELS], strict=True))[
        n:
    ]:
        np.testing.assert_allclose(soft.numpy(), by_text[tuple(ids[mask.bool()].tolist())], rtol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_in_tagging_they_stand_where_words_begin(tmp_path, side):
    target = tiny.tagged(seed=1, labelled=False)
    q = [distributions(len(words), 2, seed) for seed, words in enumerate(target["tokens"])]
    tokenizer = tiny.tokenizer()
    tokenizer.padding_side = side
    run = runs.trainer(
        tmp_path,
        model=tiny.bert(tiny.TAGS, tagging=True),
        train_dataset=tiny.tagged(),
        target_dataset=add_soft_labels(target, q),
        processing_class=tokenizer,
        objectives={"soft_labels": 1.0},
    )
    by_words = {}
    for words, soft in zip(target["tokens"], q, strict=True):
        by_words[tuple(tokenizer(words, is_split_into_words=True)["input_ids"])] = soft
    inputs = next(iter(run.get_train_dataloader()))
    for row in range(inputs["num_source"], len(inputs["domain"])):
        ids = tuple(inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist())
        begins = inputs["word_mask"][row].bool()
        np.testing.assert_allclose(inputs[SOFT_LABELS][row][begins].numpy(), by_words[ids], rtol=1e-6)
        assert not inputs[SOFT_LABELS][row][~begins].any()


def test_training_moves_predictions_towards_them(tmp_path):
    """Also where they are wrong: nothing but the soft labels says what target rows are."""
    target = tiny.domain(seed=1)
    wrong = np.full((24, 3), 0.05)
    wrong[np.arange(24), (np.array(target["label"]) + 1) % 3] = 0.9
    run = runs.trainer(
        tmp_path,
        target_dataset=add_soft_labels(target.remove_columns("label"), wrong),
        objectives={"soft_labels": 1.0},
        task_weight=0.0,
        max_steps=60,
        logging_steps=20,
    )
    run.train()
    first, *_, last = runs.logged(run, "soft_labels_loss")
    assert last < first - 0.2
    texts = run.processing_class(list(target["text"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        p = run.model.model.eval()(**texts).logits.softmax(-1).numpy()
    assert (p.argmax(1) == wrong.argmax(1)).mean() > 0.6


def test_one_process_or_chunks_give_the_same(tmp_path):
    """`forward_rows` cuts the batch, and soft labels with it."""
    target = add_soft_labels(tiny.domain(seed=1, labelled=False), distributions(24))
    whole, cut = (
        runs.trainer(tmp_path / str(rows), target_dataset=target, objectives={"soft_labels": 1.0}, forward_rows=rows)
        for rows in (None, 3)
    )
    inputs = next(iter(whole.get_train_dataloader()))
    a, b = (run.model.eval()(**inputs).losses for run in (whole, cut))
    torch.testing.assert_close(a, b)


# ---- what is refused


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (distributions(23), "23 soft labels for 24 rows"),
        (np.full((24, 3), 0.5), "row 0 must sum to 1, not to 1.5"),
        (np.tile([1.5, -0.5, 0.0], (24, 1)), "row 0 must be probabilities"),
        (np.tile([np.nan, 0.5, 0.5], (24, 1)), "row 0 must be probabilities"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        add_soft_labels(tiny.domain(labelled=False), probabilities)


def test_a_stream_has_no_row_numbers():
    with pytest.raises(ValueError, match="the target is a stream"):
        add_soft_labels(tiny.domain(labelled=False).to_iterable_dataset(), distributions(24))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            lambda rows: rows,
            r"needs a column 'soft_labels' in target_dataset: add_soft_labels\(dataset, probabilities",
        ),
        (
            lambda rows: add_soft_labels(rows, distributions(24, 4)),
            r"row 0: 'soft_labels' has shape \(4,\), .* 3 classes",
        ),
        (lambda rows: rows.add_column("soft_labels", [[0.2, 0.2, 0.2]] * 24), "row 0: 'soft_labels' must sum to 1"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(tmp_path, target, message):
    rows = tiny.domain(seed=1, labelled=False)
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, target_dataset=target(rows), objectives={"soft_labels": 1.0})


def test_words_and_soft_labels_must_be_as_many(tmp_path):
    target = tiny.tagged(seed=1, labelled=False)
    q = [distributions(len(words) + (row == 3), 2, row) for row, words in enumerate(target["tokens"])]
    with pytest.raises(
        ValueError, match="target_dataset row 3: .* words that the tokenizer keeps, and soft labels of"
    ):
        runs.trainer(
            tmp_path,
            model=tiny.bert(tiny.TAGS, tagging=True),
            train_dataset=tiny.tagged(),
            target_dataset=add_soft_labels(target, q),
            objectives={"soft_labels": 1.0},
        )
