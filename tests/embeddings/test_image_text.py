"""Image and text encoders joined: a plain dual encoder, words for images, known classes, refusals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pictures
import pytest
import tiny
import torch
from transformers import (
    BertModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    DistilBertModel,
    MobileNetV1Config,
    MobileNetV1ForImageClassification,
    MobileNetV2Config,
    MobileNetV2Model,
    MPNetModel,
    ResNetModel,
    RobertaModel,
    SwinConfig,
    SwinModel,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTForImageClassification,
)

from hftransfer import (
    Embedder,
    ProjectionSettings,
    align_image_text,
    captioned_images,
    names_as_shots,
    zero_shot_report,
)
from hftransfer.data.row_origins import ORIGIN
from hftransfer.embeddings.image_text import align
from hftransfer.embeddings.image_text.dual_encoder import check_dual_encoder, dual_encoder
from hftransfer.embeddings.image_text.known_classes import known_classes
from hftransfer.embeddings.image_text.projections import Projections

QUICK = ProjectionSettings(steps=30, learning_rate=5e-3, ridge=0.01, evaluation_steps=10, batch_size=32)
NAMES = ("down", "up", "flat")
TEMPLATES = ("{}", "w1 {}")

LOAD = """
import json, sys
import torch
from PIL import Image
from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor, pipeline
folder, image = sys.argv[1:]
model = VisionTextDualEncoderModel.from_pretrained(folder)
processor = VisionTextDualEncoderProcessor.from_pretrained(folder)
batch = processor(text=["down", "w1 up"], images=[Image.open(image)], return_tensors="pt", padding=True)
with torch.no_grad():
    out = model(**batch)
pipe = pipeline("zero-shot-image-classification", folder)
labels = pipe(image, candidate_labels=["down", "up"], hypothesis_template="w1 {}")
print(json.dumps({
    "cosines": (out.image_embeds @ out.text_embeds.T).tolist(), "scale": out.logits_per_image.tolist(),
    "pipeline": {row["label"]: row["score"] for row in labels}, "torchvision": "torchvision" in sys.modules}))
"""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A tiny ViT, a classifier whose head reads the pooled output, and a tiny BERT."""
    root = tmp_path_factory.mktemp("encoders")
    pictures.vit().save_pretrained(root / "vit")
    torch.manual_seed(0)
    names = {0: "down, low", 1: "up", 2: "w5", 3: "w6"}
    config = MobileNetV1Config(
        depth_multiplier=0.05, min_depth=4, image_size=16, id2label=names, initializer_range=0.5
    )
    MobileNetV1ForImageClassification(config).save_pretrained(root / "mobilenet")
    for name in ("vit", "mobilenet"):
        pictures.processor().save_pretrained(root / name)
    torch.manual_seed(1)
    BertModel(tiny.bert().config).save_pretrained(root / "bert")
    tiny.tokenizer().save_pretrained(root / "bert")
    return SimpleNamespace(root=root, **{name: str(root / name) for name in ("vit", "mobilenet", "bert")})


def rows(count: int = 36, seed: int = 0):
    data = pictures.pictures(count, seed)
    return [image.convert("RGB") for image in data["image"]], [NAMES[k] for k in data["label"]]


@pytest.fixture(scope="module")
def alignment(encoders):
    return align_image_text(
        encoders.vit,
        encoders.bert,
        *rows(),
        templates=TEMPLATES,
        settings=QUICK,
        cache_dir=False,
        progress=False,
    )


def test_words_classify_images_that_were_not_trained_on(alignment):
    images, names = rows(30, seed=5)
    scores = alignment.classify(images, NAMES, TEMPLATES)
    found = np.array([NAMES[k] for k in scores.argmax(1)])
    assert (found == np.array(names)).mean() > 0.8
    np.testing.assert_allclose(np.linalg.norm(alignment.embed_images(images), axis=1), 1, atol=1e-5)


def test_features_are_what_the_encoders_pool_themselves(encoders):
    images, _ = rows(3)
    found = Embedder(encoders.vit, pooling="pooler", cache_dir=False, progress=False).transform(images)
    batch = pictures.processor()(images, return_tensors="pt")
    with torch.no_grad():
        expected = pictures.vit().eval()(**batch).pooler_output
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="leave `layer` out"):
        Embedder(encoders.vit, pooling="pooler", layer=0).fit(images)


def test_a_saved_model_is_a_plain_one_elsewhere(alignment, tmp_path, run_elsewhere):
    folder, image = tmp_path / "dual", tmp_path / "one.png"
    images, _ = rows(1, seed=3)
    images[0].save(image)
    alignment.save(folder, "card")
    assert (folder / "README.md").read_text() == "card"
    found = json.loads(run_elsewhere(LOAD, folder, image).splitlines()[-1])
    cosines = alignment.embed_images(images) @ alignment.embed_texts(["down", "w1 up"]).T
    np.testing.assert_allclose(found["cosines"], cosines, atol=1e-5)
    scale = float(alignment.projections.scale())
    np.testing.assert_allclose(found["scale"], scale * cosines, atol=1e-3)
    logits = scale * (alignment.embed_images(images) @ alignment.embed_texts(["w1 down", "w1 up"]).T)[0]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [found["pipeline"][name] for name in ("down", "up")] == pytest.approx(shares.tolist(), abs=1e-3)
    assert found["torchvision"] is False
    assert json.loads((folder / "config.json").read_text())["hftransfer"]["image_text"]["names"] == list(NAMES)
    with pytest.raises(FileExistsError):
        alignment.save(folder)


def test_a_save_that_breaks_leaves_nothing(alignment, tmp_path, monkeypatch):
    monkeypatch.setattr(VisionTextDualEncoderModel, "save_pretrained", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alignment.save(tmp_path / "dual")
    assert list(tmp_path.iterdir()) == []


def test_known_classes_are_the_rows_of_a_head_that_reads_the_pooled_output(encoders):
    names, weight, bias = known_classes(Embedder(encoders.mobilenet, pooling="pooler").extractor())
    model = MobileNetV1ForImageClassification.from_pretrained(encoders.mobilenet)
    own = model.classifier.weight.detach().numpy()
    assert names == ("down", "up", "w5", "w6")
    np.testing.assert_allclose(weight, own - own.mean(0), atol=1e-6)
    assert bias.shape == (4,)


def test_a_head_that_reads_something_else_gives_no_known_classes(encoders, tmp_path):
    assert known_classes(Embedder(encoders.vit, pooling="pooler").extractor()) is None
    config = pictures.vit().config.to_dict() | {"id2label": {0: "a", 1: "b"}}
    model = ViTForImageClassification(ViTConfig(**config))
    assert known_classes(Embedder(model, pooling="pooler", processing_class=pictures.processor()).extractor()) is None


def test_known_classes_name_classes_without_images(encoders):
    """`w5` and `w6` have no image in training; images that the classifier takes for them are found by their names."""
    images, names = rows()
    options = {"templates": ("{}",), "cache_dir": False, "progress": False}
    settings = ProjectionSettings(steps=0, ridge=0.01)
    found = align_image_text(encoders.mobilenet, encoders.bert, images, names, settings=settings, **options)
    assert found.known == 4
    _, weight, _ = known_classes(found.image_embedder.extractor())
    with torch.no_grad():
        images_of_known = found.projections.images(torch.from_numpy(weight)).numpy()
    scores = images_of_known @ found.embed_names(["down", "up", "w5", "w6"], ("{}",)).T
    assert scores.argmax(1).tolist()[2:] == [2, 3]
    without = align_image_text(
        encoders.mobilenet, encoders.bert, images, names, use_known_classes=False, settings=settings, **options
    )
    assert without.known == 0
    assert not torch.equal(without.projections.visual.weight, found.projections.visual.weight)


@pytest.mark.parametrize("preferred", [1.0, 3.0, 10.0])
def test_held_out_classes_choose_the_weight_of_known_classes(encoders, monkeypatch, preferred):
    """The start that the held-out classes find best, whichever it is."""
    images, names = rows()
    names = [f"w{i % 2 + 10}" if name == "flat" else name for i, name in enumerate(names)]
    made, stock = {}, align.ridge_projections

    def start(pairs, *settings):
        projections = stock(pairs, *settings)
        made[id(projections)] = pairs.weights.max()
        return projections

    monkeypatch.setattr(align, "ridge_projections", start)
    monkeypatch.setattr(align._Score, "__call__", lambda self, p: float(made.get(id(p)) == preferred))
    options = {"settings": ProjectionSettings(steps=0), "cache_dir": False, "progress": False, "templates": ("{}",)}
    found = align_image_text(encoders.mobilenet, encoders.bert, images, names, validation=(images, names), **options)
    assert sorted(made.values()) == [1, 3, 10]
    assert found.known_class_weight == preferred
    plain = align_image_text(encoders.mobilenet, encoders.bert, images, names, known_class_weight=preferred, **options)
    assert torch.equal(plain.projections.visual.weight, found.projections.visual.weight)


def test_held_out_classes_choose_the_step_and_all_are_trained_on(encoders, tmp_path):
    images, names = rows()
    names = [f"w{i % 2 + 10}" if name == "flat" else name for i, name in enumerate(names)]
    found = align_image_text(
        encoders.vit,
        encoders.bert,
        images,
        names,
        validation=(images, names),
        templates=TEMPLATES,
        settings=QUICK,
        folder=tmp_path,
        cache_dir=False,
        progress=False,
    )
    assert found.held_out == (names[0],)
    assert found.scores[found.step] == max(found.scores.values())
    assert found.step in (0, 10, 20, 30)
    assert set(found.names) == set(names)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.safetensors")) == ["choosing", "final"]


def test_report_has_chance_and_baselines(encoders, alignment):
    images, names = rows(30, seed=5)
    new = [name if name != "flat" else "w9" for name in names]
    report = zero_shot_report(alignment, images, new, anchors=rows(), templates=TEMPLATES)
    assert list(report) == ["chance", "local CKA, nothing trained", "aligned"]
    assert report["chance"]["new_accuracy"] == 1 / 4  # down, up, flat and w9
    assert report["chance"]["new_only_accuracy"] == 1
    seen = [k for k, name in enumerate(new) if name != "w9"]
    scores = alignment.classify([images[k] for k in seen], ["down", "up", "flat", "w9"], TEMPLATES)
    right = np.array([["down", "up", "flat", "w9"][k] for k in scores.argmax(1)]) == np.array([new[k] for k in seen])
    assert report["aligned"]["trained_accuracy"] == pytest.approx(right.mean())
    assert report["aligned"]["image_to_text_R@10_recall"] == 1


def test_captions_are_pairs_of_their_own(encoders):
    images, names = rows(24)
    captions = [f"w{i} {name}" for i, name in enumerate(names)]
    found = align_image_text(
        encoders.vit,
        encoders.bert,
        images,
        captions,
        validation=(images, captions),
        templates=None,
        settings=QUICK,
        cache_dir=False,
        progress=False,
    )
    assert found.held_out == ()
    report = zero_shot_report(found, images, captions, templates=None)
    assert set(report) == {"chance", "aligned"}
    assert report["chance"]["text_to_image_R@1_recall"] == pytest.approx(1 / 24)
    assert report["aligned"]["text_to_image_R@1_recall"] > 3 / 24


def resnet(folder):
    ResNetModel(pictures.resnet().config).save_pretrained(folder)
    pictures.processor().save_pretrained(folder)


def distilbert(folder):
    config = DistilBertConfig(vocab_size=64, dim=32, hidden_dim=32, n_layers=1, n_heads=2)
    DistilBertModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


def classifier_without_pooler(folder):
    config = pictures.vit().config.to_dict() | {"id2label": {0: "a", 1: "b"}}
    ViTForImageClassification(ViTConfig(**config)).save_pretrained(folder)
    pictures.processor().save_pretrained(folder)


@pytest.mark.parametrize(
    ("side", "make", "message"),
    [
        ("image", resnet, "ResNetModel and BertModel cannot be the two sides"),
        ("text", distilbert, "DistilBertModel has no pooled output"),
        ("image", classifier_without_pooler, "the checkpoint lacks .*pooler"),
    ],
)
def test_encoders_that_do_not_fit_are_refused_first(encoders, tmp_path, monkeypatch, side, make, message):
    make(tmp_path)
    sides = {"image": encoders.vit, "text": encoders.bert} | {side: str(tmp_path)}
    monkeypatch.setattr(Embedder, "transform", lambda *a, **k: pytest.fail("features were computed"))
    with pytest.raises(ValueError, match=message):
        align_image_text(sides["image"], sides["text"], *rows(), cache_dir=False, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": ["down"] * 5}, "there are 5 for 36 images"),
        ({"captions": ["down"] * 36}, "all are 'down'"),
        ({"captions": [0, 1] * 18}, "captions row 0: the class is the number 0, which says nothing. Give names"),
        ({"captions": ["down", None] * 18}, "captions row 1: there is no name or sentence, but None"),
        ({"held_out": ["donw"], "validation": True}, "'donw' is not among the classes"),
        ({"held_out": ["down", "up"], "validation": True}, "fewer than two classes"),
        ({"known_class_weight": 0}, "known_class_weight=0"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(encoders, change, message):
    images, names = rows()
    change = dict(change)
    captions = change.pop("captions", names)
    if change.pop("validation", False):
        change["validation"] = (images, names)
    with pytest.raises(ValueError, match=message):
        align_image_text(encoders.vit, encoders.bert, images, captions, cache_dir=False, progress=False, **change)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("labels", ["a"], "no column 'label'.*Did you mean 'labels'"),
        ("label", [3], "row 0: the class is the number 3"),
        ("label", ["7"], "row 0: the class is the number 7"),
        ("label", [" "], "row 0: 'label' holds no name"),
    ],
)
def test_columns_without_words_are_refused(column, values, message):
    from datasets import Dataset

    with pytest.raises(ValueError, match=message):
        captioned_images(Dataset.from_dict({"image": ["a.png"], column: values}))


def test_columns_that_are_no_users_are_not_named():
    from datasets import Dataset

    with pytest.raises(ValueError, match=r"its columns are 'image'\.$"):
        captioned_images(Dataset.from_dict({"image": ["a.png"], ORIGIN: [0]}))


def test_class_labels_are_read_by_name():
    images, captions = captioned_images(pictures.pictures(4))
    assert captions == ["down", "up", "flat", "down"]
    assert images.column_names == ["image"]


def test_names_are_shots_of_a_probe(alignment):
    images, names = rows(2)
    found, labels = names_as_shots(alignment, images, names, [*NAMES, "w7"], TEMPLATES)
    assert labels.tolist() == [*names, *NAMES, "w7"]
    np.testing.assert_allclose(found[:2], alignment.embed_images(images), atol=1e-6)
    np.testing.assert_allclose(found[2:], alignment.embed_names([*NAMES, "w7"], TEMPLATES), atol=1e-6)
    with pytest.raises(ValueError, match="'up' is not among the names"):
        names_as_shots(alignment, images, names, ["down"])
    with pytest.raises(ValueError, match="there are 1 for 2 images"):
        names_as_shots(alignment, images, ["down"])
    with pytest.raises(ValueError, match="labels row 0: the class is the number 0"):
        names_as_shots(alignment, images, [0, 1])


def test_a_report_needs_a_name_for_each_image(alignment):
    images, names = rows(3)
    with pytest.raises(ValueError, match="captions: there are 2 for 3 images"):
        zero_shot_report(alignment, images, names[:2], templates=TEMPLATES)
    with pytest.raises(ValueError, match="captions row 2: the class is the number 7"):
        zero_shot_report(alignment, images, [*names[:2], "7"], templates=TEMPLATES)


FAMILIES = {
    "vit": lambda: pictures.vit(),
    "mobilenet_v2": lambda: MobileNetV2Model(
        MobileNetV2Config(depth_multiplier=0.1, image_size=32, initializer_range=0.5)
    ),
    "convnext": lambda: ConvNextModel(ConvNextConfig(depths=[1, 1], hidden_sizes=[8, 12], num_stages=2)),
    "swin": lambda: SwinModel(
        SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2)
    ),
    "dinov2": lambda: Dinov2Model(
        Dinov2Config(image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ),
}
TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize("text", [BertModel, RobertaModel, MPNetModel], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("image", FAMILIES)
def test_families_that_the_page_names_make_a_dual_encoder_that_reloads(image, text, tmp_path):
    vision = FAMILIES[image]().eval()
    words = text(text.config_class(**TEXT)).eval()
    batch = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 10]]), "pixel_values": torch.rand(2, 3, 16, 16)}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        pooled = vision(pixel_values=batch["pixel_values"]).pooler_output
        spoken = words(batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
        projections = Projections(pooled.shape[1], spoken.shape[1], 6)
        embeddings = projections.images(pooled), projections.texts(spoken)
    dual_encoder(vision, words, projections).save_pretrained(tmp_path)
    check_dual_encoder(VisionTextDualEncoderModel.from_pretrained(tmp_path), batch, *embeddings)
    with pytest.raises(ValueError, match="other image embeddings"):
        check_dual_encoder(VisionTextDualEncoderModel.from_pretrained(tmp_path), batch, -embeddings[0], embeddings[1])
