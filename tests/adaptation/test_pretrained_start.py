"""Candidates of `adapt` that start from the backbone, pre-trained without labels on the run's own rows."""

from __future__ import annotations

import json
from pathlib import Path

import adapting
import pytest
import tiny_shift
import torch
from safetensors.torch import load_file

from hftransfer.adaptation.pretrained_start import PretrainedStarts
from hftransfer.pretraining.pretraining_trainer import PretrainingTrainer

SHORT = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "held_out": 8}
CANDIDATES = {
    "source-only": {},
    "pretrained": {"pretrain": SHORT},
    "pretrained-2": {"pretrain": SHORT, "seed": 1000},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return adapting.save_model(tmp_path_factory.mktemp("backbone") / "model")


@pytest.fixture
def pretrainings(monkeypatch):
    """Steps of pre-training that were made, one a list entry; `fail_at` stops one as a kill would."""
    made, step = [], PretrainingTrainer.training_step

    def watched(self, *args, **kwargs):
        if len(made) == made_until[0]:
            raise KeyboardInterrupt
        made.append(self.state.global_step)
        return step(self, *args, **kwargs)

    made_until = [-1]
    monkeypatch.setattr(PretrainingTrainer, "training_step", watched)
    return made, made_until


def run(backbone: str, folder: Path, candidates=None, **settings):
    return tiny_shift.run(
        backbone,
        folder,
        candidates=candidates or CANDIDATES,
        source_rows=48,
        target=tiny_shift.domain(48, 1, labelled=False),
        validation=tiny_shift.domain(40, 2),
        max_steps=2,
        **settings,
    )


def start_of(folder: Path) -> Path:
    (start,) = (folder / "_candidates").glob("_pretrained-*")
    return start


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_two_candidates_share_one_start_which_is_made_once_and_differs_from_the_backbone(
    backbone, tmp_path, pretrainings
):
    made, _ = pretrainings
    result = run(backbone, tmp_path / "out")
    assert made == [0, 1, 2, 3]
    assert {c.name for c in result.facts.candidates} >= set(CANDIDATES)
    start = start_of(tmp_path / "out")
    before, after = load_file(Path(backbone) / "model.safetensors"), load_file(start / "model.safetensors")
    name = next(name for name in after if name.endswith("layer.0.attention.self.query.weight"))
    assert not torch.equal(before[name], after[name])

    run(backbone, tmp_path / "out")  # a second call finds all that the first made
    assert len(made) == 4

    changed = {"pretrain": SHORT | {"mask_probability": 0.3}}
    run(backbone, tmp_path / "out", CANDIDATES | {name: changed for name, c in CANDIDATES.items() if "pretrain" in c})
    assert len(made) == 8
    assert start_of(tmp_path / "out") != start  # the former one is gone


def test_a_start_stays_while_a_candidate_has_it(tmp_path):
    starts = PretrainedStarts(None, tmp_path, "key")
    listed, other, unused = ({"seed": number} for number in range(3))
    for settings in (listed, other, unused):
        starts.folder_of(settings).mkdir()
    (tmp_path / "of-another-list").mkdir()
    (tmp_path / "of-another-list" / "candidate.json").write_text(json.dumps({"start": starts.folder_of(other).name}))
    starts.remove_unused([listed])
    assert starts.folder_of(listed).is_dir()
    assert starts.folder_of(other).is_dir()
    assert not starts.folder_of(unused).exists()


def test_a_start_that_was_stopped_goes_on_to_the_same_weights(backbone, tmp_path, pretrainings):
    made, until = pretrainings
    pretrain = {"pretrain": SHORT | {"save_strategy": "steps", "save_steps": 2}}
    candidates = {"source-only": {}, "pretrained": pretrain}
    run(backbone, tmp_path / "whole", candidates)
    until[0] = 7  # in the fourth of its four steps
    with pytest.raises(KeyboardInterrupt):
        run(backbone, tmp_path / "stopped", candidates)
    until[0] = -1
    run(backbone, tmp_path / "stopped", candidates)
    assert made == [0, 1, 2, 3, 0, 1, 2, 2, 3]
    assert same(start_of(tmp_path / "whole"), start_of(tmp_path / "stopped"))
    assert same(*(tmp_path / name / "_candidates" / "pretrained" for name in ("whole", "stopped")))


def test_a_damaged_start_is_made_again_for_a_candidate_that_needs_it(backbone, tmp_path, pretrainings):
    made, _ = pretrainings
    candidates = {"source-only": {}, "pretrained": {"pretrain": SHORT}}
    run(backbone, tmp_path / "out", candidates)
    weights = start_of(tmp_path / "out") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    run(backbone, tmp_path / "out", candidates)
    assert len(made) == 4  # the candidate itself is whole
    run(backbone, tmp_path / "out", CANDIDATES)
    assert len(made) == 8


def test_it_is_no_source_only_run_and_its_own_training_reads_no_target_row():
    from hftransfer.adaptation.candidate_list import read_candidates

    base, pretrained, student = read_candidates(
        {"source-only": {}, "x": {"pretrain": {}}, "y": {"pretrain": {}, "student_of": "source-only"}}
    )
    assert base.base
    assert not pretrained.base
    assert not pretrained.reads_target
    assert student.reads_target
    assert pretrained.cost > base.cost


def test_it_takes_over_how_the_run_computes_and_not_how_it_learns(backbone, tmp_path):
    from hftransfer.adaptation.pretrained_start import PretrainedStarts
    from hftransfer.adaptation.run_inputs import RunInputs

    rows = tiny_shift.domain(8, 0)
    args = tiny_shift.config(tmp_path / "out", seed=7, learning_rate=0.3, text_column="text")
    inputs = RunInputs(backbone, args, {"source": rows}, {}, rows)
    config = PretrainedStarts(inputs, tmp_path, "key").config({"mask_probability": 0.2})
    assert (config.seed, config.use_cpu, config.text_column, config.mask_probability) == (7, True, "text", 0.2)
    assert config.learning_rate != 0.3


@pytest.mark.parametrize(
    ("pretrain", "said"),
    [
        ({"mask_probability": 2}, "mask_probability"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"max_steps": "many"}, "max_steps"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_candidate_before_anything_is_trained(
    backbone, tmp_path, pretrain, said
):
    with pytest.raises((ValueError, TypeError), match=f"Candidate 'x'.*{said}"):
        run(backbone, tmp_path / "out", {"source-only": {}, "x": {"pretrain": pretrain}})
    assert not list((tmp_path / "out").glob("_candidates/*"))


def test_a_pretraining_that_made_the_model_worse_is_said_with_its_candidate(backbone, tmp_path):
    harmful = {"source-only": {}, "x": {"pretrain": SHORT | {"learning_rate": 30.0, "max_grad_norm": 1e9}}}
    run(backbone, tmp_path / "out", harmful)
    record = json.loads((tmp_path / "out" / "_candidates" / "x" / "candidate.json").read_text())
    assert any("perplexity of held-out texts worse" in finding for finding in record["findings"])
