"""Result lines, what is left of them after kills and changes, and the table made of them."""

from __future__ import annotations

from hftransfer.reporting.benchmark_table import (
    append_result,
    describe_size,
    describe_time,
    guess_seconds,
    latest,
    markdown,
    print_table,
    read_results,
    summarise,
)


def row(method="mmd", seed=1, target=0.5, source=(0.8,), status="done", **more):
    names = [f"s{i}" for i in range(len(source))]
    scores = {f"{n}_accuracy": value for n, value in zip(names, source, strict=True)}
    facts = {"shift": "toy", "method": method, "policy": "full", "seed": seed, "hash": "h", "status": status}
    times = {"seconds": 10.0 * seed, "wall_seconds": 20.0 * seed, "peak_memory": seed * 2**30}
    return facts | times | {"sources": names, "target_oracle_accuracy": target} | scores | more


def test_a_line_of_the_table_by_hand():
    rows = [row("source-only", seed, target) for seed, target in ((1, 0.600), (2, 0.600), (3, 0.700))]
    rows += [row("mmd", 1, 0.595, (0.8, 0.6)), row("mmd", 2, 0.594, (0.9, 0.7)), row("mmd", 3, 0.800, (1.0, 0.8))]
    rows += [row("dann", 1, status="failed", error="e"), row("target-trained", 1, 0.9, seconds=4.6, peak_memory=None)]
    methods = ["source-only", "mmd", "dann", "target-trained", "cdan"]
    table = summarise(rows, [("toy", m, "full") for m in methods for _ in range(3)])
    assert list(table[1].values()) == [
        "toy", "mmd", "full", "3", "80.0 ± 10.0", "66.3 ± 11.9", "33 % (1 of 3)", "20", "3.0 GiB",
    ]  # fmt: skip
    assert [line["harm"] for line in table] == ["–", "33 % (1 of 3)", "–", "–", "–"]
    assert [line["seeds"] for line in table] == ["3", "3", "0 of 3, 1 failed", "1 of 3", "0 of 3"]
    assert list(table[3].values())[5:] == ["90.0", "–", "5", "–"]
    assert table[4]["target accuracy (oracle)"] == "–"


def test_harm_counts_seeds_that_have_their_source_only():
    rows = [row("source-only", 2, 0.6), row("mmd", 1, 0.1), row("mmd", 2, 0.5)]
    assert summarise(rows, [("toy", "mmd", "full")] * 2)[0]["harm"] == "100 % (1 of 1)"
    other = [row("source-only", 1, 0.6) | {"policy": "lora"}, row("mmd", 1, 0.1)]
    assert summarise(other, [("toy", "mmd", "full")])[0]["harm"] == "–"


def test_a_correlation_is_shown_as_it_is():
    rows = [row("mmd", 1, target_oracle_pearson=0.25, s0_pearson=0.5)]
    (line,) = summarise(rows, [("toy", "mmd", "full")], "pearson")
    assert (line["source pearson"], line["target pearson (oracle)"]) == ("0.500", "0.250")
    page = markdown([line], "pearson")
    assert page.startswith("| shift | method | policy | seeds | source pearson | target pearson (oracle) | harm |")
    assert "| --- | --- | --- | --- | ---: |" in page
    assert "target pearson (oracle) is more than 0.5 points below" in page


def test_lines_survive_a_kill(tmp_path):
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    append_result(path, row(seed=1))
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        append_result(path, row(seed=2))
        assert [r["seed"] for r in read_results(path)] == ([1, 1, 2] if cut == len(whole) - 1 else [1, 2])
    path.write_bytes(b'[]\n3\n{"a": 1}\n\xff\n' + whole)
    assert [r["seed"] for r in read_results(path)] == [1]


def test_the_last_line_of_the_present_settings_counts():
    rows = [row(status="failed"), row(), row(hash="old", target=0.9), row(seed=2, status="failed")]
    cells = [{"method": "mmd", "seed": seed, "hash": "h"} for seed in (1, 2, 3)]
    assert [r and r["status"] for r in latest(rows, cells)] == ["done", "failed", None]
    assert latest(rows, []) == []


def test_what_is_left_is_guessed_from_what_is_most_like_it():
    rows = [row("mmd", 1), row("mmd", 2), row("dann", 3), row("dann", 9, status="failed")]
    cell = {"shift": "toy", "method": "mmd", "policy": "full"}
    assert guess_seconds(rows, [cell]) == 30
    assert guess_seconds(rows, [cell | {"method": "cdan"}]) == 40
    assert guess_seconds(rows, [cell, cell | {"shift": "x", "policy": "y"}]) == 70
    assert guess_seconds([], [cell]) is None


def test_times_and_sizes():
    assert [describe_time(s) for s in (5.4, 119, 121, 3600)] == ["5 s", "2 min", "2 min", "1 h 0 min"]
    assert describe_time(9000) == "2 h 30 min"
    assert [describe_size(s) for s in (0, 740 * 2**20, 9 * 2**29)] == ["–", "740 MiB", "4.5 GiB"]


def test_a_narrow_terminal_keeps_the_oracle_mark(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line = {"shift": "news to medical", "method": "source-only", "policy": "full", "seeds": "1 of 2"}
    line |= {"source accuracy": "63.8 ± 1.0", "target accuracy (oracle)": "57.5 ± 2.0", "harm": "0 of 2"}
    line |= {"seconds": "122", "memory": "1.2 GiB"}
    print_table([line, line | {"method": "mmd"}], "Results")
    printed = capsys.readouterr().out
    assert "Results · news to medical · full" in printed
    assert "(oracle)" in printed
    assert "…" not in printed
