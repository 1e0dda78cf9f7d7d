"""Texts of a pre-training: rows, model, masking and packing of masked language modelling, all checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..data.duplicate_rows import text_keys
from ..data.text_encoder import TextColumns
from ..data.word_deletion import WordDeletion
from ..data.word_masking import WordMasking, ordinary_ids
from ..models.adapters import is_peft, merge_obstacle
from ..models.content_identity import model_identity
from ..models.feature_hook import Head, find_encoder_output, find_head
from ..models.freezing import TrainableReport, report_trainable, set_trainable
from ..models.masked_language_head import MaskedLanguageHead
from ..models.processing_class import max_input_length
from .domain_word_bias import DomainWordBias, count_words
from .held_out_rows import hold_out_rows
from .masked_language_model import load_masked_language_model
from .masking_collator import MaskingCollator, held_out_batches
from .packed_attention import find_packed_attention, padded_inputs
from .packing import padded_layout, place_rows
from .plain_encoder import check_reads_both_ways, load_encoder
from .pretraining_config import PretrainingConfig
from .pretraining_kind import SENTENCES, TEXTS
from .pretraining_model import PretrainingModel
from .pretraining_run import PreparedPretraining
from .sentence_settings import check_contrast_rows, check_contrast_texts
from .sentence_terms import SentenceTerms
from .text_rows import single_texts, tokenize_rows
from .trained_part import check_adapter, checked_part, put_adapter
from .unlabelled_domains import domain_title, is_counted, training_rows
from .vocabulary_extension import extend_vocabulary

LONGEST = 512  # tokens of a row, where neither the user nor the model says less


def prepare_texts(
    model: Any,
    args: PretrainingConfig,
    domains: dict[str, Any],
    validation: Any = None,
    processing_class: Any = None,
    peft_config: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> PreparedPretraining:
    """Texts, model, masking and packing of a run, all checked.

    Args:
        model, processing_class, model_kwargs: as `load_masked_language_model` takes them, or without masked words
            `load_encoder`.
        args: the run's settings.
        domains: from `unlabelled_domains`.
        validation: from `checked_validation`.
        peft_config: an adapter that is trained instead of the model.

    Raises:
        ValueError, TypeError, FileNotFoundError: whatever is wrong with data, model or settings.
    """
    _check_bias(args, domains)
    measured = next(iter(domains))  # the target, where there is one
    columns = TextColumns(args.text_column or "text", args.text_pair_column, args.tokens_column)
    words = [columns.input_column(rows, False, domain_title(name)) == columns.tokens for name, rows in domains.items()]
    load = load_masked_language_model if args.mask_probability else load_encoder
    loaded, tokenizer = load(model, processing_class, model_kwargs, words=any(words))
    domains = {name: single_texts(rows, columns, domain_title(name)) for name, rows in domains.items()}
    texts = None if validation is None else single_texts(validation, columns, _held_out_title(measured))
    if validation is None and args.held_out:
        others = {domain_title(name): rows for name, rows in domains.items() if name != measured}
        domains[measured], texts = hold_out_rows(
            domains[measured], args.held_out, args.seed, partial(_keys, columns), domain_title(measured), others
        )
    tokenizer, new_words = _with_new_words(loaded, tokenizer, domains[measured], columns, args.new_words)
    start = model_identity(loaded)
    masking, tokens = _masking(args, tokenizer), ordinary_ids(tokenizer).tolist()
    if masking is None:
        check_reads_both_ways(loaded, tokens, tokenizer.pad_token_id)
    limit = max_input_length(tokenizer, loaded, "text", args.max_length)
    longest = args.max_length or min(limit or LONGEST, LONGEST)
    encoded = {
        name: tokenize_rows(rows, tokenizer, columns, domain_title(name), longest) for name, rows in domains.items()
    }
    if is_counted(encoded.values()):
        check_contrast_texts(args, encoded.values())
    rates, bias = _word_rates(args, encoded)
    probe = _probe(tokens, longest, tokenizer.pad_token_id)
    terms = SentenceTerms(args, loaded, longest, tokenizer.pad_token_id, tokens, (model_kwargs or {}).get("revision"))
    joint, head, report, (reason, *notes) = _assemble(loaded, args, peft_config, probe, tokens, longest, terms)
    layout = "packed"
    if joint.attention is None:
        layout = f"{'rows of similar length' if is_counted(encoded.values()) else 'rows as they come'}, padded"
    pack_length = args.pack_length if joint.attention is not None else None
    collator = MaskingCollator(
        masking,
        tokenizer.pad_token_id,
        args.seed,
        rates,
        pack_length,
        WordDeletion(args.deleted_share) if args.sentence_denoising else None,
        reads_texts=bool(args.sentence_contrast or args.sentence_anchor),
    )
    held_out: list[dict[str, Any]] = []
    if texts is not None:
        rows = tokenize_rows(texts, tokenizer, columns, _held_out_title(measured), longest)
        check_contrast_rows(args, len(rows))
        held_out = held_out_batches(rows, collator, args.per_device_eval_batch_size)
    return PreparedPretraining(
        kind=SENTENCES if masking is None else TEXTS,
        joint=joint,
        head=head,
        processing_class=tokenizer,
        train=training_rows(encoded, args),
        held_out=held_out,
        held_out_rows=0 if texts is None else len(texts),
        collator=collator,
        trainable=report,
        merge_on_save=is_peft(joint.model) and merge_obstacle(joint.model) is None,
        domain_names=tuple(domains),
        start=start,
        base_model=str(getattr(loaded.config, "name_or_path", "") or ""),
        notes=(f"Batches: {layout} ({reason}).", *notes, *bias, *new_words),
        masking={"mask_probability": args.mask_probability, **terms.described},
    )


def _held_out_title(measured: str) -> str:
    """Name of the held-out rows in messages."""
    return f"held-out rows of {domain_title(measured)}"


def _masking(args: PretrainingConfig, tokenizer: Any) -> WordMasking | None:
    """How words are masked; `None` where none are."""
    if not args.mask_probability:
        return None
    return WordMasking.for_tokenizer(
        tokenizer,
        probability=args.mask_probability,
        hidden_share=args.mask_hidden_share,
        random_share=args.mask_random_share,
    )


def _check_bias(args: PretrainingConfig, domains: Mapping[str, Any]) -> None:
    """Check that there are two domains whose words can be compared; raises `ValueError`."""
    if args.target_word_bias and ("target" not in domains or len(domains) == 1):
        raise ValueError(
            f"target_word_bias={args.target_word_bias:g} compares the words of the target with those of a source, and "
            f"there is no {'source' if 'target' in domains else 'target'}. Give both, or leave it out."
        )


def _keys(columns: TextColumns, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of rows by their texts."""
    return {name: text_keys(rows, [columns.input_column(rows, False, name)]) for name, rows in datasets.items()}


def _with_new_words(
    model: Any, tokenizer: Any, dataset: Any, columns: TextColumns, count: int
) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer with words of the texts as new tokens, for which the model gets rows; and a note on them."""
    if not count:
        return tokenizer, ()
    column = columns.input_column(dataset, False, "target")
    if column == columns.tokens or not hasattr(dataset, "__len__"):
        kind = "a stream" if column != columns.tokens else "lists of words"
        raise ValueError(f"new_words={count} counts the words of whole texts, and these are {kind}. Leave it out.")
    extension = extend_vocabulary(tokenizer, list(dataset[column]), max_words=count)
    extension.extend_model(model)
    return extension.tokenizer, (str(extension),)


def _word_rates(args: PretrainingConfig, encoded: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Chances of a row's words, where they differ, and a note on them."""
    if not args.target_word_bias:
        return None, ()
    if not is_counted(encoded.values()):
        raise ValueError(
            "target_word_bias counts all words before training, and these texts are streams. Pass data sets, or leave "
            "it out."
        )
    target = count_words(encoded["target"])
    source = sum((count_words(rows) for name, rows in encoded.items() if name != "target"), start=type(target)())
    bias = DomainWordBias(target, source, args.target_word_bias, args.mask_probability)
    return bias.row_rates, (
        f"Masking: words are masked more often the commoner they are in the target (power {args.target_word_bias:g}).",
    )


def _probe(tokens: list[int], longest: int, pad_id: int) -> dict[str, torch.Tensor]:
    """Model inputs of two short rows."""
    tokens = tokens[: max(1, min(6, longest))]
    rows = [tokens, tokens[: max(1, len(tokens) - 2)]]
    return padded_inputs(place_rows(rows, padded_layout([len(row) for row in rows]), pad_id))


def _assemble(
    loaded: Any,
    args: PretrainingConfig,
    peft_config: Any,
    probe: dict[str, torch.Tensor],
    tokens: list[int],
    longest: int,
    terms: SentenceTerms,
) -> tuple[PretrainingModel, Head, TrainableReport, tuple[str, ...]]:
    """The joint model, its head, what trains of it, and notes: why rows are packed or not, and what was decided."""
    head = _find_head(loaded, probe, args)
    if peft_config is None:
        report = set_trainable(loaded, head, args.trainable, args.freeze)
        terms.keep_start(loaded)
        trained = loaded
    else:
        check_adapter(peft_config, args)
        terms.keep_start(loaded, shares_all=True)
        trained = _with_adapter(loaded, peft_config, head, probe)
        head = _find_head(trained, probe, args)
        report = report_trainable(trained, peft_config.peft_type.value.lower())
    report = checked_part(trained, head, report, args)
    attention, reason = None, "packing is off"
    if args.packing:
        attention, reason = find_packed_attention(trained, tokens, longest)
    masked_head = MaskedLanguageHead(trained, probe) if args.mask_probability else None
    joint = PretrainingModel(trained, masked_head, attention, **terms.of(trained, probe))
    notes = [reason]
    if masked_head is not None:
        seen = "masked positions only" if masked_head.selects else "all positions: the head reads whole rows"
        notes.append(f"Vocabulary projection: {seen}.")
    return joint, head, report, (*notes, *terms.notes(joint), f"Trains: {report}.", *report.notes)


def _find_head(model: Any, probe: dict[str, torch.Tensor], args: PretrainingConfig) -> Head:
    """The projection onto the vocabulary; without masked words, what stands in its place."""
    if not args.mask_probability:
        return find_encoder_output(model, probe)
    try:
        return find_head(model, probe)
    except ValueError as error:
        raise ValueError(
            f"{type(model).__name__} has no linear layer that gives its logits, so its head cannot be told from its "
            "backbone. Pre-train a model whose masked-language head ends in one."
        ) from error


def _with_adapter(model: Any, peft_config: Any, head: Head, probe: dict[str, torch.Tensor]) -> Any:
    """The model with an adapter; a new head is trained in full beside it, all but what is tied to the embeddings."""
    _refuse_embeddings(model, peft_config, head)
    fresh = sorted({key.rpartition(".")[0] for key in model.fresh_weights})
    own = [name for name in fresh if name and not f"{head.name}.".startswith(f"{name}.")]
    return put_adapter(model, peft_config, head, own, probe)


def _refuse_embeddings(model: Any, peft_config: Any, head: Head) -> None:
    """Check for an adapter on the embeddings or the projection that is tied to them; raises `ValueError`."""
    names = {name for name, module in model.named_modules() if module is model.get_input_embeddings()} | {head.name}
    for setting in ("target_modules", "modules_to_save"):
        chosen = getattr(peft_config, setting, None)
        for choice in [] if chosen is None or isinstance(chosen, str) else chosen:
            if any(f".{name}".endswith(f".{choice}") for name in names):
                raise ValueError(
                    f"peft_config: {setting} names {choice!r}, and the word embeddings and the projection onto the "
                    "vocabulary are one tensor here, which an adapter would tear apart. Leave it out, or train "
                    "without an adapter."
                )
