"""`forward_by_domain`: source and target rows in turn come to what they come to together, with less padding."""

from __future__ import annotations

import families
import pictures
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from test_chunked_forward import STILL

from hftransfer import AdaptationConfig
from hftransfer.trainers.batch_rows import BatchRows
from hftransfer.trainers.setup.plan import plan
from hftransfer.trainers.step.feature_forward import ForwardOutputs
from hftransfer.trainers.step.per_domain_forward import PerDomainForward

EVERY = {name: {"weight": 1.0, "schedule": "constant"} for name in ("coral", "nt_xent", "vat")}
SHORT, LONG = 3, 20  # words at most


def step(folder, model, **settings):
    """Loss, gradients and widths of the model's calls in one joint batch, whose source texts are much the shorter."""
    data = {
        "train_dataset": settings.pop("train_dataset", tiny.domain(longest=SHORT)),
        "target_dataset": settings.pop("target_dataset", tiny.domain(seed=1, labelled=False, longest=LONG)),
    }
    run = runs.trainer(folder, model, per_device_train_batch_size=6, **data, **settings)
    batch, module, widths = next(iter(run.get_train_dataloader())), run.model.train(), []
    embeddings = module.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, args, out: widths.append(args[0].shape[1]))
    torch.manual_seed(0)
    output = module(**batch)
    hook.remove()
    output.loss.backward()
    return output.loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}, widths


def same(found, want) -> None:
    torch.testing.assert_close(found[0], want[0], rtol=1e-5, atol=1e-6)
    assert found[1].keys() == want[1].keys()
    for name, gradient in want[1].items():
        difference = (found[1][name] - gradient).norm().item()
        assert difference <= 1e-4 * max(gradient.norm().item(), 1e-2), name


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_loss_and_gradient_are_those_of_one_forward(family, adapter, tmp_path):
    """Padded on the right, and, as decoders are, on the left."""
    tokenizer = families.tokenizer()
    tokenizer.padding_side = "left" if family == "llama" else "right"
    make = lambda: tiny.bert(**STILL) if family == "bert" else families.build("llama")  # noqa: E731
    given = {"objectives": {**EVERY, "mmd": {"features": "hidden:0"}}, "peft_config": adapter}
    together, apart = (
        step(tmp_path / f"{by_domain}", make(), forward_by_domain=by_domain, processing_class=tokenizer, **given)
        for by_domain in (False, True)
    )
    same(apart, together)
    assert len(together[2]) + 1 == len(apart[2])
    assert apart[2][0] <= SHORT + 3 < together[2][0] == apart[2][1]  # [CLS], the label's word, [SEP]


def test_tagging_in_turn_is_tagging_together(tmp_path):
    data = {
        "train_dataset": tiny.tagged(longest=SHORT),
        "target_dataset": tiny.tagged(seed=1, labelled=False, longest=LONG),
        "objectives": EVERY,
    }
    together, apart = (
        step(
            tmp_path / f"{by_domain}", tiny.bert(tiny.TAGS, tagging=True, **STILL), forward_by_domain=by_domain, **data
        )
        for by_domain in (False, True)
    )
    same(apart, together)
    assert apart[2][0] < together[2][0]


@pytest.mark.parametrize("of", ["logits", "features", "attention"])
def test_a_teacher_is_compared_with_at_the_same_places(of, tmp_path):
    objective = {"kind": f"distill_{of}", "weight": 1.0, "schedule": "constant"}
    objective |= {"features": "hidden:0"} if of == "features" else {}
    model = lambda seed=0: tiny.bert(seed=seed, initializer_range=0.2, **STILL)  # noqa: E731
    model(seed=1).save_pretrained(tmp_path / "teacher")
    tiny.tokenizer().save_pretrained(tmp_path / "teacher")
    given = {"objectives": {"d": objective}, "teacher": str(tmp_path / "teacher"), "task_weight": 0.0}
    together, apart = (
        step(tmp_path / f"{by_domain}", model(), forward_by_domain=by_domain, **given) for by_domain in (False, True)
    )
    assert together[0] > 1e-6
    same(apart, together)


def test_pieces_of_each_domain(tmp_path):
    given = {"objectives": EVERY, "forward_by_domain": True}
    whole, pieces = (step(tmp_path / f"{rows}", tiny.bert(**STILL), forward_rows=rows, **given) for rows in (None, 4))
    same(pieces, whole)


def test_a_run_in_turn_resumes_to_the_bit(tmp_path):
    def go(folder, steps, resume=None):
        run = runs.trainer(
            folder,
            max_steps=steps,
            save_strategy="steps",
            save_steps=3,
            forward_by_domain=True,
            lr_scheduler_type="constant",
        )
        run.train(resume_from_checkpoint=resume)
        return run

    runs.resumed_is_alike(go, tmp_path)


def test_without_spans_rows_keep_their_width():
    seen = []

    def forward(model, inputs, rows):
        seen.append(tuple(inputs["input_ids"].shape))
        return ForwardOutputs(inputs["input_ids"].float(), {}, {})

    ids = torch.arange(20).view(5, 4)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "other": None}
    outputs = PerDomainForward(forward)(torch.nn.Identity(), inputs, BatchRows(2, 5))
    assert seen == [(2, 4), (3, 4)]
    assert torch.equal(outputs.logits, ids.float())


def test_batch_norm_must_not_want_both_domains_at_once(tmp_path):
    given = {
        "train_dataset": pictures.pictures(),
        "target_dataset": pictures.pictures(labelled=False),
        "processing_class": pictures.processor(),
        "forward_by_domain": True,
    }
    with pytest.raises(ValueError, match=r"batch_norm='joint' .* Set batch_norm='separate' or 'frozen'"):
        runs.trainer(tmp_path, pictures.resnet(), **given)
    for mode in ("separate", "frozen"):
        runs.trainer(tmp_path, pictures.resnet(), batch_norm=mode, **given).train()


def padding_row(folder, longest: int, **settings) -> str:
    run = runs.trainer(
        folder,
        train_dataset=tiny.domain(longest=SHORT),
        target_dataset=tiny.domain(seed=1, labelled=False, longest=longest),
        **settings,
    )
    return plan(run.args, run.prepared)["padding"]


def test_the_plan_says_when_it_is_worth_it(tmp_path):
    assert "forward_by_domain" not in padding_row(tmp_path, SHORT)
    told = padding_row(tmp_path, LONG)
    assert told.endswith("with forward_by_domain")
    together, apart = (int(part.split(" %")[0]) for part in told.split("; "))
    assert together >= apart + 15
    assert padding_row(tmp_path, LONG, forward_by_domain=True).startswith(f"{apart} % of the tokens ({together} %")


def test_it_is_off_unless_asked_for():
    assert not AdaptationConfig(output_dir="out", use_cpu=True).forward_by_domain
