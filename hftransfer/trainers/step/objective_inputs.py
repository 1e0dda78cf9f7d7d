"""What objectives are given: the rows of all processes by argument name, in fp32, gathered once each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...objectives.base import Rerun
from ...objectives.gather import gather_rows, num_processes
from ..teachers.teacher import TeacherOutputs, asked_rows

TOKENS_PER_ROW = 8  # words of a sentence that take part in a tagger's objectives: the same number for every row


@dataclass
class JointRows:
    """A joint batch after its forward: `n` source rows, then target rows, then the target's second views, if any.

    Args:
        features: (rows, d) by place in the model; (rows, tokens, d) in tagging.
        logits, labels, domain: of all rows, views included in `logits` only.
        n: how many are source rows.
        rows: source and target rows together.
        taught: what each teacher says of the rows it was asked about, those of `part`.
        part: `"all"`, `"source"` or `"target"`.
    """

    features: Mapping[str, torch.Tensor]
    logits: torch.Tensor
    labels: torch.Tensor
    domain: torch.Tensor
    n: int
    rows: int
    taught: Sequence[TeacherOutputs] = ()
    part: str = "all"

    def words(self, word_mask: torch.Tensor) -> JointRows:
        """The same for tagging, where a row is a word."""
        masks = torch.cat([word_mask, word_mask[self.n :]])
        pick = lambda x: pick_words(x, masks[: len(x)])  # noqa: E731
        domain = self.domain.unsqueeze(1).expand(-1, TOKENS_PER_ROW).flatten()
        features = {where: pick(x) for where, x in self.features.items()}
        k = TOKENS_PER_ROW
        asked = word_mask[asked_rows(self.part, self.n, self.rows)]
        taught = [t.words(lambda x, at=t.word_mask: pick_words(x, asked, at)) for t in self.taught]  # type: ignore[misc]
        return JointRows(
            features, pick(self.logits), pick(self.labels), domain, self.n * k, self.rows * k, taught, self.part
        )


class ObjectiveInputs:
    """Inputs by name and by place in the model; what two objectives share is gathered once.

    Every process must ask for the same inputs in the same order.

    Args:
        batch: this process' rows.
        weights: what rows with these labels, of these domains, count; `None` for 1 each.
        rerun: makes `target_rerun`.
        local: makes what is not gathered, by name: weights, and what is a mean over this process' rows.
    """

    def __init__(
        self,
        batch: JointRows,
        weights: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None] | None = None,
        rerun: Callable[[], Rerun] | None = None,
        local: Mapping[str, Callable[[], Any]] | None = None,
    ):
        self.batch, self.weights, self.rerun, self.local = batch, weights, rerun, local or {}
        self._gathered: dict[tuple[str, str], Any] = {}

    def get(self, name: str, where: str = "head") -> Any:
        """One input from `INPUTS`; `where` matters to features only."""
        key = (name, where if name.endswith("features") else "")
        if key not in self._gathered:
            self._gathered[key] = self._make(name, where)
        return self._gathered[key]

    def _make(self, name: str, where: str) -> Any:
        b = self.batch
        n, rows = b.n, b.rows
        if name == "target_rerun":
            assert self.rerun is not None
            return self.rerun()
        if name in self.local:
            return self.local[name]()
        if name.startswith("teacher_"):
            return [gather_rows(x.float()) for x in self._of_teachers(name, where)]
        if name == "source_weights":
            weights = None if self.weights is None else self.weights(b.labels[:n], b.domain[:n])
            if weights is None:  # one number, expanded: objectives can tell
                return torch.ones((), device=b.logits.device).expand(n * num_processes())
            return gather_rows(weights)
        x = {
            "source_features": lambda: b.features[where][:n].float(),
            "target_features": lambda: b.features[where][n:rows].float(),
            "target_view_features": lambda: b.features[where][rows:].float(),
            "source_logits": lambda: b.logits[:n].float(),
            "target_logits": lambda: b.logits[n:rows].float(),
            "source_labels": lambda: b.labels[:n],
            "source_domains": lambda: b.domain[:n],
            "features": lambda: b.features[where][:rows].float(),
            "logits": lambda: b.logits[:rows].float(),
        }[name]()
        return gather_rows(x)

    def _of_teachers(self, name: str, where: str) -> list[torch.Tensor]:
        """This process' rows of each teacher: all, the source's or the target's, out of those it was asked about."""
        b = self.batch
        part = "source" if "_source_" in name else "target" if "_target_" in name else "all"
        chosen = slice(None) if part == b.part else asked_rows(part, b.n, b.rows)
        rows = [t.features[where] if name.endswith("features") else t.logits for t in b.taught]
        return [x[chosen] for x in rows]


def pick_words(x: torch.Tensor, word_mask: torch.Tensor, at: torch.Tensor | None = None) -> torch.Tensor:
    """(rows, tokens, …) -> (rows·k, …): k words of every row, evenly spaced over its words.

    The same number for each row keeps shapes equal on all processes; a short sentence repeats words. Which words
    depends on the row alone, so a batch may be cut anywhere. `at` says where the same words are in `x` if it comes of
    other tokens than `word_mask`.
    """
    rows, length = word_mask.shape
    seen = word_mask.cumsum(1)  # 1-based number of the word at each position
    count = seen[:, -1:].clamp_min(1)
    steps = torch.arange(TOKENS_PER_ROW, device=word_mask.device)
    number = 1 + (steps * count).div(TOKENS_PER_ROW, rounding_mode="floor")
    if at is not None:
        seen, length = at.cumsum(1), at.shape[1]
    position = torch.searchsorted(seen.contiguous(), number.contiguous()).clamp_max(length - 1)
    return x[torch.arange(rows, device=x.device).unsqueeze(1), position].flatten(0, 1)
