"""Classifier that reads the mean over tokens, of an encoder whose own class reads the first token."""

from __future__ import annotations

from typing import Any

from ...models.feature_hook import find_head
from ...models.mean_pooling_layer import append_mean_pooling
from ..feature_extractor import FeatureExtractor
from ..probe_export import classifier_of, sample_inputs


def token_mean_classifier(extractor: FeatureExtractor, kind: str) -> Any:
    """Sequence classifier with a layer more, whose last linear layer reads the mean over tokens; see
    `append_mean_pooling`.

    Args:
        extractor: of a checkpoint or a loaded model.
        kind: of the inputs.

    Returns:
        The model, in single precision on the extractor's device; `None` where the family has no place for it.
    """
    batches = sample_inputs(extractor.backbone(kind))[1]
    try:
        model = classifier_of(extractor, "sequence-classification", ("a", "b"), "text")
        append_mean_pooling(model, find_head(model, batches[0]))
    except ValueError:  # the encoder itself has been loaded: what fails is the classifier of such a family
        return None
    return model.eval().to(extractor.device)
