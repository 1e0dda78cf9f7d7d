"""`adapt` with `ask` and `answers`, end to end: rows are asked for, a person answers, the model is decided anew."""

import json
import shutil
from pathlib import Path

import answer_sheets
import numpy as np
import pictures
import pytest
import tiny
import tiny_shift

from hftransfer import AdaptationTrainer, adapt
from hftransfer.adaptation.answer_training import FOLDS, TRAINED_ON

TARGET = tiny_shift.domain(240, 1, tiny_shift.FREQUENCIES)
FOLD_NAMES = [f"{TRAINED_ON}-fold-{number + 1}" for number in range(FOLDS)]


def label_of(row: int) -> str:
    return tiny.LABELS[TARGET[row]["label"]]


def turned(row: int) -> str:
    """Labels of a target where the classes have changed their names."""
    return tiny.LABELS[(TARGET[row]["label"] + 1) % 3]


@pytest.fixture(scope="module")
def model(shift_model):
    return shift_model


def run(model, folder: Path, **how):
    return tiny_shift.run(model, folder, **{"effort": "quick", "target": TARGET, "learning_rate": 4e-3} | how)


@pytest.fixture(scope="module")
def asked(model, tmp_path_factory):
    """A run that asks for 24 rows."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return run(model, folder, ask=24)


@pytest.fixture(scope="module")
def answered(model, asked, tmp_path_factory):
    """The same with answers, in a file of another folder."""
    path = tmp_path_factory.mktemp("answers") / "mine.csv"
    path.write_bytes(asked.questions.read_bytes())
    answer_sheets.fill(path, label_of)
    return run(model, asked.model, answers=path), path


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Names of the candidates that train from now on."""
    return tiny_shift.training_runs(monkeypatch)


def test_rows_are_asked_for_beside_the_model(asked):
    assert asked.questions == asked.model / "ask.csv"
    rows = answer_sheets.read(asked.questions)
    assert len({row["row"] for row in rows}) == 24
    assert {row["label"] for row in rows} == {""}
    assert all(row["text"] == TARGET[int(row["row"])]["text"] for row in rows)
    assert (asked.model / "model.safetensors").is_file()


def test_rows_that_are_asked_for_are_not_easy_ones(asked):
    """Half of them lie where the candidates are least sure."""
    stored = asked.verdicts.base.predictions
    surest = np.exp(stored.target_logits).max(1)
    rows = [int(row["row"]) for row in answer_sheets.read(asked.questions)]
    at = np.searchsorted(stored.target_rows, rows)
    assert surest[at].mean() < surest.mean()


def test_answers_are_told_of_in_result_report_and_card(answered):
    result, _ = answered
    kept = tiny_shift.result_of(result.model)
    assert kept["answers"]["count"] == 24
    assert kept["answers"]["accuracy"] == kept["estimated_accuracy"]
    assert kept["estimated_accuracy"][1] <= kept["estimated_accuracy"][0] <= kept["estimated_accuracy"][2]
    assert [c["name"] for c in kept["answers"]["comparisons"]][-1] == TRAINED_ON
    assert any("By 24 labelled target rows" in reason for reason in kept["reasons"])
    for text in ((result.model / "README.md").read_text(), result.report.read_text()):
        assert "from 24 labelled target rows" in text
        assert "compared without target labels, and then by 24" in text or "Judged without target labels, and" in text
        assert "Without labels it was estimated" in text
    assert result.estimated_accuracy == result.answers.accuracy


def test_the_estimate_is_that_of_the_weighted_answers(answered):
    result, path = answered
    rows = answer_sheets.read(path)
    m, q = np.arange(1, 25), np.array([float(row["chance"]) for row in rows])
    weights = 1 + (240 - 24) / (240 - m) * (1 / ((240 - m + 1) * q) - 1)
    base = result.verdicts.base.predictions
    at = np.searchsorted(base.target_rows, [int(row["row"]) for row in rows])
    right = [tiny.LABELS[k] == row["label"] for k, row in zip(base.target_logits[at].argmax(1), rows, strict=True)]
    assert result.answers.base_accuracy.value == pytest.approx(weights @ right / weights.sum())


def test_asking_on_trains_nothing_again_and_keeps_the_answers(model, answered, trained):
    result, path = answered
    kept, own = tiny_shift.result_of(result.model), result.model / "ask.csv"
    again = run(model, result.model, answers=path, ask=10)
    assert trained == []
    assert tiny_shift.result_of(result.model) == kept
    assert again.questions == own  # nobody has begun it: the answers are in another file
    rows = answer_sheets.read(own)
    assert len({row["row"] for row in rows}) == len(rows) == 34
    assert [row["label"] for row in rows[:24]] == [label_of(int(row["row"])) for row in rows[:24]]
    assert {row["label"] for row in rows[24:]} == {""}
    before = own.read_bytes()
    with pytest.raises(FileExistsError, match="holds 24 answers"):
        run(model, result.model, ask=10)
    assert own.read_bytes() == before


@pytest.mark.slow
def test_a_third_file_is_written_beside_the_second(model, answered, tmp_path):
    _, path = answered
    asked = run(model, tmp_path / "out", answers=path, ask=10)
    third = run(model, tmp_path / "out", answers=asked.questions, ask=5)
    assert third.questions.name == "ask-2.csv"
    assert third.answers.answers.left_out == 10
    assert len(answer_sheets.read(third.questions)) == 39


@pytest.mark.slow
def test_asking_again_trains_nothing_and_asks_the_same(model, asked, trained, tmp_path):
    folder = tmp_path / asked.model.name
    shutil.copytree(asked.model, folder)  # other tests fill the questions in
    questions = folder / asked.questions.name
    answer_sheets.write(questions, [row | {"label": ""} for row in answer_sheets.read(questions)])
    before = answer_sheets.read(questions)
    run(model, folder, ask=24)
    assert trained == []
    assert answer_sheets.read(questions) == before


@pytest.mark.slow
def test_other_answers_train_what_was_trained_on_them_alone(model, answered, trained, tmp_path):
    result, path = answered
    rows = answer_sheets.read(path)
    rows[0]["label"] = next(name for name in tiny.LABELS if name != rows[0]["label"])
    rows[5]["label"] = ""
    answer_sheets.write(tmp_path / "other.csv", rows)
    other = run(model, result.model, answers=tmp_path / "other.csv")
    assert trained == [*FOLD_NAMES, TRAINED_ON]
    assert (len(other.answers.answers), other.answers.answers.left_out) == (23, 1)


@pytest.mark.slow
def test_a_target_that_needs_them_gets_a_better_model(model, tmp_path):
    """The classes have changed their names, which nothing but answers can tell."""
    asked = run(model, tmp_path / "out", ask=60, learning_rate=1e-2)
    answer_sheets.fill(asked.questions, turned)
    result = run(model, tmp_path / "out", answers=asked.questions, learning_rate=1e-2)
    assert result.chosen == TRAINED_ON, result.reasons
    assert TRAINED_ON not in result.verdicts.judgement.refused
    assert result.verdict == "adapted"
    assert result.answers.base_accuracy.value < result.answers.accuracy.value - 0.1
    chosen, base = result.verdicts.chosen.predictions, result.verdicts.base.predictions
    truth = (np.array(TARGET["label"]) + 1) % 3
    gains = [(p.target_logits.argmax(1) == truth[p.target_rows]).mean() for p in (base, chosen)]
    assert gains[1] > gains[0] + 0.1


@pytest.mark.slow
def test_few_answers_are_not_trained_on(model, asked, tmp_path, trained):
    rows = answer_sheets.read(asked.questions)[:6]
    for row in rows:
        row["label"] = label_of(int(row["row"]))
    answer_sheets.write(tmp_path / "few.csv", rows)
    result = run(model, asked.model, answers=tmp_path / "few.csv")
    assert trained == []
    assert "Nothing is trained on fewer than 10 answers." in result.reasons
    assert result.answers.accuracy.high - result.answers.accuracy.low > 0.2


def test_bad_answers_end_the_run_before_it_trains(model, tmp_path, trained):
    (tmp_path / "ask.csv").write_text("number,text,label\n1,a,up\n")
    with pytest.raises(ValueError, match="has no column"):
        run(model, tmp_path / "out", answers=tmp_path / "ask.csv")
    assert trained == []
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("stopped_in", [TRAINED_ON, FOLD_NAMES[2]])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(model, answered, tmp_path, monkeypatch, stopped_in):
    result, path = answered
    train, names = AdaptationTrainer.train, []

    def stopping(trainer, *args, **kwargs):
        names.append(Path(trainer.args.output_dir).name)
        if names[-1] == stopped_in:
            raise KeyboardInterrupt
        return train(trainer, *args, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "mine", answers=path)
    monkeypatch.setattr(AdaptationTrainer, "train", train)
    again = run(model, tmp_path / "mine", answers=path)
    assert again.chosen == result.chosen
    assert again.answers.comparisons == result.answers.comparisons


@pytest.mark.slow
def test_images_are_asked_for_and_trained_on(tmp_path):
    target = pictures.pictures(60, seed=1, dark=True)

    def adapted(**more):
        return adapt(
            pictures.SCRATCH,
            pictures.pictures(60),
            target,
            validation=pictures.pictures(40, seed=2),
            args=tiny_shift.config(tmp_path / "out", max_steps=6, per_device_train_batch_size=8),
            processing_class=pictures.processor(),
            effort="quick",
            **more,
        )

    asked = adapted(ask=12)
    answer_sheets.fill(asked.questions, lambda row: tiny.LABELS[target[row]["label"]])
    result = adapted(answers=asked.questions)
    assert TRAINED_ON in {entry.name for entry in result.verdicts.entries}
    assert json.loads((result.model / "adaptation.json").read_text())["answers"]["count"] == 12
    assert len(list((result.model / "_ask_images").iterdir())) == 12


@pytest.mark.slow
def test_sentences_are_asked_for_and_trained_on(tmp_path):
    tiny.bert(tiny.TAGS, tagging=True).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    target = tiny.tagged(60, seed=1)

    def adapted(**more):
        return adapt(
            str(tmp_path / "model"),
            tiny.tagged(60),
            target,
            validation=tiny.tagged(40, seed=2),
            args=tiny_shift.config(tmp_path / "out", max_steps=6, per_device_train_batch_size=8),
            effort="quick",
            **more,
        )

    asked = adapted(ask=12)
    answer_sheets.fill(asked.questions, lambda row: " ".join(tiny.TAGS[tag] for tag in target[row]["label"]))
    result = adapted(answers=asked.questions)
    assert TRAINED_ON in {entry.name for entry in result.verdicts.entries}
    assert result.answers.judged == 12
    stored = result.verdicts.base.predictions
    rows = [int(row["row"]) for row in answer_sheets.read(asked.questions)]
    right = {row: stored.target_logits[stored.target_rows == row].argmax(1) == target[row]["label"] for row in rows}
    assert sum(map(len, right.values())) == sum(len(target[row]["label"]) for row in rows)
