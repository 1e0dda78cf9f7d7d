"""Strong views of target rows: hidden spans, functions of the user's, pictures; and what refuses them."""

from __future__ import annotations

import numpy as np
import pictures
import pytest
import runs
import tiny
import torch

from hftransfer.trainers.step.strong_views import HiddenSpan

FULL = {"weight": 1.0, "schedule": "constant"}


def rows(count: int = 200, seed: int = 0) -> dict[str, torch.Tensor]:
    """Ids of 2 to 20 tokens, padded on the right with zeros."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 21, (count, 1), generator=g)
    mask = (torch.arange(20) < lengths).long()
    return {"input_ids": torch.randint(1, 60, (count, 20), generator=g) * mask, "attention_mask": mask}


def test_a_span_of_the_inner_tokens_is_hidden():
    inputs = rows()
    hidden = HiddenSpan(0.3)(inputs)["attention_mask"]
    for before, after in zip(inputs["attention_mask"].numpy(), hidden.numpy(), strict=True):
        length, gone = before.sum(), np.flatnonzero(before != after)
        inner = length - 2
        assert len(gone) == (max(1, round(0.3 * inner)) if inner > 0 else 0)
        assert not len(gone) or (gone[0] > 0 and gone[-1] < length - 1 and gone[-1] - gone[0] + 1 == len(gone))


def test_starts_are_spread_and_differ_by_call_and_row():
    inputs, module = rows(), HiddenSpan(0.15)
    calls = [module(inputs)["attention_mask"] for _ in range(30)]
    long = inputs["attention_mask"].sum(1) == 20  # a span of 3 of 18: 16 places
    starts = torch.stack([(mask == 0).long().argmax(1)[long] for mask in calls])
    assert set(starts.flatten().tolist()) == set(range(1, 17))
    counts = torch.bincount(starts.flatten(), minlength=17)[1:]
    assert counts.max() < 2.5 * counts.float().mean()
    assert (starts[0] != starts[1]).any()
    assert len(starts[0].unique()) > 1


def test_a_row_is_cut_alike_wherever_it_stands_and_however_it_is_padded():
    inputs = rows(16)
    alone = HiddenSpan()(inputs)["attention_mask"]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = {k: torch.nn.functional.pad(v[order], (5, 3)) for k, v in inputs.items()}
    assert torch.equal(HiddenSpan()(moved)["attention_mask"][:, 5:-3], alone[order])


def test_what_was_drawn_goes_on_with_the_state_and_nothing_else_is_drawn_from():
    inputs, first, second = rows(8), HiddenSpan(), HiddenSpan()
    state = torch.get_rng_state()
    first(inputs)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(inputs)["attention_mask"], second(inputs)["attention_mask"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tagging", [False, True], ids=["sequences", "words"])
def test_the_model_sees_the_second_view_of_target_rows_cut(tmp_path, tagging):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)} if tagging else {}
    model = tiny.bert(tiny.TAGS if tagging else tiny.LABELS, tagging)
    run = runs.trainer(tmp_path, model, objectives={"fixmatch": {**FULL, "threshold": 0.0, "cutoff": 0.5}}, **data)
    inputs, seen = next(iter(run.get_train_dataloader())), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    out = run.model.train()(**inputs)
    n, total = inputs["num_source"], len(inputs["domain"])
    mask, ids = seen[0]["attention_mask"], seen[0]["input_ids"]
    assert len(mask) == 2 * total - n
    assert torch.equal(mask[:total], inputs["attention_mask"])
    assert torch.equal(ids[total:], inputs["input_ids"][n:])
    assert (mask[total:] < mask[n:total]).any(1).sum() > 0
    assert (mask[total:] <= mask[n:total]).all()
    assert out.losses[1] > 0


def doubled(inputs):
    """Every token hidden but the first two."""
    mask = inputs["attention_mask"].clone()
    mask[:, 2:] = 0
    return inputs | {"attention_mask": mask}


def test_a_function_makes_the_view(tmp_path):
    model = tiny.bert()
    run = runs.trainer(tmp_path, model, objectives={"fixmatch": {**FULL, "function": doubled}})
    inputs, seen = next(iter(run.get_train_dataloader())), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True)
    run.model.train()(**inputs)
    total = len(inputs["domain"])
    assert seen[0][total:].sum(1).max() == 2
    assert torch.equal(seen[0][:total], inputs["attention_mask"])


@pytest.mark.parametrize("made", [None, {}, {"input_ids": torch.zeros(1)}], ids=["nothing", "no ids", "a wrong shape"])
def test_a_function_that_returns_something_else_is_told(tmp_path, made):
    run = runs.trainer(tmp_path, objectives={"fixmatch": {**FULL, "function": lambda inputs: made}})
    with pytest.raises(ValueError, match="must return a dict with"):
        run.train()


@pytest.mark.parametrize("augment", ["none", "weak"])
def test_of_pictures_the_second_view_is_augmented_strongly(tmp_path, augment):
    given = {"train_dataset": pictures.pictures(12), "target_dataset": pictures.pictures(12, 1, labelled=False)}
    given |= {"processing_class": pictures.processor(), "model": pictures.resnet(), "augment": augment}
    run = runs.trainer(tmp_path / "run", objectives={"fixmatch": FULL}, **given)
    plain = runs.trainer(tmp_path / "plain", objectives={"mmd": 0.1}, **given)
    weak = runs.trainer(tmp_path / "weak", objectives={"fixmatch": {**FULL, "view": "same"}}, **given)
    batch, before, same = (next(iter(one.get_train_dataloader()))["pixel_values"] for one in (run, plain, weak))
    assert torch.equal(batch[: len(before)], before)  # what is not a second view is as it was
    views = batch[len(before) :]
    assert len(views) == 4
    assert all(not torch.equal(view, row) for view, row in zip(views, before[4:], strict=True))
    if augment == "weak":
        assert not torch.equal(views, same[len(before) :])
    else:
        assert len(same) == len(before)  # nothing is drawn: the rows are repeated in the model
    run.train()


def test_what_has_no_effect_is_refused(tmp_path):
    given = {"train_dataset": pictures.pictures(12), "target_dataset": pictures.pictures(12, 1, labelled=False)}
    given |= {"processing_class": pictures.processor(), "model": pictures.resnet()}
    with pytest.raises(ValueError, match="cutoff=0.3 hides tokens of texts"):
        runs.trainer(tmp_path, objectives={"fixmatch": {"cutoff": 0.3}}, **given)
