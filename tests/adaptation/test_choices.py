"""Choices between checkpoints and sources, on tiny models: what ranks, what is shown, what is refused."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tiny
import torch
from datasets import ClassLabel, Dataset

from hftransfer import (
    Embedder,
    choose_source,
    count_parameters,
    get_transferability,
    print_choice,
    rank_checkpoints,
    relate_domains,
    save_choice,
)
from hftransfer.adaptation.source_choice import SourceChoice
from hftransfer.selection.transferability import LabelledFeatures
from hftransfer.selection.transferability.source_scores import SourceScores

QUICK = {"cache_dir": False, "progress": False, "resamples": 100}
READ = {"cache_dir": False, "progress": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two checkpoints: a small one, and a larger one that knows nothing, since all its embeddings are alike."""
    root = tmp_path_factory.mktemp("checkpoints")
    small, blind = tiny.bert(), tiny.bert(seed=1, num_hidden_layers=4)
    with torch.no_grad():
        blind.bert.embeddings.word_embeddings.weight[:] = 0.1
    for name, model in {"small": small, "blind": blind}.items():
        model.save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    return {name: str(root / name) for name in ("small", "blind")}


@pytest.fixture(scope="module")
def ranking(folders):
    return rank_checkpoints(folders, tiny.domain(60), **QUICK)


def test_the_checkpoint_that_sees_the_words_is_first(ranking, folders):
    first, second = ranking.checkpoints
    assert (first.name, second.name) == ("small", "blind")
    assert ranking.best is first
    assert first.first > 0.9
    assert first.probe_accuracy > second.probe_accuracy
    assert first.low <= first.probe_accuracy <= first.high
    assert (ranking.rows, ranking.classes) == (60, 3)


def test_scores_of_a_ranking_are_those_of_the_features(ranking, folders):
    rows = tiny.domain(60)
    features = Embedder(folders["small"], **READ).transform(rows)
    labelled = LabelledFeatures(features, [tiny.LABELS[i] for i in rows["label"]], seed=42)
    for name, value in ranking.best.scores.items():
        assert get_transferability(name).score(labelled) == pytest.approx(value), name
    assert get_transferability("probe").score(labelled) == ranking.best.probe_accuracy
    assert list(ranking.best.scores) == ["logme", "h_score", "knn"]


def test_the_size_is_always_shown(ranking, folders):
    sizes = {c.name: c.parameters for c in ranking.checkpoints}
    for name, folder in folders.items():
        loaded = tiny.bert(num_hidden_layers=2 if name == "small" else 4)
        assert sizes[name] == count_parameters(folder) == count_parameters(loaded.bert)
    assert any("the largest is blind" in note for note in ranking.tables()[0].notes)


def test_a_ranking_is_printed_and_saved(ranking, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    print_choice(ranking)
    out = capsys.readouterr().out
    assert "size" in out
    assert f"{100 * ranking.best.probe_accuracy:.1f} %" in out
    assert f"{100 * ranking.best.low:.1f}–{100 * ranking.best.high:.1f}" in out
    assert max(map(len, out.splitlines())) <= 160
    save_choice(ranking, tmp_path / "out")
    (table,) = json.loads((tmp_path / "out/choice.json").read_text())
    assert [row["checkpoint"] for row in table["rows"]] == ["small", "blind"]
    assert table["rows"][0]["probe_accuracy"] == ranking.best.probe_accuracy
    assert "<svg" in (tmp_path / "out/choice.svg").read_text()[:400]
    with pytest.raises(FileExistsError, match="exists already"):
        save_choice(ranking, tmp_path / "out")


def test_a_picture_needs_its_extra(ranking, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"hf-domain-adaptation\[plots\]"):
        save_choice(ranking, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_equal_probes_are_told_apart_by_the_next_score(folders):
    """The same checkpoint twice is a tie that nothing breaks: the first of the list is first, in all resamples."""
    ranking = rank_checkpoints({"a": folders["small"], "b": folders["small"]}, tiny.domain(30), **QUICK)
    assert [(c.name, c.first) for c in ranking.checkpoints] == [("a", 1.0), ("b", 0.0)]


def test_larger_sets_are_drawn_from_by_the_seed(folders):
    def width(**options):
        return rank_checkpoints([folders["small"]], tiny.domain(60), **QUICK | options)

    assert width(max_rows=20).rows == 20
    assert width(max_rows=None).rows == 60
    assert width(max_rows=30, seed=1) == width(max_rows=30, seed=1)


TEXTS = Dataset.from_dict({"text": [f"w{i} w{i + 1}" for i in range(20)], "label": ["up", "down"] * 10})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": []}, ValueError, "models is empty"),
        ({"models": ["x", "x"]}, ValueError, "models holds 'x' twice"),
        ({"models": ["no/such"]}, FileNotFoundError, "no/such"),
        ({"scores": ["logmee"]}, ValueError, "Did you mean 'logme'"),
        ({"scores": ["leep"]}, ValueError, "leep reads source_probabilities, which frozen features do not give"),
        ({"max_rows": 5}, ValueError, "max_rows=5 must be at least 10"),
        ({"resamples": 0}, ValueError, "resamples=0 must be"),
        ({"poling": "mean"}, TypeError, "no option 'poling'; .* Did you mean 'pooling'"),
        ({"data": TEXTS.select(range(9))}, ValueError, "data has 9 rows; 10 are needed"),
        ({"data": TEXTS.remove_columns("label")}, ValueError, "data has no column 'label'"),
        ({"data": TEXTS.to_iterable_dataset()}, ValueError, "data is a stream"),
        ({"data": "nowhere.csv"}, FileNotFoundError, "nowhere.csv"),
        ({"label_column": "lable"}, ValueError, "Did you mean 'label'"),
        ({"text_column": "a", "image_column": "b"}, ValueError, "text_column and image_column are both given"),
        (
            {"data": Dataset.from_dict({"text": ["w1"] * 20, "label": ["up"] * 20})},
            ValueError,
            "one class only",
        ),
        (
            {"data": Dataset.from_dict({"text": ["w1"] * 20, "label": [i / 3 for i in range(20)]})},
            ValueError,
            "those of regression; one class a row is needed",
        ),
    ],
)
def test_what_cannot_be_ranked_is_refused(folders, change, error, message):
    arguments = {"models": [folders["small"]], "data": TEXTS, **QUICK} | change
    with pytest.raises(error, match=message):
        rank_checkpoints(**arguments)


def words(first: int, rows: int = 60, seed: int = 0, labelled: bool = True) -> Dataset:
    """Rows whose class is a word of theirs, besides ten words that a domain may share with others."""
    draw = np.random.default_rng(seed)
    texts = [" ".join([*(f"w{first + j}" for j in draw.integers(0, 10, 6)), tiny.LABELS[i % 2]]) for i in range(rows)]
    data = Dataset.from_dict({"text": texts, "label": [tiny.LABELS[i % 2] for i in range(rows)]})
    return data if labelled else data.remove_columns("label")


SOURCES = {"same": words(0, seed=1), "other": words(20, seed=2), "third": words(10, seed=3)}


def test_the_source_that_has_the_targets_words_is_first(folders):
    choice = choose_source(folders["small"], SOURCES, words(0, labelled=False), **QUICK)
    assert choice.best == "same"
    assert choice.sources["same"].a_distance < 0.5 < choice.sources["other"].a_distance
    assert "oracle_accuracy" not in {column.name for column in choice.tables()[0].columns}
    assert choice.parameters == count_parameters(folders["small"])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        pytest.param((1.0, 0.8, 0.7), (1.2, 0.9, 0.6), "by distance a, by agreement b, by estimated accuracy a"),
        pytest.param((1.0, 0.8, 0.7), (0.9, 0.7, 0.6), "by distance b, by agreement a, by estimated accuracy a"),
        pytest.param((1.0, 0.8, 0.7), (1.2, 0.8, 0.8), "by distance a, by estimated accuracy b", id="one is equal"),
        pytest.param((1.0, None, 0.7), (1.2, None, 0.8), "by distance a, by estimated accuracy b", id="unknown"),
        pytest.param((1.0, 0.8, 0.7), (1.2, 0.8, 0.6), "", id="one is equal, and the rest agree"),
        pytest.param((1.0, 0.8, 0.7), (1.2, 0.7, 0.6), "", id="all agree"),
    ],
)
def test_criteria_that_disagree_are_said(first, second, said):
    scores = {
        name: SourceScores(rank, 0.5, 10, distance, distance, distance, agreement, accuracy, 0.9)
        for rank, (name, (distance, agreement, accuracy)) in enumerate({"a": first, "b": second}.items(), 1)
    }
    (table,) = SourceChoice(scores, target_rows=20, parameters=1000).tables()
    notes = [note for note in table.notes if note.startswith("the criteria disagree")]
    assert [note.rpartition(": ")[2] for note in notes] == [said] * bool(said)


def test_domains_whose_classes_differ_by_case_alone_are_named(folders, caplog):
    spelt = SOURCES["other"].map(lambda row: {"label": row["label"].upper()})
    with caplog.at_level("WARNING"):
        related = relate_domains(folders["small"], {"a": SOURCES["same"], "b": spelt}, **READ)
    assert related.matrices.label_overlap[0, 1] == 0
    (said,) = (r.getMessage() for r in caplog.records if "case alone" in r.getMessage())
    assert "classes of their own: 'DOWN' and 'down'; 'UP' and 'up'. Write them the same way if they are one." in said


def test_target_labels_are_oracle_alone(folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    without = choose_source(folders["small"], SOURCES, words(0, labelled=False), **QUICK)
    labelled = choose_source(folders["small"], SOURCES, words(0), **QUICK)
    assert list(labelled.sources) == list(without.sources)
    assert [s.first for s in labelled.sources.values()] == [s.first for s in without.sources.values()]
    assert labelled.sources["same"].oracle_accuracy > 0.7
    print_choice(labelled)
    out = capsys.readouterr().out
    assert "(oracle)" in out
    assert "no promise" in out


def test_labels_are_matched_by_name(folders):
    """Ids of a `ClassLabel` in another order, and a target with a class that no source has."""
    names = ["up", "down"]
    ids = [names.index(label) for label in SOURCES["same"]["label"]]
    other = (
        SOURCES["same"].remove_columns("label").add_column("label", ids).cast_column("label", ClassLabel(names=names))
    )
    target = words(0)
    strange = target.remove_columns("label").add_column("label", ["odd", *target["label"][1:]])
    choice = choose_source(folders["small"], {"a": SOURCES["same"], "b": other}, strange, **QUICK)
    assert choice.sources["a"].oracle_accuracy == choice.sources["b"].oracle_accuracy > 0.7


def test_relation_of_domains_and_its_heat_map(folders, tmp_path):
    domains = {**SOURCES, "named otherwise": SOURCES["same"].map(lambda row: {"label": f"very {row['label']}"})}
    related = relate_domains(folders["small"], domains, **READ)
    assert related.matrices.label_overlap[0].tolist() == [1, 1, 1, 0]
    assert related.matrices.a_distance[0, 1] > related.matrices.a_distance[0, 3]
    assert [table.title for table in related.tables()] == ["A-distance", "probe transfer", "label overlap"]
    save_choice(related, tmp_path / "related")
    assert len(json.loads((tmp_path / "related/choice.json").read_text())) == 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: choose_source(m, TEXTS, TEXTS), TypeError, "sources must be a dict of labelled sets by name"),
        (lambda m: choose_source(m, {}, TEXTS), ValueError, "sources is empty"),
        (lambda m: choose_source(m, {"a": TEXTS}, TEXTS.select(range(3))), ValueError, "target has 3 rows"),
        (lambda m: relate_domains(m, {"a": TEXTS}), ValueError, "one domain only"),
    ],
)
def test_what_cannot_be_chosen_is_refused(folders, make, error, message):
    with pytest.raises(error, match=message):
        make(folders["small"])
