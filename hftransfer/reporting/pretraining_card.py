"""Model card of a pre-training: what was read, what was masked, how well before and after, how to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .markdown import escaped, joined, table_row, table_rule


@dataclass(frozen=True)
class CardWords:
    """Words of the card of one kind of pre-training.

    Attributes:
        pipeline: tag of the Hub.
        tag: of the method, too.
        base: what a base model without a name is.
        trained: what it was trained on, before the names of the data sets.
        rows: what one should know of the rows that are counted.
        loading: how the model is loaded, with `{repo}` and `{mask}`.
        score: heading of the number that is shown.
        measured: sentence before that table.
        worse: what is said of a number that rose.
        digits: of the number, behind the point.
    """

    pipeline: str
    tag: str
    base: str
    trained: str
    rows: str
    loading: str
    score: str
    measured: str
    worse: str
    digits: int


TEXT_CARD = CardWords(
    pipeline="fill-mask",
    tag="masked-language-modeling",
    base="A masked language model",
    trained="masked words of texts without labels",
    rows=", long texts cut into several",
    loading="""\
```python
from transformers import pipeline

pipeline("fill-mask", "{repo}")("The patients received {mask}.")
```

or as the start of a task: `hftransfer finetune --model "{repo}" ...`, `AutoModelForSequenceClassification`.""",
    score="perplexity",
    measured="Perplexity at masked words of held-out texts, masked the same way before and after:",
    worse="**Perplexity on held-out texts is higher than before.** Lower the learning rate, or train for longer on "
    "more text; otherwise start from the base model.",
    digits=2,
)
SENTENCE_CARD = CardWords(
    pipeline="feature-extraction",
    tag="sentence-similarity",
    base="An encoder",
    trained="sentences of texts without labels",
    rows=", long texts cut into several",
    loading="""\
```python
from transformers import AutoModel, AutoTokenizer

model, tokenizer = AutoModel.from_pretrained("{repo}"), AutoTokenizer.from_pretrained("{repo}")
```

or as the start of a task: `hftransfer finetune --model "{repo}" ...`, `AutoModelForSequenceClassification`.""",
    score="loss",
    measured="Weighted sum of the losses on held-out texts, with the same random draws before and after:",
    worse="**The loss on held-out texts is higher than before.** Lower the learning rate, or train for longer on more "
    "text; otherwise start from the base model.",
    digits=4,
)
IMAGE_CARD = CardWords(
    pipeline="image-feature-extraction",
    tag="masked-image-modeling",
    base="A vision encoder",
    trained="masked images without labels",
    rows="",
    loading="""\
As the start of a task: `hftransfer finetune --model "{repo}" ...`, or

```python
from transformers import AutoModelForImageClassification

AutoModelForImageClassification.from_pretrained("{repo}", num_labels=2)
```

The decoder of pixels, `AutoModelForMaskedImageModeling`, is in it too.""",
    score="reconstruction loss",
    measured="Reconstruction loss (mean absolute error) at masked patches of held-out images, masked the same way "
    "before and after:",
    worse="**Reconstruction loss on held-out images is higher than before.** Lower the learning rate, or train for "
    "longer on more images; otherwise start from the base model.",
    digits=4,
)


def pretraining_card(
    name: str,
    base_model: str,
    datasets: Mapping[str, str],
    rows: int,
    settings: Mapping[str, object],
    notes: Sequence[str],
    scores: tuple[float, float] | None,
    mask_token: str = "[MASK]",
    repo: str | None = None,
    words: CardWords = TEXT_CARD,
    others: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """Text of README.md of a model that was trained on masked words or images.

    Args:
        name: of the model.
        base_model: Hub id of the model that training started from, or a folder.
        datasets: those read, by their names in the run, such as `{"target": "medical.csv"}`.
        rows: how many rows were trained on; 0 where they were not counted.
        settings: of the training.
        notes: sentences on how it was done.
        scores: on held-out rows, before and after.
        mask_token: of the tokenizer.
        repo: Hub id of the model, once it has one.
        words: of the kind of pre-training.
        others: more scores by what they are called, before and after, as text.

    Example:
        >>> card = pretraining_card("mine", "owner/bert", {"target": "medical.csv"}, 900, {}, [], (31.0, 12.5))
        >>> card.splitlines()[2:5]
        ['pipeline_tag: fill-mask', 'base_model: owner/bert', 'tags:']
    """
    on_hub = base_model.count("/") == 1 and not base_model.startswith((".", "/", "~"))
    listed = joined([f"{spec} ({key})" if spec and spec != key else key for key, spec in datasets.items()])
    counted = f", {rows:,} rows{words.rows}" if rows else ""
    parts = [
        f"---\nlibrary_name: transformers\npipeline_tag: {words.pipeline}\n"
        + (f"base_model: {base_model}\n" if on_hub else "")
        + f"tags:\n- domain-adaptation\n- hftransfer\n- {words.tag}\n---",
        f"# {name}",
        f"{escaped(base_model) or words.base}, trained further by hftransfer on {words.trained}: {listed}{counted}.",
        words.loading.format(repo=repo or f"your-name/{name}", mask=mask_token),
    ]
    if scores is not None:
        before, after = scores
        rows_of_table = [table_row(["", words.score]), table_rule(2)]
        rows_of_table += [
            table_row([when, f"{score:.{words.digits}f}"]) for when, score in (("before", before), ("after", after))
        ]
        parts.append(words.measured)
        parts.append("\n".join(rows_of_table))
        if after > before:
            parts.append(words.worse)
    if others:
        cells = [table_row([name, *pair]) for name, pair in others.items()]
        parts.append("\n".join([table_row(["besides", "before", "after"]), table_rule(3), *cells]))
    if notes:
        parts.append("\n".join(f"- {escaped(note)}" for note in notes))
    if settings:
        parts.append("Settings: " + ", ".join(f"`{key}` {value}" for key, value in settings.items()) + ".")
    return "\n\n".join(parts) + "\n"
