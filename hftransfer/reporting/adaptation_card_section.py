"""Section of a model card on how the model was chosen."""

from __future__ import annotations

from .adaptation_facts import AdaptationFacts
from .candidate_table import candidate_columns
from .markdown import Markup, escaped, table_row, table_rule
from .report_text import compared_by, estimated_by, interval, unlabelled_estimate

MOST_ROWS = 12  # candidates of the table


def card_section(facts: AdaptationFacts) -> str:
    """Section of the model card in Markdown: the verdict, its reasons, the estimate and a table of candidates.

    Args:
        facts: of the adaptation.

    Returns:
        Markdown that starts with a heading of the second level and ends with a line end.

    Example:
        >>> facts = AdaptationFacts("source-only", "Nothing is estimated to help.", source="news", target="notes")
        >>> print(card_section(facts))
        ## Adaptation
        <BLANKLINE>
        Verdict: **source-only**. Nothing is estimated to help.
        <BLANKLINE>
    """
    blocks = ["## Adaptation", f"Verdict: **{facts.verdict}**. {escaped(facts.headline)}"]
    if facts.reasons:
        blocks.append("\n".join(f"- {escaped(reason)}" for reason in facts.reasons))
    if estimate := _estimates(facts):
        blocks.append(estimate)
    if facts.candidates:
        blocks += _candidates(facts)
    return "\n\n".join(blocks) + "\n"


def _estimates(facts: AdaptationFacts) -> str:
    """Sentences on the estimated accuracy."""
    if facts.estimated_accuracy is None:
        return ""
    if isinstance(facts.estimated_accuracy, str):
        return f"Accuracy on the target: {escaped(facts.estimated_accuracy)}"
    line = f"Estimated accuracy on the target, {estimated_by(facts)}: {interval(facts.estimated_accuracy)}"
    if facts.verdict != "source-only" and isinstance(facts.estimated_accuracy_source_only, tuple):
        line += f"; of source-only: {interval(facts.estimated_accuracy_source_only)}"
    return f"{line}. {unlabelled_estimate(facts)}".rstrip()


def _candidates(facts: AdaptationFacts) -> list[str]:
    """Sentence and table: as many candidates as fit, the chosen one and the reference among them."""
    kept = [c for c in facts.candidates if c.chosen or c.reference]
    kept += [c for c in facts.candidates if not (c.chosen or c.reference)][: MOST_ROWS - len(kept)]
    rows = [candidate for candidate in facts.candidates if candidate in kept]
    columns = candidate_columns(rows, scores=False)
    cells = list(zip(*(column.cells(rows) for column in columns), strict=True)) or [()] * len(rows)
    head = [
        "candidate",
        *(Markup(escaped(c.heading).replace("(oracle)", "(*oracle*)")) for c in columns),
    ]
    lines = [table_row(head), table_rule(len(head))]
    for candidate, values in zip(rows, cells, strict=True):
        name = escaped(candidate.name)
        notes = ["chosen"] * candidate.chosen + ["not eligible"] * bool(candidate.refused)
        name = Markup(f"**{name}**" if candidate.chosen else name) + "".join(f" ({note})" for note in notes)
        lines.append(table_row([Markup(name), *values]))
    sentence = f"Candidates were compared {compared_by(facts)}."
    if any(column.kind == "oracle" for column in columns):
        sentence += " Oracle columns are computed with target labels; these were not used for any choice."
    if len(rows) < len(facts.candidates):
        sentence += f" {len(facts.candidates) - len(rows)} more candidates are not shown."
    return [sentence, "\n".join(lines)]
