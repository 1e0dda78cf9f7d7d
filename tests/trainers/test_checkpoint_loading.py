"""What a checkpoint holds is looked at when a run goes on from it, wherever its folder has gone since."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import runs
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from hftransfer.trainers.saving.checkpoint_choice import last_good_checkpoint
from hftransfer.trainers.saving.checkpoint_files import by_age, write_list
from hftransfer.trainers.saving.output_folder import resume_hint

SAVING = {"objectives": {"dann": 0.1}, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    runs.trainer(folder, **SAVING).train()
    return folder


@pytest.fixture
def old(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def goes_on(folder, resume=True, **settings):
    run = runs.trainer(folder, **{**SAVING, "max_steps": 6, **settings})
    run.train(resume_from_checkpoint=resume)
    return run


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


def a_pickle(folder):
    torch.save({"state": Command()}, folder / "optimizer.pt")


def other_groups(folder):
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    state["param_groups"] = state["param_groups"][:1]
    torch.save(state, folder / "optimizer.pt")


def moments_of_nan(folder):
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    next(iter(state["state"].values()))["exp_avg"].fill_(torch.nan)
    torch.save(state, folder / "optimizer.pt")


def weights_of_nan(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def critic_of_inf(folder):
    weights = load_file(folder / "_adaptation_state.safetensors")
    next(w for n, w in weights.items() if n.endswith("weight")).fill_(torch.inf)
    save_file(weights, folder / "_adaptation_state.safetensors")


def no_step(folder):
    state = json.loads((folder / "trainer_state.json").read_text())
    (folder / "trainer_state.json").write_text(json.dumps(state | {"global_step": "four"}))


def no_schedule(folder):
    (folder / "scheduler.pt").unlink()


def random_states_of_another_kind(folder):
    torch.save([1, 2], folder / "rng_state.pth")


DAMAGE = {
    a_pickle: "the states of its optimizer and schedule cannot be read",
    other_groups: "a different number of parameter groups",
    moments_of_nan: "the state of its optimizer holds values that are not finite",
    weights_of_nan: "classifier.weight holds values that are not finite",
    critic_of_inf: "holds values that are not finite",
    no_step: "trainer_state.json is damaged",
    no_schedule: "scheduler.pt is missing",
    random_states_of_another_kind: "its random states cannot be read",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_what_no_digest_shows_is_named_with_the_last_whole_checkpoint(old, monkeypatch, tmp_path, damage):
    monkeypatch.chdir(tmp_path)
    damage(old / "checkpoint-4")
    write_list(old / "checkpoint-4", resumable=True)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="cannot be resumed") as found:
        goes_on(old)
    assert f"{old / 'checkpoint-4'} cannot be resumed: " in str(found.value)
    assert DAMAGE[damage] in str(found.value)
    assert f"resume_from_checkpoint={str(old / 'checkpoint-2')!r}" in str(found.value)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "unpickled").exists()
    assert goes_on(old, old / "checkpoint-2").state.global_step == 6


class Spoils(TrainerCallback):
    """What the model predicts is no number from the first step on."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.model.classifier.bias.data.fill_(torch.nan)


def test_a_run_that_breaks_at_once_does_not_call_what_it_came_from_good(old):
    run = runs.trainer(old, callbacks=[Spoils()], **SAVING | {"max_steps": 6})
    with pytest.raises(FloatingPointError) as found:
        run.train(resume_from_checkpoint=True)
    assert f"The last good checkpoint is {old / 'checkpoint-2'};" in str(found.value)
    assert f"No finite loss has followed {old / 'checkpoint-4'}" in str(found.value)


def test_a_run_that_went_back_has_its_own_last_checkpoint(old):
    """Later steps of the past that it left stay, and are not the last ones."""
    goes_on(old, max_steps=8)
    assert last_good_checkpoint(old) == str(old / "checkpoint-8")
    goes_on(old, old / "checkpoint-2", max_steps=4, learning_rate=1e-3)
    assert [path.name for path in by_age(old)] == ["checkpoint-2", "checkpoint-6", "checkpoint-8", "checkpoint-4"]
    assert f"The last checkpoint is {old / 'checkpoint-4'};" in resume_hint(old)
    run = runs.trainer(old, **SAVING | {"max_steps": 5})
    began = []
    run._load_from_checkpoint = began.append
    run.train(resume_from_checkpoint=True)
    assert began == [str(old / "checkpoint-4")]
    goes_on(old, max_steps=6, save_total_limit=2)
    assert {path.name for path in by_age(old)} == {"checkpoint-5", "checkpoint-6"}


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_the_best_of_a_run_that_was_moved_is_beside_it(tmp_path, caplog, how):
    settings = {
        "eval_dataset": {"source": tiny.domain(9, seed=7)},
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_source_loss",
        "learning_rate": 0.0,  # no later one is better
        "save_total_limit": 2,
    }
    runs.trainer(tmp_path / "old", **SAVING, **settings).train()
    how(tmp_path / "old", tmp_path / "new")
    run = goes_on(tmp_path / "new", max_steps=8, **settings)
    assert run.state.best_model_checkpoint == str(tmp_path / "new/checkpoint-2")
    assert [path.name for path in by_age(tmp_path / "new")] == ["checkpoint-2", "checkpoint-8"]
    assert "does not exist anymore" not in caplog.text


def test_another_number_of_processes_is_said(old, caplog):
    goes_on(old)
    assert "process(es)" not in caplog.text
    folder = old / "checkpoint-6"
    shutil.copy(folder / "rng_state.pth", folder / "rng_state_1.pth")
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    write_list(folder, resumable=True)
    assert goes_on(old, max_steps=7).state.global_step == 7
    assert "checkpoint-6 was written by 2 process(es) and goes on with 1" in caplog.text


@pytest.mark.parametrize("word", ["last", "checkpoint-4", "4"])
def test_a_word_that_is_no_path_is_answered_with_those_there_are(old, word):
    with pytest.raises(FileNotFoundError, match=f"{word} does not exist") as found:
        goes_on(old, word)
    assert f"{old} holds checkpoint-2, checkpoint-4. Give the path of one, or True" in str(found.value)
