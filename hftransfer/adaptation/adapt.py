"""`adapt`: one better model for the target, chosen without its labels, handed over with the reasons."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..reporting.adaptation_card_section import card_section
from ..reporting.adaptation_facts import AdaptationFacts, CostFacts
from ..reporting.adaptation_report import write_report
from ..reporting.console import print_lines
from ..reporting.source_free_card import counts_in_config
from ..selection.domain_distance import explain_domain_distance
from ..selection.rule import SelectionRule
from ..selection.shift_kind import describe_shift
from ..selection.target_accuracy import AccuracyEstimate
from ..stages import stage
from ..trainers.config import AdaptationConfig
from ..trainers.hub.push import create_repo, push_folder
from ..trainers.saving.process_agreement import check_same_everywhere, decided_by_first, raise_together
from .answer_judging import AnswerFindings, check_answers, judge_with_answers
from .answer_reading import read_answers
from .asking import ask_for, check_asking, what_to_do
from .candidate_list import CandidateRecipe, candidate_list, read_candidates
from .candidate_maker import CandidateMaker
from .candidate_run import CandidateRunner
from .changed_answers import changed_rows
from .given_arguments import as_backbone, check_arguments, check_places
from .given_domains import load_domains
from .hand_over import correction_obstacle, source_numbers, write_model
from .judging import Verdicts, judge
from .look import look_at
from .output_exchange import replacing
from .question_file import TargetCells
from .refused_settings import check_run_settings
from .report_facts import report_facts
from .run_inputs import RunInputs
from .self_training_rounds import check_rounds, with_rounds
from .training_defaults import with_training_defaults
from .working_folder import CANDIDATES, REPORT, RESULT, remove_replaced, start_run, working_in

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass(frozen=True)
class Adaptation:
    """Result of `adapt`.

    Args:
        verdict: `"adapted"`, `"corrected"` (source-only with free corrections) or `"source-only"` (do not adapt).
        chosen: name of the candidate that was handed over.
        model: folder of the plain model.
        reasons: plain sentences.
        estimated_accuracy: on the target, with an 80 % interval; computed without its labels, or from `answers`.
        verdicts: scores, ranks, gates and estimates behind it.
        report: the HTML page beside the model.
        facts: all that the page shows.
        questions: the file of target rows to label, with `ask`.
        answers: what `answers` came to.

    Example:
        >>> result = adapt("runs/teacher", news, medical, "out", effort="quick", validation=news_validation)
        >>> result.report.name, (result.model / "model.safetensors").is_file()
        ('report.html', True)
    """

    verdict: str
    chosen: str
    model: Path
    reasons: list[str]
    estimated_accuracy: AccuracyEstimate | None
    verdicts: Verdicts
    report: Path
    facts: AdaptationFacts
    questions: Path | None = None
    answers: AnswerFindings | None = None

    def __str__(self) -> str:
        return f"{self.verdict}: {self.chosen}; estimated accuracy on the target {self.estimated_accuracy}"


def adapt(
    model: Any,
    source: Any,
    target: Any,
    output_dir: str | Path | None = None,
    *,
    effort: str = "standard",
    validation: Any = None,
    test: Mapping[str, Any] | None = None,
    validation_fraction: float = 0.1,
    candidates: str | Path | Mapping[str, Any] | None = None,
    rule: SelectionRule | None = None,
    rounds: int | None = None,
    ask: int | None = None,
    answers: str | Path | None = None,
    args: AdaptationConfig | None = None,
    processing_class: Any = None,
    peft_config: PeftConfig | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset_names: Mapping[str, str] | None = None,
) -> Adaptation:
    """One plain model for an unlabelled target, chosen among candidates without target labels.

    Candidates are trained one after the other in `output_dir/_candidates`, each at most once: a second call goes on
    where the first was stopped, and a larger effort keeps what a smaller one made. Plain source-only always competes.

    Args:
        model: Hub id or folder of the backbone, or settings of one from scratch.
        source: labelled rows: a data set, a dict of several by name, or names to load as in `load_shift`.
        target: unlabelled rows, given the same way. Its labels, if any, are never read.
        output_dir: for the model and its report; `args.output_dir` when `None`.
        effort: `"quick"` (one source-only run and free corrections), `"standard"` (three runs, their mean, a student
            of it) or `"thorough"`.
        validation: labelled source rows that nothing is trained on; a dict by name for several sources. Held out of
            `source` when `None`.
        test: test splits by name, the target's under `"target"`, which only the report reads.
        validation_fraction: of the source, held out where there is no `validation`.
        candidates: a YAML file or a map of recipes instead of the effort's list; see `read_candidates`.
        rule: decides; `SelectionRule()` when `None`.
        rounds: how many rounds of self-training follow the student, each as long as the one before it is kept; those
        of
            the list when `None`: two of `"thorough"`, none of the other efforts.
        ask: how many target rows to ask a person for: they are written to `ask.csv` in the output folder.
        answers: such a file, filled in. Its labels tell the accuracy, decide between the candidates, and are trained
            on.
        args: settings of the training runs. When `None`, the learning rate follows the model's width.
        processing_class, peft_config, model_kwargs: as in `AdaptationTrainer`.
        dataset_names: what card and report call the domains.

    Returns:
        The verdict with its reasons; the model is in `output_dir`, and with `args.push_to_hub` on the Hub.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model or settings, before training.
        HubError: the Hub refused; the model is in `output_dir` if there is one by then.
        FileExistsError: the output folder holds another run, or questions that somebody has begun to answer.

    Example:
        >>> result = adapt(
        ...     "runs/teacher", news, medical, "news-to-medical", effort="quick", validation=news_validation
        ... )
        >>> result.verdict in ("adapted", "corrected", "source-only")
        True
    """
    started = time.monotonic()
    check_arguments(effort, candidates, rule, args, test=test, model_kwargs=model_kwargs, dataset_names=dataset_names)
    check_rounds(rounds)
    model = as_backbone(model)
    recipes = None if candidates is None else read_candidates(candidates)
    names_settings = args is not None
    if args is None:
        args = AdaptationConfig(output_dir=str(output_dir or "adapted"), disable_tqdm=True, report_to="none")
    data = load_domains(source, target, validation, test, validation_fraction, args)
    if not names_settings:
        args = with_training_defaults(args, (), model, data, peft_config, model_kwargs)
    check_run_settings(args)
    folder = Path(str(output_dir if output_dir is not None else args.output_dir))
    check_places(model, folder)
    args = dataclasses.replace(args, output_dir=str(folder))
    inputs = RunInputs(
        model,
        args,
        data.train,
        {name: data.validation[name] for name in data.train if name in data.validation},
        data.target,
        data.test,
        processing_class,
        peft_config,
        model_kwargs,
        dataset_names,
    )
    if recipes is None:
        recipes = candidate_list(effort, inputs.modality, from_scratch=isinstance(model, Mapping))
    recipes = with_rounds(recipes, rounds)
    with working_in(folder, args):
        look = raise_together(lambda: look_at(data, args), args.world_size)
        run = {"the list of candidates": str(recipes), "the rule": str(rule), "output_dir": str(folder.absolute())}
        run |= {"ask": str(ask), "answers": str(answers)}
        check_same_everywhere(inputs.parts | run, args.world_size)
        print_lines(*look.lines)
        runner = CandidateRunner(inputs, folder / CANDIDATES, _target_rows(inputs, recipes))
        maker = CandidateMaker(runner, recipes, rule or SelectionRule())
        maker.check(look.class_names)
        cells, population = TargetCells(inputs, look.task, look.class_names), runner.predictor.rows_to_predict
        given = None if answers is None else raise_together(lambda: read_answers(answers, cells), args.world_size)
        if given is not None:
            check_answers(given, population, [recipe.name for recipe in recipes])
        if ask is not None:
            check_asking(ask, folder, len(population), cells, given)
        if args.push_to_hub:  # a wrong token is known before anything is trained
            args.hub_model_id = create_repo(args) or args.hub_model_id
        decided_by_first(lambda: start_run(folder, runner.key, inputs.parts, args), args.world_size)
        outcomes = maker.make_all()
        with stage("judging the candidates"):
            judging_started = time.monotonic()
            first = next(outcome for outcome in outcomes if outcome.recipe.base and outcome.recipe.seed == 0)
            assert first.model is not None
            how = (rule or SelectionRule(), first.model.class_names, correction_obstacle(first))
            verdicts, findings = judge(outcomes, *how), None
            judged_seconds = time.monotonic() - judging_started
            if given is not None:
                verdicts, outcomes, findings = judge_with_answers(
                    given, verdicts, outcomes, runner, lambda all_outcomes: judge(all_outcomes, *how)
                )
            shift_lines = domain_lines(verdicts, first.proxy_a_distance)
            print_lines("", *shift_lines)
        with stage("handing over the model"):
            cost = CostFacts(time.monotonic() - started, judged_seconds)
            effort_shown = effort if candidates is None else "a list of its own"
            facts = report_facts(inputs, outcomes, verdicts, [*look.lines, *shift_lines], effort_shown, cost, findings)
            failed = {outcome.name: outcome.failure for outcome in outcomes if outcome.failure}
            decided_by_first(lambda: write_results(folder, verdicts, facts, inputs, failed), args.world_size)
            decided_by_first(lambda: remove_replaced(folder / CANDIDATES, runner.key), args.world_size)
            starts = [recipe.pretrain for recipe in recipes if recipe.pretrain is not None]
            decided_by_first(lambda: runner.starts.remove_unused(starts), args.world_size)
        questions = None
        if ask is not None:
            with stage("choosing rows to ask for"):
                count = ask
                questions = decided_by_first(
                    lambda: ask_for(folder, count, verdicts, population, cells, given), args.world_size
                )
            print_lines("", what_to_do(questions, ask, cells))
        if args.push_to_hub:
            with stage("pushing to the Hub"):
                push_folder(args, folder)
    chosen, report = verdicts.chosen, folder / REPORT
    return Adaptation(
        chosen.verdict,
        chosen.name,
        folder,
        list(facts.reasons),
        verdicts.accuracy,
        verdicts,
        report,
        facts,
        questions,
        findings,
    )


def domain_lines(verdicts: Verdicts, distance: float | None) -> list[str]:
    """Lines on how the domains differ, as the pretrained features and source-only's predictions tell."""
    kind = describe_shift(verdicts.base.plain(), verdicts.shift, distance)
    lines = [] if distance is None else [explain_domain_distance(distance)]
    return [*lines, *kind.sentences]


def write_results(
    folder: Path, verdicts: Verdicts, facts: AdaptationFacts, inputs: RunInputs, failed: Mapping[str, str]
) -> None:
    """Model, card, report and `adaptation.json` in the output folder, in exchange for what was there.

    Args:
        folder: the output folder.
        verdicts: from `judge`.
        facts: of the report.
        inputs: of the run.
        failed: candidate -> why there is no model of it.

    Raises:
        FileExistsError: files of somebody else's are in the way.
        DiskFullError: there is not enough room; what was there stays.
    """
    chosen = verdicts.chosen
    estimate = verdicts.accuracy
    result = {
        "verdict": chosen.verdict,
        "chosen": chosen.name,
        "reasons": list(facts.reasons),
        "estimated_accuracy": None
        if estimate is None or not estimate.known
        else [estimate.value, estimate.low, estimate.high],
        "answers": None if facts.answers is None else facts.answers.as_json(),
        "scores": verdicts.judgement.scores,
        "wins": verdicts.judgement.wins,
        "ranks": verdicts.judgement.ranks,
        "refused": verdicts.judgement.refused,
        "failed": dict(failed),
        "oracle": {candidate.name: dict(candidate.oracle) for candidate in facts.candidates if candidate.oracle},
        "source_test_accuracy": {c.name: c.source_accuracy for c in facts.candidates if c.source_accuracy is not None},
        "seconds": {c.name: c.seconds for c in facts.candidates if c.seconds is not None},
    }
    with replacing(folder) as staging:
        numbers = source_numbers(chosen, inputs)
        section = card_section(facts)
        if numbers is not None:
            section += f"\n{counts_in_config(numbers.rows, len(numbers.class_names))}\n"
        write_model(chosen.outcome, chosen.correction, staging, section, numbers)
        rows = changed_rows(inputs, verdicts, staging) if chosen is not verdicts.base else []
        write_report(dataclasses.replace(facts, changed_rows=rows), staging / REPORT)
        (staging / RESULT).write_text(json.dumps(result, indent=2), encoding="utf-8")


def _target_rows(inputs: RunInputs, recipes: list[CandidateRecipe]) -> int:
    """Target rows to predict: those that judge and, where a student learns, all that it sees."""
    if not any(recipe.learns_soft_labels for recipe in recipes):
        return inputs.judged_rows
    return min(len(inputs.target), max(inputs.judged_rows, round(inputs.rows_trained)))
