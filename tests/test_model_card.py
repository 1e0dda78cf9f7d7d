"""The card's own lines load what they describe, whatever the task; its metadata is what the Hub takes."""

from __future__ import annotations

import ast
import dataclasses
import re

import numpy as np
import pytest
import tiny
import torch
import yaml
from peft import LoraConfig, get_peft_model

from hftransfer.models import pretrained
from hftransfer.reporting.model_card_text import CardFacts, is_hub_id, load_lines, render_card

FACTS = CardFacts(
    name="x",
    repo_id="me/x",
    base_model="owner/base",
    task="sequence-classification",
    labels=tiny.LABELS,
    sources=["owner/news", "data/more_{split}.csv"],
    target="owner/medical:clinical",
    objectives={"mmd": "0.1 x mmd, warm_start"},
    papers=["Somebody, 2015"],
    trained="all",
    settings={"seed": "1", "epochs": ""},
    results={
        "source-only": {"source_accuracy": 0.9, "target_oracle_accuracy": 0.5, "target_entropy": 0.1},
        "adapted": {"source_accuracy": 0.8},
    },
)


def facts(**changes) -> CardFacts:
    return dataclasses.replace(FACTS, **changes)


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def saved(model, folder) -> str:
    """With other weights than it was made with, so that a head that is not loaded shows."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("task", "labels", "kind"),
    [
        ("sequence-classification", tiny.LABELS, "single_label_classification"),
        ("multi-label-classification", tiny.LABELS, "multi_label_classification"),
        ("regression", ("score",), "regression"),
        ("token-classification", tiny.LABELS, None),
    ],
)
@pytest.mark.parametrize("adapter", [False, True])
def test_the_lines_load_the_model(tmp_path, task, labels, kind, adapter):
    """Same logits, names and scores as the model that was saved, from a base that knows nothing of the task."""
    tagging = task == "token-classification"
    model = tiny.bert(labels, tagging=tagging, initializer_range=0.5, **({"problem_type": kind} if kind else {}))
    if adapter:
        base = tiny.bert(["LABEL_0", "LABEL_1"], initializer_range=0.5).bert
        model.bert.load_state_dict(base.state_dict(), strict=False)
        base.save_pretrained(tmp_path / "base")
        model.name_or_path = str(tmp_path / "base")
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    folder = saved(model, tmp_path / "model")
    shown = labels if task != "regression" else ()
    names: dict = {}
    exec("\n".join(load_lines(facts(task=task, labels=shown, adapter=adapter), folder)), names)
    pipe = names["model"]

    texts = tiny.tokenizer()(["w1 w2 up"], return_tensors="pt")
    with torch.no_grad():
        expected, found = model.eval()(**texts).logits, pipe.model.eval()(**texts).logits
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-4)
    if task == "regression":
        assert pipe("w1 w2 up")[0]["score"] == pytest.approx(expected.item(), abs=1e-4)
    elif task == "token-classification":
        assert [w["entity"] for w in pipe("w1 w2 up")] == [labels[i] for i in expected[0, 1:-1].argmax(-1)]
    else:
        squash = torch.sigmoid if kind == "multi_label_classification" else lambda x: torch.softmax(x, -1)
        scores = {entry["label"]: entry["score"] for entry in pipe("w1 w2 up", top_k=None)}
        assert scores == pytest.approx(dict(zip(labels, squash(expected[0]).tolist(), strict=True)), abs=1e-4)


def test_an_offline_copy_goes_by_its_hub_id(tmp_path, monkeypatch):
    """In the config and in an adapter: the folder of an installed package is of no use to anybody else."""
    tiny.bert().save_pretrained(tmp_path / "packaged_copy" / "model")
    (tmp_path / "packaged_copy" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(pretrained.OFFLINE_COPIES, "owner/base", ("packaged_copy", "model"))
    monkeypatch.setattr(pretrained, "hub_reachable", lambda: False)
    model = pretrained.load_model("owner/base", "sequence-classification", tiny.LABELS)
    assert model.config.name_or_path == "owner/base"
    adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
    assert adapter.peft_config["default"].base_model_name_or_path == "owner/base"


def test_results_are_a_table_with_oracle_marked():
    card = render_card(FACTS)
    assert "| | source accuracy | target accuracy (*oracle*) |\n|---|---|---|\n" in card
    assert "| source-only | 0.900 | 0.500 |\n| adapted | 0.800 | - |\n" in card


def test_a_checkpoint_that_target_labels_chose_is_said_to_be():
    assert "these were not used for any choice" in render_card(FACTS)
    card = render_card(facts(oracle_selection=True))
    assert "which also chose the checkpoint (`allow_oracle_selection`)" in card
    assert "not used for any choice" not in card
    assert "| source-only | 0.900 |" in card


def test_no_results_no_table():
    assert "## Results" not in render_card(facts(results={"evaluation": {}}))


def test_metadata_names_what_the_hub_knows():
    """Data sets and models by id; files and folders of a machine are left out, and so are empty values."""
    meta = metadata(
        render_card(FACTS, tags=["own"], datasets=["owner/third"], extra_metadata={"license": "mit", "language": None})
    )
    assert meta == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "owner/base",
        "datasets": ["owner/news", "owner/medical", "owner/third"],
        "tags": ["domain-adaptation", "hftransfer", "mmd", "own"],
        "license": "mit",
    }


def test_paths_stay_at_home(tmp_path, monkeypatch):
    """A relative folder looks like a Hub id; it is none while it exists."""
    (tmp_path / "runs" / "pretrained").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    card = render_card(facts(base_model="runs/pretrained", sources=["/home/me/secret/news.csv"]))
    assert "base_model" not in metadata(card)
    assert "runs/pretrained" not in card
    assert "secret" not in card
    assert "| source, labelled | news.csv |" in card


def test_empty_settings_are_left_out():
    card = render_card(FACTS)
    assert "| seed | 1 |" in card
    assert "epochs" not in card


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("bert-base-uncased", True),
        ("owner/name.v2", True),
        ("a/b/c", False),
        ("/abs/path", False),
        ("./here", False),
        ("~/there", False),
        ("data/news.csv", False),
        ("data/news_{split}.csv", False),
        ("", False),
    ],
)
def test_what_a_hub_id_is(name, is_id):
    assert is_hub_id(name) == is_id


def test_a_run_without_objectives_says_so():
    card = render_card(facts(objectives={}, papers=[], target=""))
    assert "without adaptation" in card
    assert "| objectives | none: source only |" in card
    assert "## Papers" not in card


# ---- text of others


NASTY = [
    "a|b",
    "two\nlines",
    "<script>alert(1)</script>",
    "`code` ```",
    "---\nlicense: evil\n---",
    "\n# Heading",
    "[link](http://a) ![image](b)",
    "*bold* _thin_ ~gone~ $x$",
    "\x1b[31mred\x1b[0m",
    "&lt; \\| \u202e",
    "{{ 7 * 7 }} {% raw %}",
    '"quoted" and it\'s',
]


def table(card: str, heading: str) -> list[list[str]]:
    """Cells of the first table after a heading, as GitHub's Markdown cuts them."""
    lines = card.split(f"## {heading}\n")[1].split("\n\n")
    lines = next(block for block in lines if block.startswith("|")).strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_shown_and_are_no_markup(name):
    """Wherever a text of others stands: as many lines and cells as with a plain name, no tag, no metadata."""

    def card(text: str) -> str:
        return render_card(
            facts(
                name=text,
                repo_id=text,
                base_model=text,
                labels=[text, "up"],
                sources=[text],
                target=text,
                objectives={"mmd": text},
                papers=[text],
                trained=text,
                settings={text: text},
                results={text: {f"{text}_accuracy": 0.5, "target_oracle_accuracy": 0.25}},
                blocks=[["block", text], [text, "1"]],
                task_name="an" + text,
            ),
            tags=[text],
            datasets=[text],
            extra_metadata={"model_name": text},
        )

    nasty, plain = card(name), card("plain")
    head, body = nasty.removeprefix("---\n").split("\n---\n", 1)
    meta = yaml.safe_load(head)
    assert set(meta) == {*metadata(plain)} - ({"base_model"} if "base_model" not in meta else set())
    assert name.split("\x1b")[0] in meta["tags"] or "\x1b" in name
    assert "license" not in meta
    text = body.split("```python")[0] + body.split("```\n", 2)[-1]
    for sign in ("<script", "<b", "\x1b", "\u202e"):
        assert sign not in text
    assert not re.search(r"(?<!\\)\]\((http://a|b)", text)
    usual = plain.split("\n---\n", 1)[1]
    assert [line[:1] for line in body.splitlines() if line[:1] in ("#", "|", "`", "-")] == [
        line[:1] for line in usual.splitlines() if line[:1] in ("#", "|", "`", "-")
    ]
    assert len(body.splitlines()) == len(usual.splitlines())
    for heading in ("How it was made", "Results"):
        cells, usual = table(nasty, heading), table(plain, heading)
        assert [len(row) for row in cells] == [len(row) for row in usual]
    assert "0.250" in table(nasty, "Results")[2]


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("changes", [{}, {"adapter": True}, {"adapter": True, "modality": "image"}])
def test_the_lines_that_load_are_python_whatever_the_names(name, changes):
    lines = load_lines(facts(labels=[name], repo_id=name, **changes), f"runs/{name}")
    tree = ast.parse("\n".join(lines))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert f"runs/{name}" in texts
    assert not changes or name in texts


def test_a_card_holds_no_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "opensesame")
    token = "hf_" + "aB3" * 10
    card = render_card(facts(settings={"run": token, "x": "opensesame"}, sources=[f"https://me:{token}@host/x.csv"]))
    assert "aB3aB3" not in card
    assert "opensesame" not in card
