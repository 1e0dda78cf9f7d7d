"""Model card of a pre-training: what was read, what was masked, perplexity before and after, how to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .markdown import escaped, joined, table_row, table_rule

LOADING = """\
```python
from transformers import pipeline

pipeline("fill-mask", "{repo}")("The patients received {mask}.")
```

or as the start of a task: `hftransfer finetune --model "{repo}" ...`, `AutoModelForSequenceClassification`."""
WORSE = (
    "**Perplexity on held-out texts is higher than before.** Lower the learning rate, or train for longer on more "
    "text; otherwise start from the base model."
)


def pretraining_card(
    name: str,
    base_model: str,
    texts: Mapping[str, str],
    rows: int,
    settings: Mapping[str, object],
    notes: Sequence[str],
    perplexity: tuple[float, float] | None,
    mask_token: str = "[MASK]",
    repo: str | None = None,
) -> str:
    """Text of README.md of a model that was trained on masked words.

    Args:
        name: of the model.
        base_model: Hub id of the model that training started from, or a folder.
        texts: data sets by their names in the run, such as `{"target": "medical.csv"}`.
        rows: how many rows were trained on; 0 where they were not counted.
        settings: of the training.
        notes: sentences on how it was done.
        perplexity: on held-out rows, before and after.
        mask_token: of the tokenizer.
        repo: Hub id of the model, once it has one.

    Example:
        >>> card = pretraining_card("mine", "owner/bert", {"target": "medical.csv"}, 900, {}, [], (31.0, 12.5))
        >>> card.splitlines()[2:5]
        ['pipeline_tag: fill-mask', 'base_model: owner/bert', 'tags:']
    """
    on_hub = base_model.count("/") == 1 and not base_model.startswith((".", "/", "~"))
    listed = joined([f"{spec} ({key})" if spec and spec != key else key for key, spec in texts.items()])
    counted = f", {rows:,} rows, long texts cut into several" if rows else ""
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\n"
        + (f"base_model: {base_model}\n" if on_hub else "")
        + "tags:\n- domain-adaptation\n- hftransfer\n- masked-language-modeling\n---",
        f"# {name}",
        f"{escaped(base_model) or 'A masked language model'}, trained further by hftransfer on masked words of texts "
        f"without labels: {listed}{counted}.",
        LOADING.format(repo=repo or f"your-name/{name}", mask=mask_token),
    ]
    if perplexity is not None:
        before, after = perplexity
        rows_of_table = [table_row(["", "perplexity"]), table_rule(2)]
        rows_of_table += [table_row(["before", f"{before:.2f}"]), table_row(["after", f"{after:.2f}"])]
        parts.append("Perplexity at masked words of held-out texts, masked the same way before and after:")
        parts.append("\n".join(rows_of_table))
        if after > before:
            parts.append(WORSE)
    if notes:
        parts.append("\n".join(f"- {escaped(note)}" for note in notes))
    if settings:
        parts.append("Settings: " + ", ".join(f"`{key}` {value}" for key, value in settings.items()) + ".")
    return "\n\n".join(parts) + "\n"
