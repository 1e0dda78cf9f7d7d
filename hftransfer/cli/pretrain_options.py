"""Options of the recipe `pretrain` besides its config. No heavy import, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..settings import explain_fields, option
from .run_options import RunArguments

if TYPE_CHECKING:
    from ..pretraining.pretraining_config import PretrainingConfig

POOL = "pool"  # name of its rows among the sources
USUAL_FRACTION = RunArguments.validation_fraction


class UnlabelledRows(NamedTuple):
    """Texts or images of a pre-training: those of the target, of sources by name, and target rows to measure on."""

    target: Any
    source: dict[str, Any] | None
    validation: Any


@explain_fields()
@dataclass
class PretrainArguments(RunArguments):
    """Arguments of the recipe `pretrain` besides `PretrainingConfig`: which texts or images, which model.

    `source` and `target` are as in `RunArguments`; one of them is enough, and labels are never read.

    Example:
        >>> PretrainArguments(target="medical.csv").target
        'medical.csv'
    """

    pool: str | None = option(
        None,
        "Domains",
        "More texts, given the same way, of which the rows nearest to the target's are read too (`choose_rows`).",
    )
    pool_rows: int | None = option(None, "Domains", "How many rows of the pool are read.")

    def check_domains(self) -> None:
        """Check of the domains.

        Raises:
            ValueError: there is neither a source nor a target, the target is a source, or an option that is for
                labelled rows or for a model from scratch.
        """
        if not self.source and not self.target:
            raise ValueError(
                "--target and --source are missing: name texts or images to read, such as `--target sample`."
            )
        if self.source:
            super().check_domains()
        if (self.pool is None) != (self.pool_rows is None):
            raise ValueError("--pool names texts and --pool_rows how many of them are read: give both, or neither.")
        if self.pool is not None and not self.target:
            raise ValueError("--pool: its rows are chosen by how near they are to the target's: name a --target.")
        if self.pool is not None and (self.pool == self.target or POOL in self.sources):
            raise ValueError(
                f"--pool {self.pool} is the target too, or a source is called {POOL!r}. Name other texts, or give "
                "the source another name."
            )
        if self.validation_fraction != USUAL_FRACTION:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} cuts labelled rows, and these are read without "
                "labels: set held_out to the share of rows that the model is measured on."
            )
        if self.model_config:
            raise ValueError(
                "model_config makes a model from scratch, and pre-training goes on with one that was pretrained. Name "
                "it with --model."
            )

    @property
    def dataset_names(self) -> dict[str, str]:
        """Sources and target by name, as the model card has them."""
        others = {"target": self.target, POOL: self.pool}
        return {**self.sources, **{name: spec for name, spec in others.items() if spec}}

    def load_rows(self, config: PretrainingConfig) -> UnlabelledRows:
        """Texts or images of the domains, read once and cached for the other processes.

        Args:
            config: says which columns are read.

        Raises:
            ValueError, FileNotFoundError: as `load_shift`.
        """
        from ..data.domain_loading import load_shift

        with config.main_process_first(desc="loading"):
            data = load_shift(
                self.sources | ({POOL: self.pool} if self.pool else {}),
                self.target,
                validation_fraction=0,
                seed=config.seed,
                image_column=config.image_column,
                encoding=self.encoding,
                text_columns=(config.text_column, config.text_pair_column, config.tokens_column),
                labelled=False,
            )
            if self.pool:
                data.train[POOL] = self._near_rows(data.train[POOL], data.target, config)
        return UnlabelledRows(data.target, data.train or None, data.validation.get("target"))

    def _near_rows(self, pool: Any, target: Any, config: PretrainingConfig) -> Any:
        """The rows of the pool that are nearest to the target's."""
        from ..pretraining.row_choice import choose_rows
        from ..reporting.console import print_lines

        if config.target_word_bias:
            raise ValueError(
                "target_word_bias compares the target's words with those of a source, and the rows of the pool are "
                "chosen to be like the target's. Leave one of the two out."
            )
        column = config.text_column
        if config.image_column in pool.column_names and (column or "text") not in pool.column_names:
            raise ValueError(
                f"--pool {self.pool} holds images, and rows of a pool are chosen by their words. Leave it out, or "
                "give the images as a --source."
            )
        chosen = choose_rows(
            pool, target, int(self.pool_rows or 0), seed=config.seed, column=column, like_column=column
        )
        print_lines(f"Pool: {chosen}")
        return pool.select(sorted(chosen.rows.tolist()))
