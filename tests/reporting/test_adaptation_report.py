"""The adaptation report opens offline, shows what is there and no more, and text of others as text."""

from __future__ import annotations

import dataclasses
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from adaptation_cases import BARE, CLASSES, SCRIPT, full_facts

from hftransfer.extras import install_hint
from hftransfer.reporting import report_pictures
from hftransfer.reporting.adaptation_facts import AdaptationFacts, CandidateFacts, ChangedRow, LabelShiftFacts
from hftransfer.reporting.adaptation_report import render_report, write_report
from hftransfer.reporting.changed_rows import token_pieces
from hftransfer.reporting.report_pictures import draw_pictures

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, text by section heading, and table rows of a parsed page; tags must match."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.rows: list[tuple[dict[str, str | None], list[str]]] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((dict(attrs), []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings[-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def source() -> str:
    return render_report(full_facts())


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


def without_pictures(monkeypatch):
    """As on a machine that has no matplotlib."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_it_loads_nothing_from_outside(source, page):
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("data:image/", "#")), (tag, name, value)
            assert "http" not in (value or "") or tag == "meta"
    assert "@import" not in source
    assert not re.findall(r"url\((?!#)", source)
    assert len(source) < 2_000_000


def test_text_of_others_is_text(source, page):
    assert source.count("<script") == 0
    assert page.words.count(SCRIPT) > 20
    assert "שלום עולם" in page.words
    assert '"better" & <b>bold</b>' in page.words
    assert {"better", "bold"}.isdisjoint(tag for tag, _ in page.tags)


def test_names_may_hold_what_html_may_not():
    odd = "a\x00b\x1b[31m\ud800"
    page = render_report(full_facts(text=odd))
    assert page.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)


def test_tokens_of_the_hub_are_hidden():
    assert "AbCdEf0123456789" not in render_report(dataclasses.replace(BARE, looks=["hf_AbCdEf0123456789"]))


def test_the_verdict_stands_before_everything_else(page):
    words = page.words
    assert words.index("Verdict: adapted") < words.index("78.0 % (74.0 to 82.0)") < words.index("Reasons")
    assert page.headings[0].startswith("The student is handed over")


def test_the_chosen_row_is_marked_in_words(page):
    marked = [(attributes, cells) for attributes, cells in page.rows if "✓" in cells[0]]
    ((attributes, cells),) = marked
    assert attributes["class"].split() == ["chosen"]
    assert "student" in cells[0]
    assert "chosen" in cells[0]
    (refused,) = [cells for attributes, cells in page.rows if "not eligible" in cells[0]]
    assert "wild" in refused[0]
    assert "one class only" in page.words


def test_scores_that_are_not_numbers_are_absent(page):
    assert not re.search(r"\bnan\b", page.words, re.I)


def test_every_section_is_there(page):
    expected = ["Reasons", "What to know first", "Use the model", "Candidates", "The data", "Class frequencies"]
    expected += ["How sure the answers are", "Features of the same rows", "Class by class", "Calibration"]
    expected += ["Rows whose answer changed", "Cost", "How it was made"]
    assert [heading for heading in page.headings if heading in expected] == expected
    assert sum(attributes.get("role") == "img" for _, attributes in page.tags) >= 5
    assert all(attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") == "img")
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")


def test_what_is_absent_is_left_out():
    page = Page(render_report(BARE))
    assert page.headings == ["Nothing is estimated to help.", "How it was made"]
    assert not page.rows
    assert "None" not in page.words
    assert "source-only" in page.words


def test_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids
    assert len(set(ids)) == len(ids)
    used = {value[1:] for _, a in page.tags for name, value in a.items() if name.endswith("href") and value[0] == "#"}
    used |= {match for _, a in page.tags for v in a.values() for match in re.findall(r"url\(#([^)]*)\)", v or "")}
    assert used <= set(ids)


def test_figures_from_target_labels_say_oracle(page):
    """Without target labels no word of oracle; with them, each column of such figures says so."""
    assert "oracle" not in Page(render_report(full_facts(oracle=False))).words
    head, *_ = [cells for _, cells in page.rows if "rank" in cells]
    column = next(i for i, heading in enumerate(head) if heading == "target accuracy (oracle)")
    for _, cells in page.rows:
        for i, cell in enumerate(cells):
            if cell in ("73.8 %", "77.9 %"):
                assert i == column
    assert "label (oracle):" in page.words
    assert "target labels (oracle)" in page.words
    assert "chose nothing" in page.words


def test_a_report_is_made_twice_the_same(source):
    assert render_report(full_facts()) == source


def test_without_matplotlib_the_page_says_what_draws_the_pictures(monkeypatch):
    without_pictures(monkeypatch)
    page = Page(render_report(full_facts()))
    assert page.words.count(install_hint("plots")) == 4
    assert not [tag for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert any("✓" in cells[0] for _, cells in page.rows)


def test_without_umap_the_page_says_what_adds_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    words = Page(render_report(full_facts())).words
    assert install_hint("umap") in words
    assert install_hint("plots") not in words


def test_a_picture_that_fails_costs_no_other(monkeypatch, caplog):
    def broken(facts):
        raise ValueError("out of ink")

    monkeypatch.setattr(report_pictures, "draw_confidences", broken)
    pictures = draw_pictures(full_facts())
    assert pictures.frequencies
    assert pictures.confidences is None
    assert "out of ink" in pictures.notes["confidences"]
    assert "out of ink" in caplog.text


def test_no_picture_of_the_cases_fails():
    assert set(draw_pictures(full_facts()).notes) <= {"umap"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(BARE, path)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError):
        write_report(BARE, tmp_path / "nowhere" / "report.html")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(full_facts(), path)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_no_accuracy_is_a_sentence():
    facts = dataclasses.replace(BARE, estimated_accuracy="Nobody can tell: labels given inputs shift.")
    assert "Nobody can tell" in Page(render_report(facts)).words


def test_facts_are_checked():
    with pytest.raises(ValueError, match="must be one of"):
        AdaptationFacts("better", "", source="a", target="b")
    with pytest.raises(ValueError, match="2 are chosen: a, b"):
        dataclasses.replace(BARE, candidates=[CandidateFacts("a", chosen=True), CandidateFacts("b", chosen=True)])


def test_odd_sizes_are_drawn():
    """One class, one row, features of one dimension, a hundred classes, features that are not finite."""
    facts = full_facts()
    features = facts.features
    one = dataclasses.replace(
        features,
        classes=["a"],
        source_before=np.ones((1, 1)),
        target_before=np.ones((1, 1)),
        source_classes=np.zeros(1, int),
        target_classes_before=np.zeros(1, int),
        source_after=None,
        target_after=None,
        target_classes_after=None,
    )
    broken = dataclasses.replace(features, source_before=np.full((20, 5), np.nan))
    many = LabelShiftFacts([f"class {i}" for i in range(100)], np.full(100, 0.01), np.linspace(0, 0.02, 100))
    for changes in ({"features": one}, {"features": broken}, {"label_shift": many}):
        assert set(draw_pictures(dataclasses.replace(facts, **changes)).notes) <= {"umap"}
    page = Page(render_report(dataclasses.replace(facts, label_shift=many)))
    assert "those that move most" in page.words
    assert sum(cells[0] == "class 50" for _, cells in page.rows) == 1


def test_models_with_one_set_of_figures_have_one_column():
    """Where source-only is handed over, before and after are the same."""
    facts = full_facts()
    shares = facts.label_shift.predicted_before
    shift = dataclasses.replace(facts.label_shift, predicted_after=shares)
    classes = [dataclasses.replace(row, source_recall_after=row.source_recall_before) for row in facts.classes]
    page = Page(render_report(dataclasses.replace(facts, label_shift=shift, classes=classes)))
    heads = [cells for _, cells in page.rows if cells[0] == "class"]
    assert "answers" in heads[0]
    assert not any("handed over" in heading for heading in heads[0])
    assert [heading for heading in heads[1] if "recall" in heading and "oracle" not in heading] == ["source recall"]


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["un", "##like", "it", ",", "no"], "unlike it, no"),
        (["Ġun", "like", "Ġit", "!"], "unlike it!"),
        (["▁un", "like", "▁it"], "unlike it"),
    ],
)
def test_tokens_are_joined_to_words(tokens, text):
    pieces = token_pieces([(token, float("nan") if i else 1.0) for i, token in enumerate(tokens)])
    assert "".join(" " * piece.space + piece.text for piece in pieces) == text
    assert [piece.speaks for piece in pieces] == ["for"] + [""] * (len(pieces) - 1)


def test_broken_pictures_are_said():
    rows = [ChangedRow("a", "b", image=data) for data in (b"no picture", b"\x89PNG\r\n\x1a\n broken")]
    page = Page(render_report(dataclasses.replace(BARE, changed_rows=rows)))
    assert page.words.count("too large for this page") == 2


def test_long_lists_are_cut():
    rows = [ChangedRow("a", "b", "long " * 1000)] * 50
    page = render_report(dataclasses.replace(BARE, changed_rows=rows))
    assert page.count("…") == 20
    assert len(page) < 60_000


def test_classes_are_named_in_every_table(page):
    assert all(sum(cells[0] == name for _, cells in page.rows) == 2 for name in CLASSES)
