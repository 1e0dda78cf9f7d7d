"""The model card, from plain facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

PIPELINES = {
    "sequence-classification": "text-classification",
    "multi-label-classification": "text-classification",
    "regression": "text-classification",
    "token-classification": "token-classification",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card says. `results` maps a row name to `{column: value}`; columns with "oracle" read target labels."""

    name: str
    repo_id: str
    base_model: str
    task: str
    labels: Sequence[str]
    sources: Sequence[str]
    target: str
    objectives: Mapping[str, str]
    papers: Sequence[str]
    policy: str
    settings: Mapping[str, str]
    results: Mapping[str, Mapping[str, float]]
    adapter: bool = False

    @property
    def pipeline(self) -> str:
        return PIPELINES[self.task]

    @property
    def hub_base_model(self) -> str:
        """The base model when it is a Hub id; a path of somebody's machine is nobody else's business."""
        parts = self.base_model.split("/")
        return self.base_model if len(parts) <= 2 and all(parts) and not parts[0].startswith((".", "~")) else ""

    @property
    def columns(self) -> list[str]:
        """Result columns worth a table: the headline metrics, not every class's."""
        wanted = ("accuracy", "macro_f1", "loss", "mse", "pearson")
        seen: dict[str, None] = {}
        for row in self.results.values():
            seen |= dict.fromkeys(c for c in row if c.endswith(wanted))
        return list(seen)


def render_card(facts: CardFacts, extra_tags: Iterable[str] = ()) -> str:
    """README.md with its metadata block."""
    import jinja2
    import yaml

    meta: dict[str, object] = {
        "library_name": "peft" if facts.adapter else "transformers",
        "pipeline_tag": facts.pipeline,
        "tags": sorted({"hftransfer", "domain-adaptation", *facts.objectives, *extra_tags}),
    }
    if facts.hub_base_model:
        meta["base_model"] = facts.hub_base_model
    template = resources.files("hftransfer.reporting").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    body = environment.from_string(template).render(facts=facts)
    return f"---\n{yaml.safe_dump(meta, sort_keys=False)}---\n\n{body.strip()}\n"
