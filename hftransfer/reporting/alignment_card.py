"""Model card of a dual encoder: what it was made of, its scores, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .markdown import joined, table_row, table_rule
from .model_card_text import is_hub_id

MOST_NAMES = 50  # that are listed
LOADING = """\
```python
from transformers import pipeline

classifier = pipeline("zero-shot-image-classification", "{name}")
classifier("photo.jpg", candidate_labels=["cat", "dog"], hypothesis_template="a photo of a {{}}.")
```

or `VisionTextDualEncoderModel.from_pretrained` and `VisionTextDualEncoderProcessor.from_pretrained`. The pipeline says
that the model class is not on its list, and works. It takes one template; the scores below are of an ensemble."""


def alignment_card(
    name: str,
    image_encoder: str,
    text_encoder: str,
    trained: Sequence[str],
    known: int,
    settings: Mapping[str, object],
    scores: Mapping[str, Mapping[str, float]],
) -> str:
    """Text of README.md of a dual encoder.

    Args:
        name: of the model.
        image_encoder, text_encoder: Hub ids, or folders, whose paths a card does not show.
        trained: class names, or captions.
        known: how many classes of the image encoder's own were trained on too.
        settings: of the training.
        scores: `{method: {score: value}}` on test rows.

    Example:
        >>> card = alignment_card("dual", "a/vit", "b/bert", ["cat", "dog"], 0, {"loss": "clip"}, {})
        >>> card.splitlines()[2]
        'pipeline_tag: zero-shot-image-classification'
    """
    shown = joined(trained) if len(trained) <= MOST_NAMES else f"{len(trained)} captions"
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: zero-shot-image-classification\n"
        "tags:\n- hftransfer\n- vision-text-dual-encoder\n---",
        f"# {name}",
        f"Two frozen encoders, {_shown(image_encoder)} for images and {_shown(text_encoder)} for text, joined by "
        "linear projections that hftransfer trained on their features.",
        LOADING.format(name=name),
        f"Trained on: {shown}.",
    ]
    if known:
        parts.append(
            f"Besides, {known} classes of the image encoder's own classifier: a class that is new to the projections "
            "may be one that the image encoder was pretrained on."
        )
    parts.append("Settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()) + ".")
    if scores:
        columns = list(dict.fromkeys(key for row in scores.values() for key in row))
        lines = [table_row(["", *(column.replace("_", " ") for column in columns)]), table_rule(len(columns) + 1)]
        for method, row in scores.items():
            lines.append(table_row([method, *(f"{100 * row[c]:.1f} %" if c in row else "-" for c in columns)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _shown(encoder: str) -> str:
    return joined([encoder]) if is_hub_id(encoder) else "a local checkpoint"
