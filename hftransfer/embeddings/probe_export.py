"""Export of a linear probe as a plain transformers model, whose last layer holds the probe's weights."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from transformers import PreTrainedModel

from ..data.text_encoder import WORD_MASK
from ..models.adapters import is_peft, merged_copy
from ..models.atomic_folder import new_folder
from ..models.feature_hook import FeatureHook, Head, find_head
from ..models.module_mode import module_mode
from ..models.pretrained import head_class, label_settings, load_model
from .affine_probe import AffineProbe, affine_probe
from .embedder import Embedder
from .feature_extractor import FeatureExtractor
from .frozen_backbone import FrozenBackbone

ALIKE, ALIKE_IN_HALF = 1e-4, 0.1  # by how much equal features and logits may differ, by their size
SAMPLE_ROWS = 3


def export_probe(
    probe: Any,
    output_dir: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    modality: str | None = None,
    card: str | None = None,
) -> PreTrainedModel:
    """Plain transformers model of a linear probe: `AutoModelForSequenceClassification`, `…TokenClassification` or
    `…ImageClassification`.

    Its logits are the probe's scores: `decision_function` of three classes and more; of two, the difference of the two
    logits; of a regressor, `predict`. It loads without hftransfer, works in `pipeline(...)`, and is where fine-tuning
    after a linear probe (LP-FT) starts: pass it to `AdaptationTrainer`.

    What is below the last layer of such a model is fixed by its family. So the features must be those that this layer
    reads, which is tried: `pooling="head"` always gives them; `"mean"` does in ResNet, ConvNeXt, Swin and most
    convolutional networks, `"cls"` in ViT, `"last"` in decoders, `"token"` in taggers.

    Args:
        probe: a fitted pipeline of an `Embedder` and a linear probe, with steps between them that are affine.
        output_dir: a folder that does not exist yet, for the model and its processor; written whole or not at all.
        names: of the classes in the order of the probe's `classes_`; those themselves when `None`.
        modality: `"text"` or `"image"`, of a model that reads both.
        card: text of its README.md; there is none when `None`.

    Raises:
        TypeError: no such pipeline.
        ValueError: a probe that is not linear, or a model whose last layer reads other features or has no bias.
        FileExistsError: `output_dir` exists.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> embedder = Embedder("runs/teacher", pooling="head", cache_dir=False)
        >>> probe = make_pipeline(embedder, LogisticRegression()).fit(["w1 w2", "w3", "w4"], ["up", "down", "flat"])
        >>> model = export_probe(probe, "runs/probe")
        >>> model.config.id2label
        {0: 'down', 1: 'flat', 2: 'up'}
    """
    if not isinstance(probe, Pipeline) or len(probe) < 2 or not isinstance(probe[0], Embedder):
        raise TypeError("probe must be a pipeline that starts with an Embedder: make_pipeline(Embedder(…), …).")
    extractor = probe[0].extractor()
    if len(extractor.poolings) * len(extractor.layers) > 1:
        raise ValueError("The probe reads several layers or poolings, and a model's last layer reads one.")
    read = modality or extractor.modality
    if read is None:
        raise ValueError('The model reads text and images: say which with modality="text" or "image".')
    kind = "image" if read == "image" else "tokens" if extractor.poolings == ("token",) else "text"
    frozen = extractor.backbone(kind)
    rows, batches = sample_inputs(frozen)
    with frozen.running():
        features = [frozen.pooled(batch, [row])[0].cpu() for row, batch in zip(rows, batches, strict=True)]
    affine = affine_probe(Pipeline(probe.steps[1:]), features[0].shape[1])
    labels = tuple(map(str, names)) if names is not None else affine.names or ("score",)
    if len(labels) != len(affine.bias):
        raise ValueError(f"names has {len(labels)} names, and the probe {len(affine.bias)} classes.")
    task = "token-classification" if kind == "tokens" else "sequence-classification"
    model = classifier_of(extractor, "regression" if affine.names is None else task, labels, read)
    with module_mode(model):
        head = find_head(model, batches[0])
        _write_head(model, head, affine)
        _check(model, head, affine, extractor, features, rows, batches)
    if kind != "image" and model.config.pad_token_id is None:
        model.config.pad_token_id = frozen.processing.pad_token_id
    if output_dir is not None:
        with new_folder(output_dir) as folder:
            model.save_pretrained(folder)
            extractor.processing(kind).save_pretrained(folder)
            if card is not None:
                (folder / "README.md").write_text(card, encoding="utf-8")
    return model


def sample_inputs(frozen: FrozenBackbone) -> tuple[list[dict[str, Any]], list[dict[str, torch.Tensor]]]:
    """Sample rows to compare features on, encoded, each as a batch of its own: noise, or words of the vocabulary."""
    draw = np.random.default_rng(0)
    if frozen.kind == "image":
        values: list[Any] = [draw.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(SAMPLE_ROWS)]
    else:
        tokenizer = frozen.processing
        special = set(tokenizer.all_special_tokens)
        vocabulary = sorted(token for token in tokenizer.get_vocab() if token not in special)
        words = [[tokenizer.convert_tokens_to_string([t]).strip() or "a" for t in draw.choice(vocabulary, 3 + 4 * i)]
                 for i in range(SAMPLE_ROWS)]  # fmt: skip
        values = words if frozen.kind == "tokens" else [" ".join(row) for row in words]
    rows, _ = frozen.encode(values, [f"sample {i}" for i in range(SAMPLE_ROWS)])
    return rows, [{key: value.to("cpu") for key, value in frozen.stack([row]).items()} for row in rows]


def classifier_of(extractor: FeatureExtractor, task: str, names: Sequence[str], modality: str) -> Any:
    """Model with a new head on the extractor's weights, on the CPU and in single precision.

    Args:
        extractor: of a checkpoint or a loaded model.
        task, names, modality: as in `load_model`.
    """
    if isinstance(extractor.model, str):
        return load_model(
            extractor.model, task, names, extractor.commit_or_revision, modality, quiet=True, dtype=torch.float32
        )
    source = merged_copy(extractor.model) if is_peft(extractor.model) else extractor.model
    config = copy.deepcopy(source.config)
    for name, value in label_settings(task, names).items():
        setattr(config, name, value)
    model = head_class(task, modality).from_config(config, dtype=torch.float32)
    given, prefix = source.state_dict(), f"{model.base_model_prefix}."
    own = model.state_dict()
    for name, tensor in own.items():
        value = given.get(name, given.get(name.removeprefix(prefix)))
        if value is not None and value.shape == tensor.shape:
            tensor.copy_(value)
    return model


def _at(features: torch.Tensor, row: dict[str, Any]) -> torch.Tensor:
    """(1, width), or of a tagger (words, width): positions that are read."""
    if features.ndim == 3:
        return features[torch.tensor([row[WORD_MASK]], dtype=torch.bool)]
    return features


def _write_head(model: Any, head: Head, affine: AffineProbe) -> None:
    """The probe's weights in the last layer; raises `ValueError` where they do not fit."""
    linear: Any = model.get_submodule(head.name)
    if linear.weight.shape != affine.weight.shape:
        raise ValueError(
            f"The last layer of {type(model).__name__} reads {linear.in_features} features, and the probe "
            f'{affine.weight.shape[1]}. Fit the probe on Embedder(…, pooling="head"), which is what it reads.'
        )
    if linear.bias is None and np.abs(affine.bias).max() > 1e-7 * max(1.0, float(np.abs(affine.weight).max())):
        raise ValueError(
            f"The last layer of {type(model).__name__} has no bias, and the probe has one: fit it with "
            "fit_intercept=False, without centring."
        )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(affine.weight))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(affine.bias))


def _check(
    model: Any,
    head: Head,
    affine: AffineProbe,
    extractor: FeatureExtractor,
    features: list[torch.Tensor],
    rows: list[dict[str, Any]],
    batches: list[dict[str, torch.Tensor]],
) -> None:
    """Check that the model's last layer reads the features, and that its logits are the probe's; raises
    `ValueError`."""
    limit = ALIKE if extractor.compute_dtype == torch.float32 else ALIKE_IN_HALF
    hook = FeatureHook(model, head)
    try:
        for expected, row, batch in zip(features, rows, batches, strict=True):
            with torch.no_grad():
                logits = _at(model(**batch).logits, row)
            found = _at(hook.take(batch), row)
            if found.shape != expected.shape or not _alike(found, expected, limit):
                raise ValueError(
                    f"The last layer of {type(model).__name__} ({head.name!r}) does not read "
                    f"pooling={extractor.poolings[0]!r} of layer {extractor.layers[0]}, so it cannot hold this probe. "
                    'Fit the probe on Embedder(…, pooling="head"), which is what it reads.'
                )
            if not _alike(logits, torch.from_numpy(affine.logits(found.double().numpy())), ALIKE):
                raise ValueError(f"{type(model).__name__} changes what its last layer gives: it cannot hold a probe.")
    finally:
        hook.remove()


def _alike(found: torch.Tensor, expected: torch.Tensor, limit: float) -> bool:
    return float((found - expected).abs().max()) <= limit * max(1.0, float(expected.abs().max()))
