"""Classifier that reads the mean over tokens, of an encoder whose own class reads the first token."""

from __future__ import annotations

from typing import Any

from torch.nn.functional import cosine_similarity

from ...models.feature_hook import find_head
from ...models.mean_pooling_layer import append_mean_pooling
from ..feature_extractor import FeatureExtractor
from ..frozen_backbone import FrozenBackbone
from ..probe_export import classifier_of, sample_inputs

ALIKE = 0.99  # cosine of what the classifier reads and of the centred mean, at least


def token_mean_classifier(extractor: FeatureExtractor, kind: str) -> Any:
    """Sequence classifier with a layer more, whose last linear layer reads the mean over tokens; see
    `append_mean_pooling`.

    Args:
        extractor: of a checkpoint or a loaded model, that pools by the mean.
        kind: of the inputs.

    Returns:
        The model, in single precision on the extractor's device; `None` where the family has no place for it, which is
        tried on a few inputs.
    """
    frozen = extractor.backbone(kind)
    rows, batches = sample_inputs(frozen)
    try:
        model = classifier_of(extractor, "sequence-classification", ("a", "b"), "text")
        append_mean_pooling(model, find_head(model, batches[0]))
    except ValueError:  # the encoder itself has been loaded: what fails is the classifier of such a family
        return None
    model.eval().to(extractor.device)
    classifier = FrozenBackbone(model, frozen.processing, kind, ("head",), (-1,), frozen.max_length)
    for row, batch in zip(rows, batches, strict=True):
        with frozen.running():
            mean = frozen.pooled(batch, [row])[0]
        with classifier.running():
            read = classifier.pooled(batch, [row])[0]
        if float(cosine_similarity(mean - mean.mean(1, keepdim=True), read).min()) < ALIKE:
            return None
    return model
