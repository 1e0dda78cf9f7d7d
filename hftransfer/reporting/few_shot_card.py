"""Model card of a classifier from a few labelled rows: what it was made of, how well it does, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..messages import redacted, redacted_values
from .markdown import Markup, escaped, joined, table_row, table_rule
from .model_card_text import is_hub_id, shown_dataset, shown_versions

MADE = {
    "prototype": "the nearest class mean on the features of the encoder, which stayed as it is",
    "probe": "a logistic regression on the features of the encoder, which stayed as it is",
    "pairs": "the encoder was tuned on pairs of them, and a logistic regression learned from its features",
    "pairs_prototype": "the encoder was tuned on pairs of them, and the nearest class mean on its features",
}
PAPERS = {
    "pairs": "Tunstall et al., *Efficient Few-Shot Learning Without Prompts*, 2022 (SetFit)",
    "prototype": "Wang et al., *SimpleShot*, 2019",
}


def few_shot_card(
    name: str,
    source: str,
    *,
    base_model: str,
    modality: str,
    method: str,
    labelled: Mapping[str, int],
    settings: Mapping[str, object],
    accuracy: float | None = None,
    repo: str | None = None,
) -> str:
    """Text of README.md of a classifier from a few labelled rows.

    Args:
        name: of the model.
        source: Hub id, file or folder of the labelled rows.
        base_model: Hub id or folder of the encoder; empty for one that was made from a config.
        modality: `"text"` or `"image"`.
        method: of `FewShotClassifier`.
        labelled: class name -> labelled rows.
        settings: of method and training.
        accuracy: on the source's test split, in [0, 1]; `None` where there is none.
        repo: Hub id of the model, once it has one.

    Example:
        >>> card = few_shot_card(
        ...     "few", "few.csv", base_model="owner/bert", modality="text", method="probe",
        ...     labelled={"down": 3, "up": 2}, settings={"C": 1.0},
        ... )
        >>> card.splitlines()[2:4]
        ['pipeline_tag: text-classification', 'base_model: owner/bert']
    """
    import yaml

    pipeline = "image-classification" if modality == "image" else "text-classification"
    spec = source.partition(":")[0]
    meta = {
        "library_name": "transformers",
        "pipeline_tag": pipeline,
        "base_model": base_model if is_hub_id(base_model) else "",
        "datasets": [spec] if "/" in spec and is_hub_id(spec) else [],
        "tags": ["few-shot", "hftransfer"],
    }
    head = yaml.safe_dump(redacted_values({key: value for key, value in meta.items() if value}), sort_keys=False)
    rows, shown_source = sum(labelled.values()), shown_dataset(source)
    facts = {
        "base model": meta["base_model"] or ("a local checkpoint" if base_model else "none: made from a config"),
        "source, labelled": shown_source,
        **settings,
        "versions": shown_versions(),
    }
    location = json.dumps(redacted(repo or f"your-name/{name}"), ensure_ascii=False)
    parts = [
        f"---\n{head}---",
        f"# {escaped(name)}",
        f"A classifier of {len(labelled)} classes from {rows:,} labelled rows of **{escaped(shown_source)}**, "
        f"made with [hftransfer](https://pypi.org/project/hftransfer/): {MADE[method]}.",
        f'## Use\n\n```python\nfrom transformers import pipeline\n\nmodel = pipeline("{pipeline}", {location})\n```',
        "## How it was made",
        _table(["", ""], facts),
        _table(["class", "labelled rows"], labelled),
        "## Results",
        "All labelled rows were learned from; none was held out, and nothing was chosen by them. "
        + (
            "How well the model does was not measured: there was no test split."
            if accuracy is None
            else f"Accuracy on the source's test split: {100 * accuracy:.1f} %."
        ),
    ]
    papers = [paper for kind, paper in PAPERS.items() if kind in method]
    if papers:
        parts.append("## Papers\n\n" + "\n".join(f"- {paper}" for paper in papers))
    return "\n\n".join(parts) + "\n"


def _table(header: list[str], facts: Mapping[str, object]) -> Markup:
    """Table of two columns."""
    rows = [table_row([Markup(escaped(key)), value]) for key, value in facts.items()]
    return joined([table_row(header), table_rule(2), *rows], "\n")
