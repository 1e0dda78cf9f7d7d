"""Every table of results stands under the command that makes it, and is what that command prints."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADAPT = ROOT / "docs/results_adapt.md"  # its table is the bank's
PAGES = sorted(set((ROOT / "docs").glob("results_*.md")) - {ADAPT})
COMMAND = re.compile(
    r"^```bash\n(python tests/benchmarks/side_by_side\.py .*?)\n```\n\n((?:\|[^\n]*\n)+)", re.S | re.M
)


@pytest.fixture(scope="module")
def side_by_side():
    sys.path.insert(0, str(ROOT / "tests/benchmarks"))
    import side_by_side

    yield side_by_side
    sys.path.remove(str(ROOT / "tests/benchmarks"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_what_their_command_prints(page, side_by_side, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    found = COMMAND.findall(text)
    assert len(found) == text.count("side_by_side.py") > 0, "each command needs its table right below it"
    for command, table in found:
        argv = shlex.split(command.replace("\\\n", " "))[2:]
        assert side_by_side.main(argv) == table.rstrip("\n"), command


def test_the_table_of_adapt(side_by_side):
    import json

    import bank

    lines = [json.loads(line) for line in (ROOT / "docs/results/adapt.jsonl").read_text().splitlines()]
    assert bank.table(lines) + "\n" in ADAPT.read_text(encoding="utf-8")


def test_the_table_of_the_student(side_by_side):
    """Of the test cells at the settings that its command names."""
    import json

    import student

    rows = map(json.loads, (ROOT / "docs/results/student.jsonl").read_text(encoding="utf-8").splitlines())
    chosen = [row for row in rows if row["split"] == "test" and row["epochs"] == 10 and row["more"]]
    assert student.table(chosen) in (ROOT / "docs/results_few_labels.md").read_text(encoding="utf-8")


def test_the_tables_of_few_shot(side_by_side):
    """Of all cells that were run."""
    import json

    import few_shot

    rows = [json.loads(line) for line in (ROOT / "docs/results/few_shot.jsonl").read_text().splitlines()]
    page = (ROOT / "docs/few_shot.md").read_text(encoding="utf-8")
    for task in few_shot.TASKS:
        assert few_shot.table([row for row in rows if row["task"] == task], task, [1, 5, 16]) + "\n" in page


def test_the_table_of_asking(side_by_side):
    import json

    import asking

    rows = [json.loads(line) for line in (ROOT / "docs/results/asking.jsonl").read_text().splitlines()]
    assert asking.table(rows) + "\n" in (ROOT / "docs/asking.md").read_text(encoding="utf-8")


def test_the_table_of_sources(side_by_side):
    import json

    import choose_source

    rows = [json.loads(line) for line in (ROOT / "docs/results/choose_source.jsonl").read_text().splitlines()]
    assert choose_source.table(rows) + "\n" in (ROOT / "docs/choose_source.md").read_text(encoding="utf-8")


def test_the_tables_of_pretraining(side_by_side):
    """Of all models on one page, of rounds of self-training on another."""
    import pretraining

    lines = pretraining.read(ROOT / "docs/results/pretraining.jsonl")
    assert pretraining.table(lines) + "\n" in (ROOT / "docs/pretraining.md").read_text(encoding="utf-8")
    assert pretraining.table_of_rounds(lines) + "\n" in (ROOT / "docs/adapt.md").read_text(encoding="utf-8")


def test_a_table_mixes_no_settings(side_by_side, monkeypatch, capsys):
    """Cells that differ in something that is not shown are an error, not the last one of them; so is a typo."""
    monkeypatch.chdir(ROOT)
    for more, said in ((["policy=lora"], "several settings"), (["polcy=lora"], "polcy")):
        argv = ["docs/results/news_to_medical.jsonl", "--shift", "press to PubMed", "--where", *more]
        with pytest.raises(SystemExit):
            side_by_side.main(argv)
        assert said in capsys.readouterr().err


def test_the_demo_has_one_table():
    """The README's and that of the results page."""
    tables = [
        re.search(r"<!-- demo-table -->\n((?:\|.*\n)+)", (ROOT / page).read_text(encoding="utf-8"))[1]
        for page in ("README.md", "docs/results.md", "docs/index.md")
    ]
    assert len(set(tables)) == 1


@pytest.mark.parametrize("name", ["catalogue_text", "catalogue_digits", "other_text"])
def test_the_cells_of_a_catalogue_are_those_that_its_file_would_run(name):
    """By the hash of their settings: a figure that is kept stays with what was run."""
    import json

    from hftransfer.cli.benchmark_file import read_benchmark

    would_run = {cell.hash: cell for cell in read_benchmark(ROOT / f"tests/benchmarks/{name}.yaml").cells}
    for line in (ROOT / f"docs/results/{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert would_run[row["hash"]].facts == {key: row[key] for key in ("shift", "method", "policy", "seed", "hash")}
