"""Hyperparameter search: a new trainer for each trial, chosen without target labels; needs the extra `search`."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import BestRun

from ..data.domain_arguments import is_source_name
from ..extras import install_hint
from ..messages import nearest
from ..objectives.base import Range
from ..objectives.registry import REGISTRY
from .config import AdaptationConfig
from .metrics import SOFTMAX, lower_is_better
from .search_checks import check_fresh, check_space, read_objective
from .setup.model_init import call_model_init
from .trainer_access import config_of, joint_model_of

if TYPE_CHECKING:
    from optuna import Trial
    from transformers import Trainer

    from .setup.preparation import Prepared

logger = logging.getLogger(__name__)
PREFIX = "objectives."  # objectives.<name>.<setting>
FOLDER = "run-"  # of a trial, as in transformers
RECORD = "trial.json"  # what was tried there and what came of it, written when the trial ends
DECADE = 10.0  # rates are looked for between a tenth of what is configured and ten times it
NOT_SEARCHED = (
    "output_dir",
    "objectives",
    "push_to_hub",
    "hub_token",
    "resume_from_checkpoint",
    "metric_for_best_model",
)
STUDY = ("storage", "sampler", "pruner", "study_name", "load_if_exists")
RUN = ("timeout", "catch")


@dataclasses.dataclass(frozen=True)
class Aim:
    """Aim of a search: a function of the metrics of an evaluation, and which way is better.

    Args:
        read: of the metrics of all evaluation sets.
        direction: `"maximize"` or `"minimize"`, or a list of them where `read` gives several numbers.
        metric: its name, where it is a single metric.
    """

    read: Callable[[dict[str, float]], Any]
    direction: str | list[str]
    metric: str | None = None


class HyperparameterSearch:
    """Search over the settings of a trainer: a new trainer is trained and scored for each trial.

    Args:
        trainer: an `AdaptationTrainer`, which stays as it is.
        prepared: from `prepare`.
        arguments: of the trainer's constructor, by name.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared, arguments: Mapping[str, Any]):
        self.trainer, self.prepared, self.arguments = trainer, prepared, arguments
        self.args = config_of(trainer)

    def run(
        self,
        hp_space: Callable[[Trial], dict[str, Any]] | None,
        aim: Aim,
        n_trials: int,
        hp_name: Callable[[Trial], str] | None,
        options: Mapping[str, Any],
    ) -> BestRun | list[BestRun]:
        """Trials of the search, run; gives the best.

        Args:
            hp_space: of a trial, the settings to try; `default_space` when `None`.
            aim: from `find_aim`.
            n_trials: how many.
            hp_name: of a trial, the run's name in reports.
            options: of optuna, as `check` takes them.

        Returns:
            The best trial, or the best ones where the aim has several directions.

        Raises:
            ValueError: a setting that there is not, or no trial that came to an end.
        """
        import optuna

        several = isinstance(aim.direction, list)
        directions: dict[str, Any] = {"directions" if several else "direction": aim.direction}
        sampler = {"sampler": optuna.samplers.TPESampler(seed=self.args.seed)}
        study = optuna.create_study(**directions, **sampler | {k: options[k] for k in STUDY if k in options})
        suggest = hp_space or self.default_space
        first_run = _first_free(Path(str(self.args.output_dir)))
        folders: dict[int, int] = {}

        def run_trial(trial: Trial) -> Any:
            folders[trial.number] = run = max(first_run + len(folders), trial.number)
            trial.set_user_attr("run", run)
            return self._run_trial(trial, run, check_space(suggest(trial)), aim, hp_name)

        catch: tuple[Any, ...] = (FloatingPointError, *_exceptions(options.get("catch", ())))
        study.optimize(run_trial, n_trials=n_trials, timeout=options.get("timeout"), catch=catch)
        complete_trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if not complete_trials:
            pruned_trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.PRUNED,))
            remedy = "Let the pruner start later" if pruned_trials else "Narrow the space: lower the learning rates"
            raise ValueError(
                f"None of {len(study.trials)} trials came to an end that can be scored; {RECORD} in the folders of "
                f"{self.args.output_dir} says what became of each. {remedy}."
            )
        best: list[BestRun] = []
        for trial in study.best_trials if several else [study.best_trial]:
            score: Any = trial.values if several else trial.value
            best.append(BestRun(str(trial.user_attrs["run"]), score, trial.user_attrs["settings"]))
        return best if several else best[0]

    def check(self, hp_space: Any, n_trials: int, backend: str | None, options: Mapping[str, Any]) -> None:
        """Check that a search can run.

        Args:
            hp_space, n_trials, backend, options: as `AdaptationTrainer.hyperparameter_search` takes them.

        Raises:
            ImportError: optuna is not installed.
            TypeError: the space is no function.
            ValueError: an option that there is not, or a trainer whose trials could not be made or scored.
        """
        if backend not in (None, "optuna"):
            raise ValueError(f"backend={str(backend)!r}: hyperparameter_search runs its trials with 'optuna' alone.")
        if isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1:
            raise ValueError(f"n_trials={n_trials!r} must be a whole number of at least 1.")
        for name in options:
            if name not in (*STUDY, *RUN):
                option_names = (*STUDY, *RUN)
                suggestion = nearest(name, option_names)
                raise ValueError(
                    f"hyperparameter_search has no {name!r}; besides it takes {', '.join(option_names)}.{suggestion}"
                )
        if self.arguments["model_init"] is None and isinstance(self.arguments["model"], torch.nn.Module):
            raise ValueError(
                "hyperparameter_search builds a new model for each trial, and this trainer was given a loaded one: "
                "pass model_init, a function that returns a new model, instead of model; or the model's name."
            )
        if self.arguments["optimizers"] not in (None, (None, None)):
            raise ValueError(
                "hyperparameter_search makes an optimizer for each trial: leave `optimizers` out, and say it with "
                "optim or optimizer_cls_and_kwargs."
            )
        if not self.trainer.eval_dataset:
            raise ValueError("hyperparameter_search scores each trial on evaluation rows: pass eval_dataset.")
        if self.args.world_size > 1:
            raise ValueError("hyperparameter_search runs its trials in one process. Start it without a launcher.")
        if find_spec("optuna") is None:
            raise ImportError(f"hyperparameter_search needs optuna, which is not installed: {install_hint('search')}")
        if hp_space is not None and not callable(hp_space):
            raise TypeError(
                f"hp_space must be a function of an optuna trial, not {type(hp_space).__name__}, such as "
                'lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)}.'
            )

    def default_space(self, trial: Trial) -> dict[str, Any]:
        """Default search space: learning rates, and the objectives' `search` values.

        Args:
            trial: of optuna.
        """
        rates = ["learning_rate"]
        if any(True for objective in joint_model_of(self.trainer).objectives.values() for _ in objective.parameters()):
            rates.append("objective_lr_multiplier")
        settings: dict[str, Any] = {}
        for name in rates:
            middle = getattr(self.args, name) or 5e-5
            settings[name] = trial.suggest_float(name, middle / DECADE, middle * DECADE, log=True)
        for spec in self.args.objective_specs():
            for key, values in REGISTRY[spec.kind].search_ranges(spec.settings).items() if spec.weight else ():
                name = f"{PREFIX}{spec.name}.{key}"
                if isinstance(values, Range):
                    settings[name] = trial.suggest_float(name, values.low, values.high, log=values.log)
                else:
                    settings[name] = trial.suggest_categorical(name, values)
        return settings

    def find_aim(
        self, compute_objective: Callable[[dict[str, float]], Any] | None, direction: str | list[str] | None
    ) -> Aim:
        """Aim of the search; none that reads target labels, unless the config allows it.

        Args:
            compute_objective, direction: as `AdaptationTrainer.hyperparameter_search` takes them.

        Raises:
            ValueError: a direction that is none, is missing beside the user's own function, or is the wrong way
                round.
        """
        args = self.args
        if direction is not None:
            for one_direction in direction if isinstance(direction, list) else [direction]:
                if one_direction not in ("maximize", "minimize"):
                    raise ValueError(f"direction={one_direction!r} must be 'maximize' or 'minimize'.")
        if compute_objective is not None:
            if direction is None:
                raise ValueError("Beside compute_objective, say direction: 'maximize' or 'minimize'.")
            return Aim(lambda metrics: read_objective(compute_objective, metrics, args, direction), direction)
        metric = args.metric_for_best_model and f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        if metric is None:
            names = list(self.prepared.evaluation or ())
            targets = [name for name in names if not is_source_name(name, self.prepared.source_names)]
            label_free = self.prepared.label_space.task in SOFTMAX and not args.prediction_loss_only
            label_metric = {"regression": "mse", "multi-label-classification": "macro_f1"}.get(
                self.prepared.label_space.task, "accuracy"
            )
            computes_ours = self.arguments["compute_metrics"] is None and not args.prediction_loss_only
            if targets and label_free and self.trainer.preprocess_logits_for_metrics is None:
                metric = f"eval_{targets[0]}_information"
            elif len(targets) < len(names):
                source = next(name for name in names if name not in targets)
                metric = f"eval_{source}_{label_metric if computes_ours else 'loss'}"
            else:
                raise ValueError(
                    "hyperparameter_search has nothing to choose by that needs no target labels: put a source's rows "
                    "into eval_dataset."
                )
            higher_is_better = not lower_is_better(metric)
        else:
            higher_is_better = bool(args.greater_is_better)
        best_direction = "maximize" if higher_is_better else "minimize"
        if direction not in (None, best_direction):
            raise ValueError(
                f"direction={direction!r} would look for the worst {metric}; leave it out, or {best_direction!r}."
            )
        return Aim(lambda metrics: _value(metrics, metric), best_direction, metric)

    def _run_trial(
        self,
        trial: Trial,
        run: int,
        settings: dict[str, Any],
        aim: Aim,
        hp_name: Callable[[Trial], str] | None,
    ) -> Any:
        """Score of one trial, trained in a folder of its own."""
        import optuna

        trial.set_user_attr("settings", settings)
        folder = Path(str(self.args.output_dir)) / f"{FOLDER}{run}"
        changes = {"output_dir": str(folder), "push_to_hub": False, "resume_from_checkpoint": None}
        config = with_hyperparameters(
            self.args, settings, run_name=hp_name(trial) if hp_name else folder.name, **changes
        )
        arguments = dict(self.arguments)
        model, make = arguments.pop("model"), arguments.pop("model_init")
        arguments["callbacks"] = [
            c if isinstance(c, type) else copy.deepcopy(c) for c in arguments.get("callbacks") or ()
        ]
        reporting = Reporting(trial, aim.metric) if aim.metric else None
        arguments["callbacks"] += [reporting] if reporting else []
        outcome: dict[str, Any] = {"state": "failed", "settings": settings}
        fresh: Trainer | None = None
        try:
            if make is not None:
                model = check_fresh(call_model_init(make, trial), self.prepared.model)
            fresh = type(self.trainer)(model, config, **arguments)
            fresh.train()
            if reporting is not None and reporting.pruned:
                outcome["state"] = "pruned"
                raise optuna.TrialPruned
            value = aim.read(fresh.evaluate())
            outcome |= {"state": "done", "value": value}
            return value
        except optuna.TrialPruned:
            raise
        except Exception as error:
            outcome["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            _write(folder / RECORD, outcome)
            fresh = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def with_hyperparameters(
    config: AdaptationConfig, settings: Mapping[str, Any], **other_fields: Any
) -> AdaptationConfig:
    """A copy of a config with the settings that a search found.

    Args:
        config: is left as it is.
        settings: fields of the config, and `objectives.<name>.<setting>`.
        **further: more fields.

    Raises:
        ValueError: there is no such field, objective or setting, or it is not one to search over.
    """
    fields = {field.name for field in dataclasses.fields(config) if field.init}
    field_values = {key: value for key, value in settings.items() if not key.startswith(PREFIX)}
    for key in field_values:
        if key not in fields or key in NOT_SEARCHED:
            reason = "is nothing to search over" if key in fields else "is no setting of AdaptationConfig"
            raise ValueError(f"hp_space: {key!r} {reason}.{nearest(key, fields - set(NOT_SEARCHED) - {key})}")
    specs = config.objective_specs()
    objectives: dict[str, dict[str, Any]] = {
        s.name: {"kind": s.kind, "weight": s.weight, "schedule": s.schedule, "features": s.features, **s.settings}
        for s in specs
    }
    for key, value in settings.items():
        if not key.startswith(PREFIX):
            continue
        name, _, setting = key.removeprefix(PREFIX).partition(".")
        if name not in objectives or not setting:
            raise ValueError(
                f"hp_space: {key!r} must be {PREFIX}<name>.<setting>, and the run's objectives are "
                f"{', '.join(objectives) or 'none'}.{nearest(name, objectives)}"
            )
        objectives[name][setting] = value
    if objectives:
        other_fields = {"objectives": objectives, **other_fields}
    return dataclasses.replace(config, **{**field_values, **other_fields})


class Reporting(TrainerCallback):
    """Evaluations of a trial, reported to optuna while it trains; it stops where optuna prunes it."""

    def __init__(self, trial: Any, metric: str):
        self.trial, self.metric, self.pruned = trial, metric, False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        value = (metrics or {}).get(self.metric)
        if value is None or not control_is_training(state):
            return
        self.trial.report(value, state.global_step)
        if self.trial.should_prune():
            self.pruned = control.should_training_stop = True


def control_is_training(state: Any) -> bool:
    """Whether a run is between its first and its last step."""
    return 0 < state.global_step < state.max_steps


def _value(metrics: dict[str, float], metric: str) -> float:
    if metric not in metrics:
        raise ValueError(f"There is no metric {metric!r} to choose by; there is {', '.join(map(repr, metrics))}.")
    return metrics[metric]


def _exceptions(catch: Any) -> tuple[type[Exception], ...]:
    return (catch,) if isinstance(catch, type) else tuple(catch)


def _first_free(folder: Path) -> int:
    """Number of the first trial: above those of an older search, whose folders stay as they are."""
    run_numbers = [
        int(match[1]) for path in folder.glob(f"{FOLDER}*") if (match := re.fullmatch(r"run-(\d+)", path.name))
    ]
    return max(run_numbers, default=-1) + 1


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=2, default=str))
    os.replace(partial, path)
