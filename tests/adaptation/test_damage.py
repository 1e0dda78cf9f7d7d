"""What breaks while candidates are made or handed over: damaged files, a full disk, a candidate that crashes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import recipe
import safetensors.torch
import tiny_shift

from hftransfer import AdaptationTrainer
from hftransfer.adaptation import candidate_folder
from hftransfer.adaptation.candidate_list import CandidateRecipe
from hftransfer.adaptation.candidate_maker import CandidateMaker
from hftransfer.adaptation.candidate_run import CandidateOutcome, ModelFacts
from hftransfer.adaptation.stored_predictions import StoredPredictions
from hftransfer.adaptation.working_folder import what_is_kept
from hftransfer.cli.recipe_process import run_recipe
from hftransfer.models.disk_space import DiskFullError

CANDIDATES = {"source-only": {}, "im": {"training": {"objectives": {"im": 0.1}}}}
SMALL = {"candidates": CANDIDATES, "max_steps": 3, "source_rows": 60}


def run(model: str, folder: Path, **how):
    sets = {"target": tiny_shift.domain(60, 1, labelled=False), "validation": tiny_shift.domain(60, 2)}
    return tiny_shift.run(model, folder, **sets | SMALL | how)


@pytest.fixture(scope="module")
def model(shift_model):
    return shift_model


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "mine"
    run(model, folder)
    return folder


@pytest.fixture
def mine(finished, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "mine"))


@pytest.fixture
def half(mine):
    """A copy of the finished run without its second candidate, which is to be made again."""
    shutil.rmtree(mine / "_candidates" / "im")
    return mine


@pytest.fixture
def trained(monkeypatch):
    """Names of the candidates that train from now on."""
    return tiny_shift.training_runs(monkeypatch)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path) -> None:
    """A file of the same size with other content."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def swapped(path: Path) -> None:
    """The whole file of the other candidate."""
    shutil.copyfile(path.parents[1] / "source-only" / path.name, path)


def of_another_kind(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": {"head": 3}}))


# What happens to which file of a finished candidate, and what is said of a record that can no longer be used.
DAMAGE = {
    "predictions that were cut off": (cut, "predictions.npz", None),
    "predictions of another candidate": (swapped, "predictions.npz", None),
    "predictions that are gone": (Path.unlink, "predictions.npz", None),
    "a record that was cut off": (cut, "candidate.json", "is damaged"),
    "a record of another kind": (of_another_kind, "candidate.json", "is damaged"),
    "a record that is gone": (Path.unlink, "candidate.json", ""),
    "weights that are gone": (Path.unlink, "model.safetensors", "is missing"),
    "weights that were cut off": (cut, "model.safetensors", "is damaged"),
    "weights with a flipped bit": (changed, "model.safetensors", "is damaged"),
    "weights of another candidate": (swapped, "model.safetensors", "is damaged"),
    "a config that is gone": (Path.unlink, "config.json", "is missing"),
    "a tokenizer that is gone": (Path.unlink, "tokenizer.json", "is missing"),
}


@pytest.mark.parametrize(("damage", "name", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_damaged_is_known(mine, damage, name, said):
    folder = mine / "_candidates" / "im"
    key = json.loads((folder / "candidate.json").read_text())["key"]
    assert candidate_folder.read_record(folder, key)[1] == ""
    damage(folder / name)
    record, fault = candidate_folder.read_record(folder, key)
    assert bool(record) == (said is None)
    assert fault.startswith(f"{folder / name} {said}" if said else "")
    assert bool(fault) == bool(said)
    if said is None:
        with pytest.raises(ValueError, match=r"predictions\.npz is (damaged|missing)"):
            candidate_folder.read_predictions(folder, record)


def test_damage_is_mended_by_the_next_call(model, finished, mine, trained):
    cut(mine / "_candidates" / "im" / "model.safetensors")
    swapped(mine / "_candidates" / "im" / "predictions.npz")
    (mine / "_candidates" / "source-only" / "predictions.npz").write_bytes(b"no archive")
    (mine / "_candidates" / "source-only" / "checkpoint-3").mkdir()
    run(model, mine)
    assert trained == ["im"]
    assert tiny_shift.result_of(mine) == tiny_shift.result_of(finished)
    for name in ("model.safetensors", *(f"_candidates/{c}/model.safetensors" for c in CANDIDATES)):
        assert (mine / name).read_bytes() == (finished / name).read_bytes()
    assert not list(mine.glob("_candidates/*/checkpoint-*"))


def test_other_test_rows_are_predicted_anew(model, finished, mine, trained):
    result = run(model, mine, test={"target": tiny_shift.domain(50, 8)})
    assert trained == []
    assert len(result.verdicts.base.predictions.target_test_logits) == 50
    assert tiny_shift.result_of(mine)["oracle"] != tiny_shift.result_of(finished)["oracle"]


def test_another_model_of_the_same_name_is_another_run(model, mine, tmp_path):
    other = Path(shutil.copytree(model, tmp_path / "model"))
    run(str(other), tmp_path / "out", candidates={"source-only": {}})
    changed(other / "model.safetensors")
    with pytest.raises(FileExistsError, match="other data or settings: the model differs"):
        run(str(other), tmp_path / "out", candidates={"source-only": {}})


OTHERS = {
    "learning_rate differs": {"learning_rate": 2e-3},
    "weight_decay differs": {"weight_decay": 0.0},
    "the training rows of source, labels of the training rows of source differ": {"source_rows": 59},
    "the target differs": {"target": tiny_shift.domain(61, 1, labelled=False)},
    "the validation rows of source, labels of the validation rows of source differ": {
        "validation": tiny_shift.domain(61, 2)
    },
}


@pytest.mark.parametrize(("said", "other"), OTHERS.items(), ids=OTHERS.keys())
def test_another_run_in_the_same_folder_is_told_what_differs(model, mine, trained, said, other):
    before = recipe.contents(mine)
    with pytest.raises(FileExistsError, match=f"other data or settings: {said}. Choose another output_dir"):
        run(model, mine, **other)
    assert trained == []
    assert recipe.contents(mine) == before


def test_candidates_of_a_run_that_was_replaced_are_removed_at_the_end(model, mine, monkeypatch):
    other = {"candidates": {"source-only": {}}, "max_steps": 2, "overwrite_output_dir": True}
    with monkeypatch.context() as patch:
        patch.setattr("hftransfer.adaptation.adapt.judge", full)
        with pytest.raises(DiskFullError, match=r"Kept in .*_candidates: source-only\. The same call"):
            run(model, mine, **other)
    assert (mine / "_candidates" / "im").is_dir()
    run(model, mine, **other)
    assert sorted(path.name for path in (mine / "_candidates").iterdir()) == ["run.json", "source-only"]


def test_a_record_of_the_run_that_is_gone_loses_nothing(model, mine, trained):
    (mine / "_candidates" / "run.json").write_text("{")
    with pytest.raises(FileExistsError, match="overwrite_output_dir=True"):
        run(model, mine)
    run(model, mine, overwrite_output_dir=True)
    assert trained == []


def test_candidates_of_somebody_else_are_left_alone(model, tmp_path, trained):
    notes = tmp_path / "mine" / "_candidates" / "interviews" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(FileExistsError, match="_candidates was not made by `adapt`.* Move it elsewhere"):
        run(model, tmp_path / "mine", overwrite_output_dir=True)
    assert trained == []
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [notes]


# ---- a full disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


FULL = {
    "a model": (safetensors.torch, "save_file"),
    "predictions": (np, "savez_compressed"),
    "a record": (candidate_folder, "write_whole"),
}


@pytest.mark.parametrize(
    ("module", "name"),
    [pytest.param(*how, id=what, marks=[pytest.mark.slow] * (what == "a model")) for what, how in FULL.items()],
)
def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(
    model, finished, half, monkeypatch, trained, module, name
):
    before, train = recipe.contents(half), AdaptationTrainer.train
    with monkeypatch.context() as patch:

        def filling(trainer, *args, **kwargs):
            patch.setattr(module, name, full)
            return train(trainer, *args, **kwargs)

        patch.setattr(AdaptationTrainer, "train", filling)
        with pytest.raises(DiskFullError) as found:
            run(model, half)
    said = str(found.value)
    for word in ("There is no room for", "Make room", f"Kept in {half / '_candidates'}: source-only", "The same call"):
        assert word in said
    assert "resume_from_checkpoint" not in said
    assert not [path for path in half.rglob("*") if path.name.endswith(".part") or path.name == "_writing"]
    assert {name: content for name, content in recipe.contents(half).items() if "/im/" not in name} == before
    del trained[:]
    run(model, half)
    assert trained == ["im"]
    assert tiny_shift.result_of(half) == tiny_shift.result_of(finished)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("transformers.modeling_utils.safe_save_file", id="the model"),
        pytest.param("shutil.copy2", id="the tokenizer", marks=pytest.mark.slow),
        pytest.param("hftransfer.adaptation.adapt.write_report", id="the report", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_up_while_a_model_is_handed_over_leaves_the_earlier_one(model, mine, monkeypatch, name):
    before = recipe.contents(mine)
    with monkeypatch.context() as patch:
        patch.setattr(name, full)
        with pytest.raises(
            DiskFullError, match=r"room for the model in .*All candidates are kept\..*The same call goes"
        ):
            run(model, mine)
    assert recipe.contents(mine) == before


def test_a_folder_that_cannot_be_written_to_is_said_before_training(model, tmp_path, monkeypatch, trained):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="cannot be written to. Choose another output_dir"):
        run(model, tmp_path / "mine")
    assert trained == []


# ---- a candidate that crashes, one that is of another kind


def test_a_candidate_that_crashes_is_noted_and_tried_again(model, half, monkeypatch, trained, capsys):
    candidates = CANDIDATES | {"mcc": {"training": {"objectives": {"mcc": 0.1}}}}
    compute_loss = AdaptationTrainer.compute_loss

    def crashing(trainer, *args, **kwargs):
        if Path(trainer.args.output_dir).name == "im" and trainer.state.global_step == 1:
            raise RuntimeError("the device\nis gone")
        return compute_loss(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptationTrainer, "compute_loss", crashing)
        result = run(model, half, candidates=candidates)
    assert trained == ["im", "mcc"]
    assert "im failed and is left out: the device is gone" in capsys.readouterr().out
    assert {entry.outcome.name for entry in result.verdicts.entries} == {"source-only", "mcc"}
    assert tiny_shift.result_of(half)["failed"] == {"im": "the device is gone"}
    assert "the device is gone" in result.report.read_text()
    del trained[:]
    assert not tiny_shift.result_of(half)["scores"].get("im")
    run(model, half, candidates=candidates)
    assert trained == ["im"]
    assert tiny_shift.result_of(half)["failed"] == {}


def outcome(name: str, names=("down", "up", "flat"), rows=range(6)) -> CandidateOutcome:
    draw = np.random.default_rng(0)
    rows = np.array(rows)
    target = draw.normal(size=(len(rows), 3))
    predictions = StoredPredictions(draw.normal(size=(4, 3)), np.arange(4) % 3, target, rows, np.arange(len(rows)))
    recipe_of = CandidateRecipe(name, training={} if name == "source-only" else {"objectives": "im"})
    facts = ModelFacts(list(names), [1] * len(names), "classifier", "sequence-classification", "text")
    return CandidateOutcome(recipe_of, Path(name), predictions, model=facts)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"names": ("up", "down", "flat")}, "Its classes are not those of source-only"),
        ({"rows": range(1, 7)}, "It predicts other rows than source-only: give it the same max_length"),
    ],
)
def test_a_candidate_that_cannot_be_compared_is_left_out(other, said):
    maker = CandidateMaker(None, [])
    maker._keep(outcome("source-only"))
    maker._check_rows(outcome("im"))
    with pytest.raises(ValueError, match=said):
        maker._check_rows(outcome("im", **other))


# ---- Ctrl-C


def test_the_page_shows_what_is_said_of_a_run_that_was_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_the_run, of_another = json.dumps({"run": "mine"}), json.dumps({"run": "another"})
    files = {
        "run.json": json.dumps({"key": "mine"}),
        "source-only/candidate.json": of_the_run,
        "source-only-2/candidate.json": of_the_run,
        "source-only-3/started.json": of_the_run,
        "source-only-3/checkpoint-9/x": "",
        "source-only-3/checkpoint-32/x": "",
        "mean-of-another/candidate.json": of_another,
        "student/started.json": of_the_run,
    }
    for name, content in files.items():
        path = Path("runs/mine/_candidates", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    page = (Path(__file__).parents[2] / "docs" / "adapt.md").read_text()
    assert f"hftransfer: stopped while training, step 41. {what_is_kept(Path('runs/mine'))}\n" in page


@pytest.fixture
def _listens():
    """This process hears SIGINT, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listens")
@pytest.mark.parametrize(
    "kept", [None, "source-only and checkpoint-2 of im"], ids=["before anything is saved", "in the second candidate"]
)
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(model, half, tmp_path, monkeypatch, capsys, kept):
    folder, compute_loss = tmp_path / "new" if kept is None else half, AdaptationTrainer.compute_loss

    def interrupted(trainer, *args, **kwargs):
        if trainer.state.global_step == (2 if kept else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return compute_loss(trainer, *args, **kwargs)

    monkeypatch.setattr(AdaptationTrainer, "compute_loss", interrupted)

    def job(words):
        run(model, folder, save_strategy="steps", save_steps=1)
        return 0

    assert run_recipe(job, []) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("hftransfer: stopped while training, step ")
    assert "resume_from_checkpoint" not in said
    if kept is None:
        assert said.endswith(". Nothing was saved yet.")
        assert not folder.exists()
    else:
        assert said.endswith(f". Kept in {folder / '_candidates'}: {kept}. The same call goes on from there.")
