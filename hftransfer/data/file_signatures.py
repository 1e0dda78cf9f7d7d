"""File signatures: the format of a file by its first bytes, where its ending says otherwise."""

from __future__ import annotations

from .row_origins import DataFile

SAVE_TABLE = "Save the table as .csv or .jsonl."
SIGNATURES = {  # first bytes: what starts with them, the remedy
    b"PAR1": ("parquet", "Call it .parquet."),
    b"\x1f\x8b": ("gzip", "Unpack it."),
    b"BZh": ("bzip2", "Unpack it."),
    b"\xfd7zXZ": ("xz", "Unpack it."),
    b"\x28\xb5\x2f\xfd": ("zstd", "Unpack it."),
    b"PK\x03\x04": ("a zip or a workbook", f"Unpack it. {SAVE_TABLE}"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old workbook", SAVE_TABLE),
    b"SQLite format 3": ("an SQLite data base", SAVE_TABLE),
    b"%PDF": ("a PDF", SAVE_TABLE),
    b"ARROW1": ("Arrow", "Write it with `to_parquet`."),
    b"version https://git-lfs": ("a pointer of git-lfs", "Fetch the file itself (git lfs pull)."),
    b"<!doctype": ("a web page", "Download the file itself."),
    b"<html": ("a web page", "Download the file itself."),
    b"<?xml": ("XML", SAVE_TABLE),
}
CSV_SUFFIXES = (".csv", ".tsv")


def refuse_other_format(first_bytes: bytes, data_file: DataFile, suffix: str) -> None:
    """Check for a file of another format than its ending says; raises `ValueError`.

    Args:
        first_bytes: its first bytes, unpacked.
        data_file: of the file.
        suffix: its ending, such as `.csv`.

    Raises:
        ValueError: it starts as another kind of file does.
    """
    lowered = first_bytes.lower() if first_bytes.lstrip().startswith(b"<") else first_bytes
    for signature, (format_name, remedy) in SIGNATURES.items():
        if lowered.lstrip().startswith(signature) and format_name != suffix[1:]:
            raise ValueError(f"{data_file} holds {format_name}, not {suffix[1:]}. {remedy}")
    text = first_bytes.removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix in CSV_SUFFIXES and (text.startswith((b'{"', b"[{")) or text.split()[:1] in ([b"{"], [b"["])):
        ending = ".jsonl" if text.startswith(b'{"') else ".json"
        raise ValueError(f"{data_file} holds JSON, not {suffix[1:]}. Call it {ending}.")
