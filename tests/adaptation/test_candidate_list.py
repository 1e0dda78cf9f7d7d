"""Lists of candidates: what ships, and what is refused with the culprit and the remedy."""

from itertools import pairwise

import pytest

from hftransfer.adaptation.candidate_list import KEYS, candidate_list, read_candidates

PLAIN = {"source-only": {}}


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize(("effort", "most"), [("quick", 1), ("standard", 5), ("thorough", 13)])
def test_every_effort_has_a_list_within_its_cost(effort, modality, most):
    recipes = candidate_list(effort, modality)
    assert recipes[0].name == "source-only"
    assert recipes[0].base
    assert sum(recipe.cost for recipe in recipes) <= most
    assert all(recipe.about for recipe in recipes)


def test_a_larger_effort_keeps_what_a_smaller_one_made():
    for modality in ("text", "image"):
        lists = [
            {r.name: (r.seed, r.training, r.parts) for r in candidate_list(effort, modality)}
            for effort in ("quick", "standard", "thorough")
        ]
        for smaller, larger in pairwise(lists):
            assert smaller.items() <= larger.items()


def test_a_file_reads_as_the_map_that_it_holds(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("source-only: {}\nim:\n  training: {objectives: {im: 0.1}, learning_rate: 1e-4}\n")
    recipes = read_candidates(path)
    assert [r.name for r in recipes] == ["source-only", "im"]
    assert recipes[1].training == {"objectives": {"im": 0.1}, "learning_rate": 1e-4}
    assert [r.cost for r in recipes] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({}, "no plain source-only run"),
        ({"im": {"training": {"objectives": "im"}}}, "no plain source-only run"),
        ({"source-only": {"seed": 3}}, "no plain source-only run"),
        (PLAIN | {"a/b": {}}, "names a folder"),
        (PLAIN | {"../up": {}}, "names a folder"),
        (PLAIN | {"x": 3}, "must be a map"),
        (PLAIN | {"x": {"trainin": {}}}, "'training'"),
        (PLAIN | {"x": {"training": {"learning_rat": 1}}}, "'learning_rate'"),
        (PLAIN | {"x": {"training": {"output_dir": "y"}}}, "folder of its own"),
        (PLAIN | {"x": {"training": {"seed": 4}}}, "beside `training`"),
        (PLAIN | {"x": {"draw": "yes"}}, "true or false"),
        (PLAIN | {"x": {"draw": True}}, "name some in training"),
        (PLAIN | {"x": {"draw": True, "training": {"objectives": {"entropy": 0.1}}}}, "is left to draw"),
        (PLAIN | {"x": {"draw": True, "training": {"objectives": ["imm"]}}}, "'im'"),
        (PLAIN | {"x": {"seed": -1}}, "at least 0"),
        (PLAIN | {"x": {"seed": True}}, "whole number"),
        (PLAIN | {"x": {"mean_of": ["source-only"]}}, "at least two"),
        (PLAIN | {"x": {"mean_of": ["source-only", "source-onl"]}}, "'source-only'"),
        (PLAIN | {"x": {"student_of": "y"}, "y": {}}, "before it"),
        (PLAIN | {"x": {"student_of": ["source-only", "source-only"]}}, "one candidate"),
        (PLAIN | {"x": {"mean_of": ["source-only", "source-only"], "student_of": "source-only"}}, "stands alone"),
        (PLAIN | {"x": {"average_of": ["source-only", "source-only"], "training": {"seed": 1}}}, "cannot stand here"),
        (
            PLAIN | {"b": {"seed": 1}, "m": {"mean_of": ["source-only", "b"]}, "x": {"adabn_of": "m"}},
            "there is no model",
        ),
        (PLAIN | {"x": {"pretrain": 3}}, "must be a map of settings"),
        (PLAIN | {"x": {"pretrain": False}}, "must be a map of settings"),
        (PLAIN | {"x": {"pretrain": {"learning_rat": 1e-4}}}, "Did you mean 'learning_rate'"),
        (PLAIN | {"x": {"pretrain": {"output_dir": "runs/x"}}}, "a folder of its own"),
        (PLAIN | {"x": {"pretrain": {}, "start": "source-only"}}, "trains from the backbone"),
        (PLAIN | {"b": {"seed": 1}, "x": {"pretrain": {}, "mean_of": ["source-only", "b"]}}, "from the backbone"),
        ({"x": {"pretrain": {}}}, "no plain source-only run"),
        (PLAIN | {"x": {"probe": 1}}, "true or false"),
        (PLAIN | {"x": {"probe": True, "seed": 3}}, "stands alone"),
        (PLAIN | {"x": {"probe": True, "training": {"learning_rate": 1e-3}}}, "leave out training"),
        (PLAIN | {"x": {"probe": True, "student_of": "source-only"}}, "leave out student_of"),
        ({"x": {"probe": True}}, "no plain source-only run"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(entries, said):
    with pytest.raises(ValueError, match="candidates") as error:
        read_candidates(entries)
    assert said in str(error.value)


def test_the_keys_that_messages_list_are_those_that_are_read():
    others = {"mean_of", "average_of", "student_of", "round_of", "start", "adabn_of", "probe"}
    assert set(KEYS) == {"about", "seed", "training", "draw", "pretrain"} | others


def test_drawn_settings_are_the_seeds_and_lie_in_the_search_ranges():
    """What is given stays; the weight is drawn evenly in its logarithm."""

    def drawn(seed, objectives=("im", "swd")):
        entry = {"seed": seed, "draw": True, "training": {"objectives": list(objectives)}}
        return read_candidates(PLAIN | {"x": entry})[1].training["objectives"]

    assert drawn(3) == drawn(3) != drawn(4)
    settings = [drawn(seed) for seed in range(60)]
    weights = [s["im"]["weight"] for s in settings]
    assert all(0.01 <= w <= 1 for w in weights)
    assert 20 <= sum(w < 0.1 for w in weights) <= 40
    assert {s["swd"]["projections"] for s in settings} == {32, 128, 512}
    entry = {"draw": True, "training": {"objectives": {"im": {"weight": 0.3}}}}
    kept = read_candidates(PLAIN | {"x": entry})[1].training["objectives"]["im"]
    assert kept["weight"] == 0.3
    assert 0.5 <= kept["diversity"] <= 2
