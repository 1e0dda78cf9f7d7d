"""`adapt_source_free`: a source model, or its answers alone, and unlabelled target rows; no source row is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.given_predictions import GivenPredictions, read_predictions
from ..reporting.console import print_lines
from ..reporting.source_free_card import SourceFreeFacts, source_free_section
from ..selection.class_frequencies import LabelShiftEstimate
from ..selection.source_free_rule import SourceFreeJudgement, SourceFreeRule
from ..settings import read_choice
from ..stages import stage
from ..trainers.config import AdaptationConfig
from ..trainers.hub.push import create_repo, push_folder, upload_command
from ..trainers.saving.process_agreement import check_same_everywhere, decided_by_first
from .given_arguments import as_backbone, check_places, check_thresholds
from .output_exchange import replacing
from .settings_hash import settings_hash
from .source_free_data import check_source_free_settings, load_target, with_source_free_defaults
from .source_free_hand_over import write_source_free_model
from .source_free_run import SourceFreeRun
from .source_free_verdict import SourceFreeVerdict, decide
from .working_folder import CANDIDATES, remove_replaced, start_run, working_in

Method = Literal["shot", "shot_im"]
RESULT = "source_free.json"


@dataclass(frozen=True)
class SourceFreeAdaptation:
    """Result of `adapt_source_free`.

    Args:
        verdict: `"adapted"`, `"corrected"` (the start model, its final layer corrected for believed class frequencies)
            or `"unchanged"`; from predictions `"student"` or `"refused"`.
        model: folder of the plain model; `None` where a student is refused.
        reasons: plain sentences.
        judgement: what decided.
        shift: estimate of the target's class frequencies; `None` where the source's numbers are not there.
        facts: what the card says, what left each site among it.

    Example:
        >>> result = adapt_source_free("runs/teacher", medical, "out", args=AdaptationConfig("out", max_steps=2))
        >>> result.verdict in ("adapted", "corrected", "unchanged")
        True
    """

    verdict: str
    model: Path | None
    reasons: list[str]
    judgement: SourceFreeJudgement
    shift: LabelShiftEstimate | None
    facts: SourceFreeFacts


def adapt_source_free(
    model: Any,
    target: Any,
    output_dir: str | Path | None = None,
    *,
    method: Method = "shot",
    predictions: Any = None,
    labels: Sequence[str] | None = None,
    epsilon: float = 0.1,
    source_numbers: bool = True,
    correct_start: bool = False,
    test: Any = None,
    rule: SourceFreeRule | None = None,
    args: AdaptationConfig | None = None,
    processing_class: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset_names: Mapping[str, str] | None = None,
) -> SourceFreeAdaptation:
    """One plain model for an unlabelled target from a fine-tuned source model, without a row of the source.

    The backbone trains on target rows with the classifier frozen (SHOT). The result replaces the start model only if
    it passes gates that need no label; otherwise the start is handed over as it is, or with `correct_start` corrected
    for class frequencies, where the source's numbers are in its config and the estimate is believed. A run that was
    stopped goes on with the same call. There is no argument for source rows.

    Args:
        model: Hub id or folder of the model that was fine-tuned on the source. With `predictions`, of any backbone,
            the student's, or a dict of settings of one from scratch.
        target: unlabelled rows, or what to load as in `load_shift`. Its labels, if any, are never read.
        output_dir: for the model; `args.output_dir` when `None`.
        method: `"shot"`, or `"shot_im"` without pseudo-labels.
        predictions: instead of a source model, what an interface answered on the target rows; see `read_predictions`.
            A student learns from them (DINE).
        labels: class names of `predictions`, where they do not name them.
        epsilon: with labels alone in `predictions`, what each leaves to the other classes.
        source_numbers: read the source's numbers that stand in the model's config, if any.
        correct_start: correct a start model that stays for believed class frequencies, and refuse an adapted one that
            lies further from them. Counts alone cannot tell a shift of inputs from one of frequencies: use it where
            you know of the latter.
        test: labelled target rows that are only ever shown, as oracle; the target's own test split when it is loaded.
        rule: decides; `SourceFreeRule()` when `None`.
        args: settings of the training run. When `None`, they fit the model.
        processing_class, model_kwargs: as in `AdaptationTrainer`.
        dataset_names: what the card calls the target.

    Returns:
        The verdict with its reasons; the model is in `output_dir`, and with `args.push_to_hub` on the Hub.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model or settings, before training.
        FileExistsError: the output folder holds another run.

    Papers: Liang, Hu and Feng, Do We Really Need to Access the Source Data?, ICML 2020; Liang et al., DINE: Domain
    Adaptation from Single and Multiple Black-box Predictors, CVPR 2022.

    Example:
        >>> result = adapt_source_free("runs/teacher", medical, "out", args=AdaptationConfig("out", max_steps=2))
        >>> (result.model / "model.safetensors").is_file()
        True
    """
    _check_arguments(method, predictions, labels, epsilon, source_numbers, correct_start, rule, args, model_kwargs)
    model = as_backbone(model)
    if predictions is None and isinstance(model, dict):
        raise ValueError(
            "model is settings of one from scratch, which has learned nothing of the source. Give a fine-tuned model, "
            "or an interface's predictions of the target rows."
        )
    names_settings = args is not None
    if args is None:
        args = AdaptationConfig(output_dir=str(output_dir or "adapted"), disable_tqdm=True, report_to="none")
    check_source_free_settings(args)
    data = load_target(target, test, args)
    if not names_settings:
        args = with_source_free_defaults(args, (), model, data, predictions is not None, model_kwargs)
    folder = Path(str(output_dir if output_dir is not None else args.output_dir))
    check_places(model, folder)
    args = dataclasses.replace(args, output_dir=str(folder))
    target_rows: Any = data.target
    given = None if predictions is None else read_predictions(predictions, len(target_rows), labels)
    if given is not None:
        given.smoothed(epsilon)  # whatever is wrong is said before anything is loaded
    rule = rule or SourceFreeRule()
    run = SourceFreeRun.of(
        model, args, data, given, epsilon, method, rule.layer, processing_class, model_kwargs, dataset_names
    )
    with working_in(folder, args):
        parts = run.inputs.parts | _hashes(method, given, epsilon)
        key = settings_hash(**parts)[:16]
        check_same_everywhere(parts | {"output_dir": str(folder.absolute())}, args.world_size)
        run.check_model()
        if args.push_to_hub:
            args.hub_model_id = create_repo(args) or args.hub_model_id
        decided_by_first(lambda: start_run(folder, key, parts, args, (RESULT,)), args.world_size)
        run.start(folder / CANDIDATES, key)
        numbers = run.source_numbers() if source_numbers else None
        run.train()
        with stage("judging the model"):
            verdict = decide(run, numbers, source_numbers, rule, correct_start)
        with stage("handing over the model"):
            decided_by_first(lambda: _write(folder, run, verdict), args.world_size)
            decided_by_first(lambda: remove_replaced(folder / CANDIDATES, key), args.world_size)
        if args.push_to_hub and verdict.hands_over:
            with stage("pushing to the Hub"):
                push_folder(args, folder)
    return SourceFreeAdaptation(
        verdict.facts.verdict,
        folder if verdict.hands_over else None,
        list(verdict.facts.reasons),
        verdict.judgement,
        verdict.shift,
        verdict.facts,
    )


def print_source_free(result: SourceFreeAdaptation, push_hint: bool = True) -> None:
    """Result of `adapt_source_free`, printed.

    Args:
        result: what it returned.
        push_hint: show the command that pushes the model.

    Example:
        >>> args = AdaptationConfig("out", max_steps=2)
        >>> print_source_free(adapt_source_free("runs/teacher", medical, args=args))
    """
    facts = result.facts
    print_lines("", f"Verdict: {facts.verdict}. {facts.headline}", *(f"- {reason}" for reason in facts.reasons))
    if facts.oracle:
        accuracies = ", ".join(f"{name} {100 * value:.1f}" for name, value in facts.oracle.items())
        print_lines("", f"Accuracy on the target's test split (oracle: read from its labels, used for no choice): "
                        f"{accuracies}")  # fmt: skip
    print_lines("", f"What left the source's site: {'; '.join(facts.left_source)}. No row.")
    if result.model is None:
        return
    print_lines("", f"The model is in {result.model}.")
    if push_hint:
        name = f"your-name/{result.model.absolute().name}"
        print_lines("Push it:", "", f"  {upload_command(name, str(result.model))}", "")


def _check_arguments(
    method: Any,
    predictions: Any,
    labels: Any,
    epsilon: Any,
    source_numbers: Any,
    correct_start: Any,
    rule: Any,
    args: Any,
    model_kwargs: Any,
) -> None:
    read_choice("method", method, Method)
    if args is not None and not isinstance(args, AdaptationConfig):
        raise TypeError(f"args must be an AdaptationConfig, not {type(args).__name__}.")
    if rule is not None and not isinstance(rule, SourceFreeRule):
        raise TypeError(f"rule must be a SourceFreeRule, not {type(rule).__name__}.")
    if rule is not None:
        check_thresholds(rule)
    if model_kwargs is not None and not isinstance(model_kwargs, Mapping):
        raise TypeError(
            f"model_kwargs must be a dict of options of from_pretrained, not {type(model_kwargs).__name__}."
        )
    if not isinstance(source_numbers, bool):
        raise TypeError(f"source_numbers must be True or False, not {source_numbers!r}.")
    if not isinstance(correct_start, bool):
        raise TypeError(f"correct_start must be True or False, not {correct_start!r}.")
    if correct_start and (predictions is not None or not source_numbers):
        why = "predictions are no model that could be corrected" if source_numbers else "source_numbers are not read"
        raise ValueError(f"correct_start has no effect: {why}. Leave it out.")
    if predictions is None:
        for name, value, default in (("labels", labels, None), ("epsilon", epsilon, 0.1)):
            if value != default:
                raise ValueError(f"{name} is about predictions of an interface, and there are none. Leave it out.")
    elif method != "shot":
        raise ValueError(f"method={method!r} is for a source model; a student learns from predictions. Leave it out.")
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of class names, not the text {labels!r:.60}.")


def _hashes(method: str, given: GivenPredictions | None, epsilon: float) -> dict[str, str]:
    """Hashes of what the run is made from besides rows, model and settings."""
    hashes = {"the method": method if given is None else f"predictions, epsilon {epsilon:g}"}
    if given is not None:
        hashes["the predictions"] = settings_hash(names=given.class_names, values=given.probabilities, hard=given.hard)
    return hashes


def _write(folder: Path, run: SourceFreeRun, verdict: SourceFreeVerdict) -> None:
    """Model, card and `source_free.json`, in exchange for what was there."""
    facts = verdict.facts
    result = {
        "verdict": facts.verdict,
        "reasons": list(facts.reasons),
        "agreement": verdict.judgement.agreement,
        "votes": list(verdict.judgement.votes),
        "failed": list(verdict.judgement.failed),
        "left_source": list(facts.left_source),
        "left_target": list(facts.left_target),
        "class_frequencies": dict(facts.frequencies),
        "oracle": dict(facts.oracle),
    }
    with replacing(folder) as staging:
        if verdict.hands_over:
            write_source_free_model(run, verdict, staging, source_free_section(facts))
        (staging / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
