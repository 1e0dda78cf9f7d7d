"""Plan of an adaptation: what was read, the candidates with their rough cost, and how they are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.domain_loading import LoadedDomains
from ..reporting.adaptation_console import print_planned_candidates
from ..reporting.console import print_lines
from ..reporting.report_text import times
from ..reporting.tables import print_facts
from ..trainers.config import AdaptationConfig
from ..trainers.setup.plan import plan
from ..trainers.setup.preparation import Prepared, prepare
from .candidate_list import CandidateRecipe, candidate_list, read_candidates
from .candidate_maker import CandidateMaker
from .candidate_run import CandidateRunner, source_set
from .look import look_at
from .refused_settings import check_run_settings
from .run_inputs import RunInputs
from .self_training_rounds import with_rounds
from .working_folder import CANDIDATES

KEPT = ("what trains", "what trains when", "features", "teacher", "source weights", "class weights", "runs on")


def print_adaptation_plan(
    model: Any,
    source: LoadedDomains,
    target: Any,
    *,
    args: AdaptationConfig,
    effort: str = "standard",
    candidates: str | Path | Mapping[str, Any] | None = None,
    rounds: int | None = None,
    given: Collection[str] = (),
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    dataset_names: Mapping[str, str] | None = None,
    look: bool = True,
) -> None:
    """Plan of an adaptation, printed; the model is loaded and all rows are encoded, nothing is trained or written.

    Args:
        source: the domains, from `load_shift`.
        look: print the look at the data too, which `adapt` prints by itself.
        given: names of the settings that the user gave, such as `RecipeParser.given`: others are said to be defaults.
        model, target, args, effort, candidates, rounds, processing_class, peft_config, model_kwargs, dataset_names: as
        in
            `adapt`.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model, candidates or settings.

    Example:
        >>> data = load_shift({"source": "sample"}, "sample")
        >>> print_adaptation_plan("runs/teacher", data, data.target, args=AdaptationConfig("out"), effort="quick")
    """
    check_run_settings(args)
    if candidates is not None:
        recipes = read_candidates(candidates)
    args = dataclasses.replace(args, epoch_by="source")  # as a source-only run counts
    prepared = prepare(
        model,
        args,
        source.train,
        target,
        {source_set(name): rows for name, rows in source.validation.items() if name in source.train} or None,
        processing_class,
        peft_config,
        model_kwargs,
    )
    prepared.encode_test_splits(source.test)
    if candidates is None:
        recipes = candidate_list(effort, prepared.encoder.modality, from_scratch=isinstance(model, Mapping))
    recipes = with_rounds(recipes, rounds)
    inputs = RunInputs(model, args, source.train, source.validation, target, peft_config=peft_config)
    runner = CandidateRunner(inputs, Path(str(args.output_dir)) / CANDIDATES, inputs.judged_rows)
    CandidateMaker(runner, recipes).check(prepared.label_space.names)
    print_facts(plan_rows(args, prepared, source, given, peft_config is not None), "Plan")
    if look:
        print_lines("The data:", *(f"- {line}" for line in look_at(source, args, prepared).lines))
    origin = f"effort {effort}" if candidates is None else "a list of its own"
    print_planned_candidates(
        [(recipe.name, recipe.about, times(recipe.cost) if recipe.cost else "little") for recipe in recipes],
        f"Candidates, {origin}",
    )
    cost = total_cost(recipes)
    print_lines(f"In all about {f'{cost:g} times ' * (cost > 1)}what one training on the source alone takes.")


def plan_rows(
    args: AdaptationConfig,
    prepared: Prepared,
    data: LoadedDomains,
    given: Collection[str],
    adapter: bool,
) -> dict[str, Any]:
    """Rows of the plan, in order.

    Args:
        args: the run's settings.
        prepared: of source and target.
        data: the domains.
        given: names of the settings that the user gave.
        adapter: LoRA-style partial transfer.
    """
    shown = plan(args, prepared, data.summaries)
    rows = {name: shown.pop(name) for name in ("task", "labels")}
    steps = shown.pop("steps")
    for name in list(shown):
        if name.startswith(("source", "target", "test of ")) and name != "source weights":
            rows[name] = shown.pop(name)
    rows |= {name: value for name, value in shown.items() if name.startswith("evaluation ") or name in KEPT}
    rows["a source-only run"] = steps
    rows["training"] = "\n".join(training_lines(args, prepared.encoder.modality, given, adapter))
    rows["saved to"] = str(args.output_dir)
    return rows


def training_lines(args: AdaptationConfig, modality: str, given: Collection[str], adapter: bool = False) -> list[str]:
    """Lines on learning rate and epochs, with where they come from unless the user gave them.

    Example:
        >>> training_lines(AdaptationConfig("out", learning_rate=2e-4), "text", ["num_train_epochs"])
        ["learning rate 0.0002 by the model's width; --learning_rate sets another", '3 epochs']
    """
    origin = "for an adapter" if adapter else "for images" if modality == "image" else "by the model's width"
    rate, epochs = (
        f"learning rate {args.learning_rate:g}",
        f"{args.num_train_epochs:g} epoch{'s' * (args.num_train_epochs != 1)}",
    )
    lines = [rate if "learning_rate" in given else f"{rate} {origin}; --learning_rate sets another"]
    if args.max_steps <= 0:
        lines.append(epochs if "num_train_epochs" in given else f"{epochs}; --num_train_epochs sets another number")
    return lines


def total_cost(recipes: Sequence[CandidateRecipe]) -> float:
    """Cost of all candidates beside one source-only run, roughly."""
    return sum(recipe.cost for recipe in recipes)
