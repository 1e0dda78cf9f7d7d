"""The page of choose-source is held to the code: scores, commands, examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import tiny

from hftransfer import ChooseSourceArguments
from hftransfer.adaptation.checkpoint_ranking import SCORES
from hftransfer.cli.recipe_parser import RecipeParser
from hftransfer.selection.transferability import TRANSFERABILITY

PAGE = (Path(__file__).parents[1] / "docs/choose_source.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


def test_the_table_has_every_score_with_what_it_reads():
    section = PAGE.split("## The scores")[1].split("\n## ")[0]
    found = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.M))
    assert set(found) == set(TRANSFERABILITY)
    for name, reads in found.items():
        needs = TRANSFERABILITY[name].needs()
        assert ("own head" in reads) == ("source_probabilities" in needs), name
        assert ("another domain" in reads) == ("source_features" in needs), name
    assert ", ".join(f"`{name}`" for name in SCORES[:2]) + f" and `{SCORES[2]}`" in PAGE


def test_every_command_asks_what_the_page_says():
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    commands = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("hftransfer choose-source")]
    questions = []
    for words in commands:
        (options,) = RecipeParser([ChooseSourceArguments]).parse_args_and_config(words)
        questions.append(options.question)
    assert questions[:3] == ["checkpoints", "sources", "relation"]
    assert len(questions) >= 5


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    for i, name in enumerate("ab"):
        tiny.bert(seed=i).save_pretrained(tmp_path / "runs" / name)
        tiny.tokenizer().save_pretrained(tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_examples_run(work, capsys):
    rows = tiny.domain(30)
    features = [[float(i % 3), float(i % 7)] for i in range(30)]
    scope = {"news": rows, "papers": tiny.domain(30, seed=1), "medical": tiny.domain(30, seed=2, labelled=False)}
    scope |= {"features": features, "labels": rows["label"]}
    for code in blocks("python"):
        exec(code, scope)
    assert (work / "related.png").stat().st_size > 1000
    assert scope["choice"].best in ("news", "papers")
    assert "best first by a linear" in capsys.readouterr().out
