"""What a transplant took over: one line a part of the model."""

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
    """A new model, and what of the old one is in it. `print` shows the report as a table."""

    model: Any
    tensors: list[TransferredTensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names of the parameters that nothing was taken over into."""
        return tuple(t.name for t in self.tensors if not t.taken)

    def rows(self) -> list[dict[str, str]]:
        """The report's lines: neighbours that were treated alike stand together."""
        out: list[dict[str, Any]] = []
        for t in self.tensors:
            if out and (out[-1]["part"], out[-1]["taken over"]) == (t.part, t.how):
                out[-1]["size"], out[-1]["came"] = out[-1]["size"] + t.size, out[-1]["came"] + t.taken
            else:
                out.append({"part": t.part, "size": t.size, "came": t.taken, "taken over": t.how})
        return [
            {
                "part": row["part"],
                "parameters": f"{row['size']:,}",
                "share": f"{100 * row['came'] / max(1, row['size']):.0f} %",
                "taken over": row["taken over"],
            }
            for row in out
        ]

    def __str__(self) -> str:
        lines = self.rows()
        heads = {name: name for name in ("part", "parameters", "share", "taken over")}
        widths = {name: max(len(line[name]) for line in [heads, *lines]) for name in heads}
        left = ("part", "taken over")
        shown = [
            "  ".join(line[n].ljust(w) if n in left else line[n].rjust(w) for n, w in widths.items()).rstrip()
            for line in [heads, *lines]
        ]
        total, came = sum(t.size for t in self.tensors), sum(t.taken for t in self.tensors)
        shown.append(f"{came:,} of {total:,} parameters were taken over ({100 * came / max(1, total):.1f} %).")
        return "\n".join([*shown, *self.notes])
