"""A teacher with another tokenizer is asked about the same rows, in tokens of its own."""

from __future__ import annotations

import numpy as np
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from hftransfer import AdaptationTrainer, Objective, transplant
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.text_encoder import TextEncoder
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.step.objective_inputs import pick_words

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Listener(Objective):
    """Keeps what it is told."""

    def forward(self, teacher_logits, teacher_target_features, logits):
        self.heard = teacher_logits, teacher_target_features, logits
        return logits.sum() * 0


def spelling() -> BertTokenizer:
    """Letters and digits alone: words are longer than to `tiny.tokenizer`, which knows them whole."""
    characters = "0123456789" + "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]", *characters, *(f"##{c}" for c in characters)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, model_max_length=512)


def turned() -> BertTokenizer:
    """The tokens of `tiny.tokenizer` in another order."""
    words = [*reversed([*tiny.WORDS, *tiny.LABELS, "##x", "##y"]), "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[PAD]"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)


def speller(labels=tiny.LABELS, tagging: bool = False, positions: int = 128):
    return tiny.bert(labels, tagging, vocab_size=77, max_position_embeddings=positions, pad_token_id=3, **STILL)


def saved(folder, model, tokenizer) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run_on(folder, model, tokenizer, train=None, target=None, evaluation=None, **settings) -> AdaptationTrainer:
    target = tiny.domain(seed=1, labelled=False) if target is None else target
    args = runs.config(folder, **{"objectives": {"distill_logits": 1.0}} | settings)
    return AdaptationTrainer(model, args, train or tiny.domain(), target, evaluation, tokenizer)


def teacher_folder(folder, tagging: bool = False, **config) -> str:
    labels = tiny.TAGS if tagging else tiny.LABELS
    return saved(folder, tiny.bert(labels, tagging, seed=5, initializer_range=0.3, **config), tiny.tokenizer())


# ---- what the teacher is given


def test_each_teacher_reads_the_batch_with_its_own_tokenizer(tmp_path, monkeypatch):
    """One with other tokens, one with the model's, another with other tokens: words spelled out, and back to words."""
    monkeypatch.setitem(REGISTRY, "listener", Listener)
    names = [
        teacher_folder(tmp_path / "words"),
        saved(tmp_path / "same", speller(), spelling()),
        teacher_folder(tmp_path / "more", num_hidden_layers=1),
    ]
    run = run_on(tmp_path / "run", speller(), spelling(), objectives={"listener": 1.0}, teacher=names)
    batch = next(iter(run.get_train_dataloader()))
    run.model.train()(**batch)
    heard, features, own = run.model.objectives["listener"].heard
    texts = spelling().batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert all(set(text.split()) <= {*tiny.WORDS, *tiny.LABELS} for text in texts)
    assert batch["tokenization0_input_ids"].shape[1] < batch["input_ids"].shape[1]
    for name, said, found in zip(names, heard, features, strict=True):
        model, tokenizer = (
            AutoModelForSequenceClassification.from_pretrained(name),
            AutoTokenizer.from_pretrained(name),
        )
        with torch.no_grad():
            expected = model.eval()(**tokenizer(texts, padding=True, return_tensors="pt"), output_hidden_states=True)
        torch.testing.assert_close(said, expected.logits)
        assert found.shape == (4, 32)  # of the four target rows
        torch.testing.assert_close(model.classifier(found), said[4:])
    assert heard[1].shape == own.shape
    assert not any(key.startswith("tokenization1") for key in batch)


def test_a_word_is_the_same_word_to_both(tmp_path, monkeypatch):
    """In tagging, features and logits are of the first sub-words, wherever a tokenizer has put them."""
    monkeypatch.setitem(REGISTRY, "listener", Listener)
    name = teacher_folder(tmp_path / "words", tagging=True)
    data = tiny.tagged(), tiny.tagged(seed=1, labelled=False)
    model = speller(tiny.TAGS, True)
    run = run_on(tmp_path / "run", model, spelling(), *data, objectives={"listener": 1.0}, teacher=name)
    batch = next(iter(run.get_train_dataloader()))
    run.model.train()(**batch)
    heard, _, own = run.model.objectives["listener"].heard
    words = [text.split() for text in spelling().batch_decode(batch["input_ids"], skip_special_tokens=True)]
    encoded = tiny.tokenizer()(words, is_split_into_words=True, padding=True, return_tensors="pt")
    mask = torch.zeros_like(encoded["input_ids"])
    for i in range(len(words)):
        ids = encoded.word_ids(i)
        for k, word in enumerate(ids):
            mask[i, k] = word is not None and word != ids[k - 1]
    assert torch.equal(mask.sum(1), batch["word_mask"].sum(1))
    assert not torch.equal(mask, batch["word_mask"][:, : mask.shape[1]])
    teacher = run.model.teachers.all[0].model
    with torch.no_grad():
        torch.testing.assert_close(heard[0], pick_words(teacher(**encoded).logits, mask))
    assert heard[0].shape == own.shape


OBJECTIVES = [{"distill_logits": 1.0}, {"distill_features": 1.0}, {"rkd": 1.0}, {"lwf": 1.0}]


@pytest.mark.parametrize(
    ("objective", "tagging"),
    [*((one, False) for one in [*OBJECTIVES, {"co_tuning": 1.0}]), *((one, True) for one in OBJECTIVES)],
)
def test_the_order_of_a_vocabulary_changes_nothing(objective, tagging, tmp_path):
    """A student that is its teacher but for the numbers of its tokens trains as one with the teacher's: only the way
    the teacher is fed is another. What names a distance starts at 0."""
    labels, make = (tiny.TAGS, tiny.tagged) if tagging else (tiny.LABELS, tiny.domain)
    data = make(), make(seed=1, labelled=False), {"target": make(seed=2)}
    teacher = saved(tmp_path / "t", tiny.bert(labels, tagging, initializer_range=0.3, **STILL), tiny.tokenizer())
    (name,) = objective
    seen = []
    for tokenizer in (tiny.tokenizer(), turned()):
        student = transplant(teacher, tokenizer=tokenizer).model
        settings = {"teacher": teacher, "objectives": objective, "max_steps": 3}
        run = run_on(tmp_path / "run", student, tokenizer, *data, **settings)
        assert len(run.prepared.teacher_encoders) == (len(seen) > 0)
        run.train()
        seen.append([*runs.logged(run, f"{name}_loss"), run.evaluate()["eval_target_entropy"]])
        assert run.predict(run.eval_dataset["target"]).predictions.shape[0] == len(data[1])
    np.testing.assert_allclose(*seen, rtol=1e-3, atol=1e-6)
    assert abs(seen[1][0]) < 1e-6 or name in ("lwf", "co_tuning")  # which are cross-entropies
    assert seen[1][2] > 1e-4
    run.save_model(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").get_vocab() == turned().get_vocab()


def test_streams_and_chunks(tmp_path):
    """Nothing but the way rows arrive is different: the same loss as from rows on disk."""
    name, seen = teacher_folder(tmp_path / "t"), []
    data = tiny.domain(), tiny.domain(seed=1, labelled=False)
    for i, settings in enumerate(({}, {"forward_rows": 3})):
        run = run_on(tmp_path / f"run{i}", speller(), spelling(), *data, teacher=name, **settings)
        run.train()
        seen.append(runs.logged(run, "distill_logits_loss"))
    np.testing.assert_allclose(*seen, rtol=1e-5)
    stream = [part.to_iterable_dataset() for part in data]
    run = run_on(tmp_path / "stream", speller(), spelling(), *stream, teacher=name)
    run.train()
    assert min(runs.logged(run, "distill_logits_loss")) > 0


def test_a_student_of_other_tokens_comes_nearer_its_teacher(tmp_path):
    name = teacher_folder(tmp_path / "t")
    run = run_on(
        tmp_path / "run",
        speller(),
        spelling(),
        teacher=name,
        max_steps=40,
        task_weight=0.0,
        per_device_train_batch_size=8,
    )
    run.train()
    values = runs.logged(run, "distill_logits_loss")
    assert np.mean(values[-5:]) < 0.6 * np.mean(values[:5])


def test_a_row_is_cut_where_either_ends(tmp_path):
    """max_length holds for both, each in its own tokens; without, the teacher's positions do."""
    for given, longest, theirs in ((None, 128, 64), (20, 20, 20)):
        run = run_on(
            tmp_path / f"run{given}", speller(), spelling(), teacher=teacher_folder(tmp_path / "t"), max_length=given
        )
        assert run.prepared.encoder.max_length == longest
        assert run.prepared.teacher_encoders[0].max_length == theirs


def test_a_word_that_only_the_teacher_reads_is_passed_over():
    """Word pieces make nothing of a zero-width space, bytes make three tokens of it."""
    alphabet = {letter: i for i, letter in enumerate(["<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bytes_ = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>")
    space = LabelSpace("token-classification", tiny.TAGS)
    both = TextEncoder(tiny.tokenizer(), space).with_tokenizers({0: TextEncoder(bytes_, space)})
    rows = both.encode(Dataset.from_dict({"tokens": [["w1", "\u200b", "w2"], ["w3"]]}), "source", None)
    batch = both.stack([{k: v for k, v in row.items() if k != "word_mask"} for row in rows], [None, None])
    assert rows["word_mask"][0] == [0, 1, 1, 0]
    # a space and two letters, a space and the three bytes of U+200B, a space and two letters
    expected = [[1, 0, 0, 0, 0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert batch["tokenization0_word_mask"].tolist() == expected


# ---- what is refused


def words_of(count: int) -> Dataset:
    return Dataset.from_dict({"tokens": [["w1"] * count] * 4, "label": [[0, 1] * (count // 2)] * 4})


BAD = {
    "attention": (
        lambda d: {"objectives": {"distill_attention": 1.0}},
        "and distill_attention compares them token by token",
    ),
    "layers": (lambda d: {"objectives": {"delta": 0.1}}, "and delta compares them token by token"),
    "words to fit to": (
        lambda d: {
            "objectives": {"co_tuning": 1.0},
            "teacher": teacher_folder(d / "tags", True),
            "model": speller(tiny.TAGS, True),
            "train": tiny.tagged(),
            "target": tiny.tagged(seed=1, labelled=False),
        },
        "and co_tuning compares them token by token",
    ),
    "fewer words": (
        lambda d: {
            "teacher": saved(d / "tags", tiny.bert(tiny.TAGS, True, max_position_embeddings=8), tiny.tokenizer()),
            "model": speller(tiny.TAGS, True),
            "train": words_of(10),
            "target": tiny.tagged(seed=1, labelled=False),
        },
        "source row 0: the model reads 10 words and the teacher, cut at 8 tokens, only 6 of them",
    ),
    "nowhere": (lambda d: {"teacher": "./nowhere"}, "no folder './nowhere'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(case, tmp_path):
    make, message = BAD[case]
    given = {"teacher": teacher_folder(tmp_path / "t"), "model": speller(), **make(tmp_path)}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_on(tmp_path / "run", given.pop("model"), spelling(), **given)
    assert not (tmp_path / "run").exists()
