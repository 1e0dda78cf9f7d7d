"""Section of a model card on source-free adaptation: the verdict, and what left each site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .markdown import Markup, escaped, table_row, table_rule


@dataclass(frozen=True)
class SourceFreeFacts:
    """Facts of a source-free adaptation.

    Args:
        verdict: adapted, corrected, unchanged, student or refused.
        headline: the verdict in a sentence.
        reasons: plain sentences.
        left_source: what came from the source's site, a phrase each.
        left_target: what is made from target rows and leaves with the model, a phrase each.
        frequencies: class name -> share of target rows, as estimated; empty where there is no estimate.
        believed: why the estimate is believed or not; empty without one.
        oracle: model -> accuracy on the target's test split, computed with its labels; only ever shown.

    Example:
        >>> SourceFreeFacts("unchanged", "The start model is kept.").verdict
        'unchanged'
    """

    verdict: str
    headline: str
    reasons: Sequence[str] = ()
    left_source: Sequence[str] = ()
    left_target: Sequence[str] = ()
    frequencies: Mapping[str, float] = field(default_factory=dict)
    believed: str = ""
    oracle: Mapping[str, float] = field(default_factory=dict)


def counts_in_config(rows: int, classes: int) -> str:
    """Sentence on the counts of source validation rows that a saved model's config carries.

    Args:
        rows: that were counted.
        classes: K.

    Example:
        >>> counts_in_config(200, 3).startswith("config.json holds, of 200 source validation rows")
        True
    """
    return (
        f"config.json holds, of {rows:,} source validation rows, their confusion matrix by confidence ({classes} x "
        f"{classes} x 3 counts), {classes} class counts and one temperature, and no row."
    )


def source_free_section(facts: SourceFreeFacts) -> str:
    """Section of the model card in Markdown.

    Args:
        facts: of the adaptation.

    Returns:
        Markdown that starts with a heading of the second level and ends with a line end.

    Example:
        >>> facts = SourceFreeFacts("unchanged", "The start model is kept.", left_source=["the weights"])
        >>> print(source_free_section(facts))
        ## Source-free adaptation
        <BLANKLINE>
        Verdict: **unchanged**. The start model is kept.
        <BLANKLINE>
        ### What left the site
        <BLANKLINE>
        From the source's site: the weights. Nothing else, and no row.
        <BLANKLINE>
    """
    blocks = ["## Source-free adaptation", f"Verdict: **{facts.verdict}**. {escaped(facts.headline)}"]
    if facts.reasons:
        blocks.append("\n".join(f"- {escaped(reason)}" for reason in facts.reasons))
    if facts.frequencies:
        rows = [
            table_row([Markup(escaped(name)), f"{100 * share:.1f} %"]) for name, share in facts.frequencies.items()
        ]
        blocks.append("\n".join([table_row(["class", "target, estimated"]), table_rule(2), *rows]))
    if facts.believed:
        blocks.append(escaped(facts.believed))
    if facts.oracle:
        blocks.append(
            "Accuracy on the target's test split (*oracle*: computed with its labels, used for no choice): "
            + ", ".join(f"{escaped(name)} {100 * value:.1f}" for name, value in facts.oracle.items())
            + "."
        )
    blocks.append("### What left the site")
    blocks.append(f"From the source's site: {escaped('; '.join(facts.left_source))}. Nothing else, and no row.")
    if facts.left_target:
        blocks.append(f"From the target's site, with this model: {escaped('; '.join(facts.left_target))}. No row.")
    return "\n\n".join(blocks) + "\n"
