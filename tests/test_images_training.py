"""Images through the trainer: the same batches however they are read or cut; plain models that load anywhere."""

from __future__ import annotations

import json

import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset, Features, Image
from peft import LoraConfig
from PIL import Image as Pillow
from torch.utils.data import DataLoader
from transformers import (
    BertForSequenceClassification,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)

from hftransfer.data.pairing import PairedBatchSampler
from hftransfer.reporting.model_card_text import load_lines

NEWS, MEDICAL = pictures.pictures(24), pictures.pictures(18, seed=1, labelled=False, dark=True)


def trainer(folder, **settings):
    """As `runs.trainer`, on pictures."""
    settings = {"train_dataset": NEWS, "target_dataset": MEDICAL, "processing_class": pictures.processor()} | settings
    return runs.trainer(folder, **{"model": pictures.resnet(), **settings})


def batches(run, epochs=(0,), **options) -> list[dict]:
    """Training batches of some epochs; whatever else there is goes to the loader."""
    run.get_train_dataloader()  # makes the sampler
    loader = DataLoader(run.train_dataset, batch_sampler=run.pair_sampler, collate_fn=run.data_collator, **options)
    out = []
    for epoch in epochs:
        run.pair_sampler.set_epoch(epoch)
        out += list(loader)
    return out


def same(a: list[dict], b: list[dict]) -> bool:
    return all(
        x.keys() == y.keys() and all(torch.equal(torch.as_tensor(x[k]), torch.as_tensor(y[k])) for k in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("augment", ["weak", "strong"])
def test_workers_make_the_batches_that_one_process_makes(tmp_path, augment):
    settings = {"augment": augment, "augment_flip": True, "objectives": {"nt_xent": 0.03}}
    run = trainer(tmp_path, **settings)
    alone, together = batches(run, (0, 1)), batches(run, (0, 1), num_workers=2)
    assert len(alone) == 12
    assert alone[0]["pixel_values"].shape == (4 + 4 + 4, 3, 16, 16)
    assert same(alone, together)
    assert same(
        alone, batches(trainer(tmp_path, augment=augment, augment_flip=True, objectives={"nt_xent": 0.03}), (0, 1))
    )
    other = batches(trainer(tmp_path, augment=augment, augment_flip=True, objectives={"nt_xent": 0.03}, seed=1))
    assert not same(alone[:6], other)


def test_each_pass_over_a_domain_sees_a_row_otherwise(tmp_path):
    """24 source rows are one epoch; of 18 target rows, some come twice in one."""
    run = trainer(tmp_path, augment="weak")
    seen: dict[tuple[int, int], set] = {}
    run.get_train_dataloader()
    for epoch in range(3):
        run.pair_sampler.set_epoch(epoch)
        for batch in run.pair_sampler:
            x = run.data_collator(run.train_dataset.__getitems__(batch))["pixel_values"]
            for index, row in zip(batch, x, strict=True):
                seen.setdefault(divmod(index, 42)[::-1], set()).add(row.numpy().tobytes())
    assert {index for index, _ in seen} == set(range(42))
    assert {p for i, p in seen if i < 24} == {0, 1, 2}
    assert {p for i, p in seen if i >= 24} == {0, 1, 2, 3}
    assert all(len(pictures_) == 1 for pictures_ in seen.values())
    assert len(set.union(*seen.values())) == len(seen)


def test_two_processes_and_accumulation_see_what_one_process_sees(tmp_path):
    run = trainer(tmp_path, augment="strong", objectives={"nt_xent": 0.03}, per_device_train_batch_size=8)

    def updates(batch_size: int, chunks: int, processes: int) -> list[torch.Tensor]:
        sampler = PairedBatchSampler(run.train_dataset, batch_size, chunks=chunks * processes)
        sampler.set_epoch(1)
        shards = [list(BatchSamplerShard(sampler, processes, i)) for i in range(processes)]
        made = [
            [run.data_collator(run.train_dataset.__getitems__(b))["pixel_values"] for b in shard] for shard in shards
        ]
        out = []
        for update in range(sampler.updates):
            parts = [m[update * chunks + c] for c in range(chunks) for m in made]
            thirds = [torch.cat([p.chunk(3)[k] for p in parts]) for k in range(3)]  # source, target, views
            out += [third.flatten(1).sort(0).values for third in thirds]
        return out

    whole = updates(8, 1, 1)
    assert len(whole) == 9
    for cut in ((4, 1, 2), (4, 2, 1), (2, 2, 2)):
        assert all(torch.equal(a, b) for a, b in zip(whole, updates(*cut), strict=True)), cut


def test_a_text_run_draws_nothing(tmp_path):
    run = runs.trainer(tmp_path, objectives={"nt_xent": 0.03})
    batch = next(iter(run.get_train_dataloader()))
    assert len(batch["input_ids"]) == len(batch["labels"]) == 8
    assert max(max(b) for b in run.pair_sampler) < len(run.train_dataset)


def test_views_that_the_batch_brings_are_the_views(tmp_path):
    """nt_xent of a joint batch equals nt_xent of the model's features of both views, taken one by one."""
    run = trainer(tmp_path, augment="weak", objectives={"nt_xent": {"weight": 1.0, "schedule": "constant"}})
    run.model.eval()
    batch = next(iter(run.get_train_dataloader()))
    with torch.no_grad():
        losses = run.model(**batch)["losses"]
        features = []
        for part in (batch["pixel_values"][4:8], batch["pixel_values"][8:]):
            run.model.model(pixel_values=part)
            features.append(run.model.joint_forward.features.feature_hook.take({}))
        expected = run.model.objectives["nt_xent"](target_features=features[0], target_view_features=features[1])
        run.model.model(pixel_values=batch["pixel_values"][4:8])
        repeated = run.model.joint_forward.features.feature_hook.take({})
        same_view = run.model.objectives["nt_xent"](target_features=repeated, target_view_features=repeated)
    assert losses[1].item() == pytest.approx(expected.item(), abs=1e-6)
    assert abs(losses[1].item() - same_view.item()) > 1e-4


@pytest.mark.parametrize("batch_norm", ["joint", "separate"])
@pytest.mark.parametrize("objectives", [{"dann": 0.1, "nt_xent": 0.003}, {"cdan_e": 0.1, "mcc": 0.01}])
def test_objectives_train_on_images(tmp_path, batch_norm, objectives):
    evaluation = {"source": pictures.pictures(9, seed=2), "target": pictures.pictures(9, seed=3, dark=True)}
    run = trainer(tmp_path, objectives=objectives, batch_norm=batch_norm, eval_dataset=evaluation, augment="strong")
    before = runs.copied(run.model)
    run.train()
    assert runs.moved(run.model, before) == set(before)
    assert "eval_target_oracle_accuracy" in run.evaluate()


def test_a_class_that_can_be_learned_is_learned(tmp_path):
    evaluation = {"source": pictures.pictures(30, seed=2), "target": pictures.pictures(30, seed=3, dark=True)}
    run = trainer(
        tmp_path,
        train_dataset=pictures.pictures(90),
        eval_dataset=evaluation,
        max_steps=60,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
    )
    run.train()
    scores = run.evaluate()
    assert scores["eval_source_accuracy"] > 0.9
    assert scores["eval_target_oracle_accuracy"] > 0.7


# ---- from scratch, and what is saved


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_model_from_scratch_is_saved_whole_and_predicts_in_the_pipeline(tmp_path, kind):
    config = pictures.SCRATCH
    if kind == "vit":
        config = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config |= {"intermediate_size": 16, "patch_size": 8}
    run = trainer(tmp_path, model=config, processing_class=None, image_size=16, learning_rate=5e-2, max_steps=4)
    run.train()
    run.save_model()
    assert (
        json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"] == "ViTImageProcessor"
    )
    plain = (ResNetForImageClassification if kind == "resnet" else ViTForImageClassification).from_pretrained(tmp_path)
    assert plain.config.id2label == dict(enumerate(tiny.LABELS))
    if kind == "vit":
        assert plain.config.image_size == 16

    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (20, 14, 3), dtype=np.uint8)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    files = [
        pictures.png(Pillow.fromarray(noise)),
        pictures.png(Pillow.fromarray(noise[..., 0])),
        pictures.png(Pillow.fromarray(noise), "JPEG", exif=exif),
        pictures.png(Pillow.fromarray(noise).convert("CMYK"), "JPEG"),
        pictures.png(Pillow.fromarray(noise).quantize(16)),
    ]
    data = Dataset.from_dict({"image": files}).cast_column("image", Image())
    ours = torch.tensor(run.predict(data).predictions).softmax(-1).numpy()
    pipe = pipeline("image-classification", str(tmp_path))
    for row, file in enumerate(files):
        (tmp_path / "image").write_bytes(file)
        theirs = {found["label"]: found["score"] for found in pipe(str(tmp_path / "image"), top_k=3)}
        assert [theirs[name] for name in tiny.LABELS] == pytest.approx(ours[row].tolist(), abs=1e-5)


def test_the_same_seed_makes_the_same_model_from_scratch(tmp_path):
    make = lambda **kw: trainer(tmp_path, model=pictures.SCRATCH, processing_class=None, image_size=16, **kw)  # noqa: E731
    states = [make(**kw).model.model.state_dict() for kw in ({}, {}, {"seed": 7})]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_a_text_model_from_scratch_takes_its_vocabulary_from_the_tokenizer(tmp_path):
    config = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny.tokenizer().save_pretrained(tmp_path / "tokenizer")
    run = runs.trainer(
        tmp_path, model=config | {"intermediate_size": 16}, processing_class=str(tmp_path / "tokenizer")
    )
    assert isinstance(run.model.model, BertForSequenceClassification)
    assert run.model.model.config.vocab_size == len(tiny.tokenizer())
    run.train()


def test_a_checkpoint_gets_a_new_head_and_keeps_its_processor(tmp_path):
    pictures.resnet(("a", "b")).save_pretrained(tmp_path / "model")
    pictures.processor(20).save_pretrained(tmp_path / "model")
    run = trainer(tmp_path / "run", model=str(tmp_path / "model"), processing_class=None)
    assert run.model.model.config.num_labels == 3
    assert batches(run)[0]["pixel_values"].shape[2:] == (20, 20)
    smaller = trainer(tmp_path / "run", model=str(tmp_path / "model"), processing_class=None, image_size=12)
    assert batches(smaller)[0]["pixel_values"].shape[2:] == (12, 12)
    assert smaller.processing_class.size["height"] == 12


def test_the_hubs_fast_naming_loads_on_pillow(tmp_path):
    pictures.resnet().save_pretrained(tmp_path / "model")
    pictures.processor().save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "preprocessor_config.json"
    path.write_text(path.read_text().replace("ViTImageProcessor", "ViTImageProcessorFast"))
    run = trainer(tmp_path / "run", model=str(tmp_path / "model"), processing_class=None)
    assert run.processing_class.backend == "pil"


def test_the_lines_of_an_adapters_card_load_it(tmp_path):
    """PEFT has no class for image classifiers, so the lines name the base; same logits as the adapted model's."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    base = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=2))
    base.save_pretrained(tmp_path / "base")
    pictures.processor().save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, init_lora_weights=False)
    run = trainer(
        tmp_path / "run", model=str(tmp_path / "base"), processing_class=None, peft_config=lora, merge_adapter=False
    )
    run.train()
    run.save_model()
    names: dict = {}
    exec("\n".join(load_lines(run.card_facts(), str(tmp_path / "run"))), names)
    data = pictures.pictures(3, seed=8)
    ours = torch.tensor(run.predict(data).predictions).softmax(-1)
    for row, found in enumerate(names["model"](list(data["image"]), top_k=3)):
        scores = {entry["label"]: entry["score"] for entry in found}
        assert [scores[name] for name in tiny.LABELS] == pytest.approx(ours[row].tolist(), abs=1e-5)
    run.create_model_card()
    card = (tmp_path / "run" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert 'from_pretrained("path/to/the/base-model", id2label=' in card


# ---- tasks, columns, and what stands beside


@pytest.mark.parametrize("task", ["multi-label-classification", "regression"])
def test_other_tasks_than_one_label_a_row(tmp_path, task):
    labels = [[i % 3] for i in range(12)] if task.startswith("multi") else [i / 7 for i in range(12)]
    if task.startswith("multi"):
        labels = [[float(k in row) for k in range(3)] for row in labels]
    data = pictures.pictures(12).remove_columns("label").add_column("label", labels)
    names = ("0", "1", "2") if task.startswith("multi") else ("LABEL_0",)
    model = pictures.resnet(names, num_labels=len(names))
    run = trainer(tmp_path, model=model, train_dataset=data, task=task)
    run.train()
    assert run.model.model.config.problem_type == task.replace("-", "_").replace(
        "label_classification", "label_classification"
    )


def test_a_named_text_column_wins_over_images_beside_it(tmp_path):
    both = tiny.domain(24).add_column("image", ["nowhere.png"] * 24)
    run = runs.trainer(tmp_path, train_dataset=both, target_dataset=both.select(range(9)), text_column="text")
    assert run.prepared.encoder.modality == "text"
    with pytest.raises(ValueError, match="there is no file 'nowhere.png'"):
        trainer(tmp_path, train_dataset=both)


def test_few_target_labels_join_the_task(tmp_path):
    run = trainer(tmp_path, target_dataset=pictures.pictures(18, seed=1, dark=True), reveal_target_labels=2)
    labels = torch.cat([b["labels"][4:] for b in batches(run)])
    assert 0 < (labels != -100).sum() < len(labels)


def test_a_stream_of_images_trains(tmp_path):
    stream = pictures.pictures(24).to_iterable_dataset()
    run = trainer(tmp_path, train_dataset=stream, augment="weak", objectives={"nt_xent": 0.03}, max_steps=3)
    run.train()  # a target that is no stream is read as one
    assert run.state.global_step == 3


def test_a_damaged_file_is_named_when_its_batch_is_made(tmp_path):
    files = [pictures.png(image) for image in NEWS["image"]]
    files[20] = files[20][:150]
    data = Dataset.from_dict({"image": files, "label": list(NEWS["label"])}, features=Features(NEWS.features))
    with pytest.raises(ValueError, match="source row 20 is cut off or damaged"):
        batches(trainer(tmp_path, train_dataset=data))
