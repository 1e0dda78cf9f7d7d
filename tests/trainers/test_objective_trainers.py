"""The trainers with one objective named for you."""

from __future__ import annotations

import pytest
import runs

from hftransfer import AdaptationTrainer, AdversarialTrainer, ContrastiveTrainer, MMDTrainer


@pytest.mark.parametrize(
    ("cls", "objectives", "parts"),
    [
        (MMDTrainer, None, ["mmd"]),
        (MMDTrainer, {"mmd": {"weight": 0.05, "kernels": 3}}, ["mmd"]),
        (AdversarialTrainer, None, ["dann"]),
        (AdversarialTrainer, {"cdan_e": 0.1}, ["cdan_e"]),
        (AdversarialTrainer, "cdan", ["cdan"]),
        (ContrastiveTrainer, None, ["supcon"]),
        (ContrastiveTrainer, {"nt_xent": 0.03}, ["nt_xent"]),
        (ContrastiveTrainer, {"near": {"kind": "supcon"}, "mmd": 0.1}, ["near", "mmd"]),
    ],
)
def test_it_trains_with_its_objective(cls, objectives, parts, tmp_path):
    run = runs.trainer(tmp_path, cls=cls, objectives=objectives)
    before = runs.copied(run.model)
    run.train()
    assert isinstance(run, AdaptationTrainer)
    assert run.model.loss_names == ["task", *parts]
    assert all(len(runs.logged(run, f"{name}_loss")) == 2 for name in run.model.loss_names)
    assert {name for name in before if name.startswith("model.")} <= runs.moved(run.model, before)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (MMDTrainer, "MMDTrainer trains with mmd, but `objectives` names nt_xent"),
        (AdversarialTrainer, "AdversarialTrainer trains with dann or cdan or cdan_e, but"),
    ],
)
def test_another_objective_is_refused(cls, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, cls=cls, objectives={"nt_xent": 0.03})
