"""Report of a transplant: what was taken over, one line for each section of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TransferredTensor:
    """One tensor of the new model: how many of its numbers came over, and how."""

    name: str
    part: str
    size: int
    taken: int
    how: str


@dataclass
class Transplant:
    """A new model and the report of what it has of the old one. `print` shows the report as a table."""

    model: Any
    tensors: list[TransferredTensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names of the parameters that took nothing over."""
        return tuple(t.name for t in self.tensors if not t.taken)

    def rows(self) -> list[dict[str, str]]:
        """Rows of the report; neighbours that were treated alike stand together."""
        merged_rows: list[dict[str, Any]] = []
        for t in self.tensors:
            if merged_rows and (merged_rows[-1]["part"], merged_rows[-1]["taken over"]) == (t.part, t.how):
                merged_rows[-1]["size"], merged_rows[-1]["came"] = (
                    merged_rows[-1]["size"] + t.size,
                    merged_rows[-1]["came"] + t.taken,
                )
            else:
                merged_rows.append({"part": t.part, "size": t.size, "came": t.taken, "taken over": t.how})
        return [
            {
                "part": row["part"],
                "parameters": f"{row['size']:,}",
                "share": f"{100 * row['came'] / max(1, row['size']):.0f} %",
                "taken over": row["taken over"],
            }
            for row in merged_rows
        ]

    def __str__(self) -> str:
        lines = self.rows()
        header = {name: name for name in ("part", "parameters", "share", "taken over")}
        widths = {name: max(len(line[name]) for line in [header, *lines]) for name in header}
        left_aligned = ("part", "taken over")
        printed_lines = [
            "  ".join(line[n].ljust(w) if n in left_aligned else line[n].rjust(w) for n, w in widths.items()).rstrip()
            for line in [header, *lines]
        ]
        total, taken = sum(t.size for t in self.tensors), sum(t.taken for t in self.tensors)
        printed_lines.append(
            f"{taken:,} of {total:,} parameters were taken over ({100 * taken / max(1, total):.1f} %)."
        )
        return "\n".join([*printed_lines, *self.notes])
