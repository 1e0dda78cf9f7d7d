"""What `adapt` is given and cannot use: one message with culprit and remedy, nothing trained, nothing written."""

from __future__ import annotations

import pytest
import tiny_shift
from bad_adaptations import (
    ADAPT_ARGUMENTS,
    ADAPT_CANDIDATES,
    ADAPT_DATA,
    CANDIDATE_FILES,
    SOURCE,
    TARGET,
    VALIDATION,
)

from hftransfer import AdaptationTrainer, adapt, load_shift
from hftransfer.adaptation.candidate_list import read_candidates

CASES = ADAPT_DATA | ADAPT_ARGUMENTS | ADAPT_CANDIDATES


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch):
    def train(*args, **kwargs):
        raise AssertionError("It was trained before it was refused.")

    monkeypatch.setattr(AdaptationTrainer, "train", train)


def refused(tmp_path, model_folder, given, error):
    folder = tmp_path / "out"
    usual = {
        "model": model_folder,
        "source": SOURCE,
        "target": TARGET,
        "output_dir": folder,
        "validation": VALIDATION,
        "args": tiny_shift.config(folder),
    }
    with pytest.raises(error) as found:
        adapt(**usual | given)
    assert not folder.exists()
    return str(found.value)


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_what_cannot_be_is_said_at_once(tmp_path, model_folder, monkeypatch, given, error, culprit, remedy):
    monkeypatch.chdir(tmp_path)
    said = refused(tmp_path, model_folder, given, error)
    assert culprit in said
    assert remedy in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("content", "error", "culprit", "remedy"), CANDIDATE_FILES.values(), ids=CANDIDATE_FILES.keys()
)
def test_a_file_of_candidates_that_cannot_be_read_is_named(tmp_path, content, error, culprit, remedy):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error) as found:
        read_candidates(path)
    for word in ("mine.yaml", culprit, remedy):
        assert word in str(found.value)


def test_names_that_yaml_reads_as_numbers_are_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source-only: {}\n2: {seed: 2}\n3: {seed: 3}\nmean: {mean_of: [2, 3]}\nstudent: {student_of: 2}\n")
    recipes = {recipe.name: recipe for recipe in read_candidates(path)}
    assert recipes["mean"].mean_of == ("2", "3")
    assert recipes["student"].student_of == "2"


def test_the_model_is_not_replaced_by_what_is_made_of_it(model_folder, tmp_path):
    with pytest.raises(ValueError, match="model and output_dir are both .* Choose another output_dir"):
        adapt(model_folder, SOURCE, TARGET, model_folder, validation=VALIDATION, args=tiny_shift.config(tmp_path))


def test_splits_beside_domains_that_have_their_own_are_refused(tmp_path, model_folder):
    domains = load_shift({"source": "sample"}, "sample")
    said = refused(tmp_path, model_folder, {"source": domains, "target": domains.target}, ValueError)
    assert "source holds validation and test splits of its own" in said
