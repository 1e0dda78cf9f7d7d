"""An adapter's folder as the model: it goes on training and resumes; what is saved of LoRA loads with its labels in a
process that knows nothing of us."""

from __future__ import annotations

import json
import shutil

import families
import pytest
import runs
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification

from hftransfer.models.adapter_folders import LABELS_FILE, adapter_labels
from hftransfer.reporting.model_card_text import load_lines

LORA = {"r": 2, "target_modules": ["query", "value"]}
PIPELINE = """
import json, sys
from transformers import pipeline
task, folder, given = sys.argv[1:]
pipe = pipeline(task, folder)
print("FOUND" + json.dumps([[e["label"], e["score"]] for e in pipe(given, top_k=None)]))
"""
LINES = """
import json, sys
folder, lines, given = sys.argv[1:]
names = {}
exec(lines, names)
print("FOUND" + json.dumps([[e["label"], e["score"]] for e in names["model"](given, top_k=None)]))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A bare backbone on disk: it knows nothing of labels."""
    folder = tmp_path_factory.mktemp("base") / "base"
    tiny.bert(initializer_range=0.5).bert.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    """A trained adapter over it, saved as one."""
    made = runs.trainer(
        tmp_path_factory.mktemp("adapter") / "run",
        str(base),
        peft_config=LoraConfig(**LORA),
        merge_adapter=False,
        processing_class=None,
    )
    made.train()
    made.save_model()
    return made


def folder_of(run):
    return str(run.args.output_dir)


def scores(run, text) -> dict[str, float]:
    inputs = run.processing_class(text, return_tensors="pt")
    with torch.no_grad():
        found = run.model.model.eval()(**inputs).logits[0].softmax(-1).tolist()
    return dict(zip(run.label_space.names, found, strict=True))


@pytest.fixture
def fresh(run_elsewhere):
    """A function from a script and its arguments to what it finds in a process that knows nothing of us."""
    return lambda *words: json.loads(run_elsewhere(*words).split("FOUND")[1].splitlines()[0])


# ---- what is saved loads, in a fresh process


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
def test_what_lora_saves_loads_with_pipeline(base, tmp_path, fresh, task_type):
    run = runs.trainer(
        tmp_path / "run",
        str(base),
        peft_config=LoraConfig(**LORA, task_type=task_type),
        processing_class=None,
        save_strategy="steps",
        save_steps=1,
    )
    run.train()
    run.save_model()
    assert (tmp_path / "run/checkpoint-2/adapter_model.safetensors").is_file()  # to resume from
    found = dict(fresh(PIPELINE, "text-classification", folder_of(run), "w1 w2 up"))
    assert found == pytest.approx(scores(run, "w1 w2 up"), abs=1e-4)
    assert not run.card_facts().adapter


def test_so_do_a_decoders_head_and_an_adapter_that_cannot_be_merged_says_so(tmp_path, caplog):
    from peft import PromptTuningConfig

    run = runs.trainer(
        tmp_path / "llama",
        families.build("llama"),
        peft_config=LoraConfig(r=2),
        processing_class=families.tokenizer(),
    )
    run.train()
    run.save_model()
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "llama")
    assert list(plain.config.id2label.values()) == list(tiny.LABELS)
    assert not (tmp_path / "llama/adapter_config.json").exists()
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    run = runs.trainer(tmp_path / "prompt", tiny.bert(), peft_config=prompt, objectives=None)
    assert "The adapter will be saved as one, not as a plain model" in caplog.text
    assert run.card_facts().adapter


def test_the_lines_of_an_adapter_load_it(adapter, fresh):
    lines = "\n".join(load_lines(adapter.card_facts(), folder_of(adapter)))
    assert dict(fresh(LINES, folder_of(adapter), lines, "w1 w2 up")) == pytest.approx(
        scores(adapter, "w1 w2 up"), abs=1e-4
    )


# ---- as the model


def test_an_adapters_folder_goes_on_training(adapter, tmp_path):
    """All of what the adapter holds, its head too, and nothing else; it starts as it was saved."""
    run = runs.trainer(tmp_path, folder_of(adapter), processing_class=None)
    text = "w1 w2 up"
    assert scores(run, text) == pytest.approx(scores(adapter, text), abs=1e-6)
    before = runs.copied(run.model.model)
    held = {n for n in before if ".lora_" in n or ".modules_to_save." in n}
    assert run.trainable.names == held
    run.train()
    assert runs.moved(run.model.model, before) == held
    run.save_model()
    again = PeftModel.from_pretrained(run.model.model.get_base_model(), tmp_path)
    assert again is not None
    assert adapter_labels(str(tmp_path)) == tiny.LABELS


def test_it_resumes_bit_for_bit(adapter, tmp_path):
    def go(folder, steps, resume=None):
        torch.manual_seed(0)
        run = runs.trainer(
            folder,
            folder_of(adapter),
            processing_class=None,
            objectives={"dann": 0.1},
            max_steps=6,
            save_strategy="steps",
            save_steps=3,
        )
        run.args.max_steps = steps
        run.train(resume_from_checkpoint=resume)
        return run

    runs.resumed_is_alike(go, tmp_path)


def test_its_labels_keep_their_places(adapter, tmp_path):
    """Rows of names, whose order would be another by themselves."""
    rows = tiny.domain()
    named = Dataset.from_dict({"text": rows["text"], "label": [tiny.LABELS[i] for i in rows["label"]]})
    run = runs.trainer(tmp_path, folder_of(adapter), processing_class=None, train_dataset=named)
    assert list(run.label_space.names) == list(tiny.LABELS) != sorted(tiny.LABELS)


def copy_of(adapter, folder, **changes):
    shutil.copytree(folder_of(adapter), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


def test_what_cannot_go_on_is_named(adapter, tmp_path):
    """An adapter beside an adapter, a base that is gone or not named, and other labels."""
    gone = copy_of(adapter, tmp_path / "gone", base_model_name_or_path="/gone/base")
    nameless = copy_of(adapter, tmp_path / "nameless", base_model_name_or_path=None)
    unsaid = copy_of(adapter, tmp_path / "unsaid")
    (unsaid / LABELS_FILE).unlink()
    pair = {"train_dataset": tiny.domain(labels=("a", "b"))}
    cases = [
        (folder_of(adapter), {"peft_config": LoraConfig(r=2)}, ValueError, "is an adapter already", "peft_config"),
        (str(gone), {}, FileNotFoundError, "an adapter over '/gone/base', and that base is not there", "is_trainable"),
        (str(nameless), {}, ValueError, "does not say of which model", "is_trainable=True"),
        (folder_of(adapter), pair, ValueError, "'a', 'b'", "rename or filter"),
        (str(unsaid), pair, ValueError, "was trained for other labels", "the data have 2 (a, b)"),
    ]
    for model, settings, error, culprit, remedy in cases:
        with pytest.raises(error) as found:
            runs.trainer(tmp_path / "new", model, processing_class=None, **settings)
        assert culprit in str(found.value)
        assert remedy in str(found.value)
    assert not (tmp_path / "new").exists()


def test_several_ways_to_say_the_head(tmp_path):
    """Open, by its full name, by its end, or through the task type: trained, and in the checkpoint."""
    for i, given in enumerate(
        [{}, {"modules_to_save": ["classifier"]}, {"modules_to_save": ["fier"]}, {"task_type": "SEQ_CLS"}]
    ):
        run = runs.trainer(tmp_path / str(i), peft_config=LoraConfig(**LORA, **given))
        head = {name for name in run.trainable.names if "classifier" in name}
        assert {name.rpartition(".")[2] for name in head} == {"weight", "bias"}


def test_a_head_may_stay_on_purpose(tmp_path):
    run = runs.trainer(tmp_path, peft_config=LoraConfig(**LORA, modules_to_save=[]))
    assert not [name for name in run.trainable.names if "classifier" in name]
