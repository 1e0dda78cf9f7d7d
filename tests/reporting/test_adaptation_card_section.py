"""The model card's section on an adaptation: short Markdown that shows text of others as text."""

from __future__ import annotations

import dataclasses
import re

from adaptation_cases import BARE, full_facts

from hftransfer.reporting.adaptation_card_section import MOST_ROWS, card_section
from hftransfer.reporting.adaptation_facts import CandidateFacts


def table(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_it_says_the_verdict_the_reasons_and_the_estimate():
    section = card_section(full_facts())
    assert section.startswith("## Adaptation\n\nVerdict: **adapted**. ")
    assert section.count("\n- ") == 1
    assert "78.0 % (74.0 to 82.0); of source-only: 74.0 % (70.0 to 78.0)" in section
    assert len(section.splitlines()) < 40


def test_its_table_has_as_many_cells_in_each_row():
    facts = full_facts(text="a|b *c* <script>")
    rows = table(card_section(facts))
    assert len(rows) == 2 + len(facts.candidates)
    assert len({len(row) for row in rows}) == 1
    assert set("".join(rows[1])) == {"-"}
    (chosen,) = [row for row in rows if row[0].startswith("**")]
    assert "(chosen)" in chosen[0]


def test_text_of_others_is_text():
    section = card_section(full_facts(text="<script>a|b\n# no heading\n\n```"))
    assert "<script" not in section
    assert section.count("#") - section.count(" # no heading") == 2
    assert not re.search(r"^```", section, re.M)


def test_oracle_columns_say_so():
    assert "target accuracy (*oracle*)" in table(card_section(full_facts()))[0]
    assert "not used for any choice" in card_section(full_facts())
    assert "oracle" not in card_section(full_facts(oracle=False)).lower()


def test_a_sentence_stands_for_an_accuracy_that_nobody_knows():
    assert "Accuracy on the target: cannot tell" in card_section(
        dataclasses.replace(BARE, estimated_accuracy="cannot tell")
    )
    assert "ccuracy" not in card_section(BARE)


def test_of_many_candidates_the_chosen_one_is_shown():
    names = [f"c{i}" for i in range(30)]
    candidates = [CandidateFacts(name, rank=1.0, chosen=name == "c29", reference=name == "c28") for name in names]
    section = card_section(dataclasses.replace(BARE, candidates=candidates))
    shown = [row[0] for row in table(section)[2:]]
    assert len(shown) == MOST_ROWS
    assert shown[-2:] == ["c28", "**c29** (chosen)"]
    assert "18 more candidates are not shown" in section
