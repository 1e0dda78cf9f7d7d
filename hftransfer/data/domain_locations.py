"""Locations of domains: whether a name is a sample, a file, a folder, a pattern with `{split}` or a Hub id."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..messages import nearest, shown
from .digits_corpus import DOMAINS
from .table_files import FORMATS, table_format

logger = logging.getLogger(__name__)
SAMPLE = "sample"
DIGITS = {f"{SAMPLE}:digits{'_' * bool(i)}{domain * bool(i)}": domain for i, domain in enumerate(DOMAINS)}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[^/\\]+)?")
SPLIT = "{split}"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
DATASET_PAGE = re.compile(
    r"(?:hf://datasets/|https?://(?:huggingface\.co|hf\.co)/datasets/)([\w.-]+(?:/(?!blob|resolve|tree|viewer)[\w.-]+)?)"
)
LONGEST_SPEC = 300  # characters of a name that a message shows
IMAGES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .tga .ico .avif".split()
)
MEDIA = ".heic .heif .svg .psd .raw .dng .cr2 .nef .arw .dcm .nii .mp4 .mov .avi .mkv .webm".split()  # not read
REMEDIES = {  # for files that hold data in another form
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "Save the sheet as csv."),
    ".txt": "Plain text has no columns: save it as csv with a header, or as jsonl.",
    ".xml": "Write its rows as csv or jsonl.",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".rar", ".7z"), "Unpack it, and give what is inside."),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), "Unpack it; csv, tsv, json and jsonl may stay in .gz, .bz2, .xz."),
    ".arrow": "Give the folder that `save_to_disk` wrote, or save the dataset with `to_parquet`.",
    **dict.fromkeys((".feather", ".orc", ".avro"), "Save the table as parquet."),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npy", ".npz", ".h5", ".hdf5"), "Save its rows as parquet or jsonl."),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "Write the table as csv or parquet."),
    ".ndjson": "It is jsonl: rename it.",
    **dict.fromkeys(MEDIA, "Save each as a .png or .jpg."),
    **dict.fromkeys(
        (".svg", ".heic", ".heif", ".psd", ".raw", ".cr2", ".nef", ".dng", ".eps"),
        "Convert such images to PNG or JPEG.",
    ),
    **dict.fromkeys(IMAGES, "Give the folder that the images are in, one folder for each class."),
}


@dataclass(frozen=True)
class DomainLocation:
    """Kind of location that a domain's name means, with the path where it is one."""

    kind: Literal["sample", "file", "folder", "pattern", "hub"]
    spec: str
    path: Path


def locate_domain(spec: str, role: str) -> DomainLocation:
    """Location that a domain's name means.

    A path that exists is that path, letter by letter, whatever else the name could be.

    Args:
        spec: the name as given.
        role: `"source"` or `"target"`, for messages.

    Raises:
        FileNotFoundError: it can only be a path, and nothing is there; a link that leads nowhere.
        ValueError: it is empty, no sample, or a file of a kind that is not read.
    """
    name = f"{role} {shown(spec, LONGEST_SPEC)}"
    if not spec.strip():
        raise ValueError(f"{role} is empty: give `sample`, a Hub id, a folder or a file.")
    path = local_path(spec)
    if path is not None:
        if spec == SAMPLE or spec in DIGITS:
            logger.warning("%s: a path of that name is here, so it is read, not the sample that comes along.", name)
        if path.is_dir():
            return DomainLocation("folder", spec, path)
        check_readable(path, name)
        return DomainLocation("file", spec, path)
    if spec == SAMPLE or spec in DIGITS:
        return DomainLocation("sample", spec, Path(spec))
    if spec.startswith(f"{SAMPLE}:"):
        raise ValueError(
            f"{role} {spec!r}: there is no such sample; there is {SAMPLE}, {', '.join(DIGITS)}.{nearest(spec, DIGITS)}"
        )
    if URL.match(spec):
        raise ValueError(
            f"{name} is a URL, and domains are read from this machine or by a Hub id. {_url_remedy(spec)}"
        )
    if SPLIT in spec:
        return DomainLocation("pattern", spec, Path(spec) if not spec.startswith("~") else Path(spec).expanduser())
    if os.path.lexists(spec):
        raise FileNotFoundError(
            f"{name} is a link to {os.readlink(spec)!r}, which is not there (or not for you to read). Mend the link, "
            "or give the file itself."
        )
    if not _may_be_hub_id(spec):
        raise FileNotFoundError(f"{name}: there is no such file or folder.{path_hint(spec)}")
    base = spec.partition(":")[0]
    if os.path.exists(base):
        raise FileNotFoundError(
            f"{name}: there is no such file or folder. {base!r} is a local path, and only a Hub id takes a "
            f"configuration after ':'. Give {base!r} alone."
        )
    return DomainLocation("hub", spec, Path(spec))


def local_path(spec: str) -> Path | None:
    """Existing path under a name: as written, else with `~` as the home folder."""
    if os.path.exists(spec):
        return Path(spec)
    home = os.path.expanduser(spec)
    return Path(home) if home != spec and os.path.exists(home) else None


def check_readable(path: Path, name: str) -> None:
    """Check that a file's format is one that is read; raises `ValueError` with what to do otherwise."""
    if table_format(path) is None and path.is_file():
        remedy = REMEDIES.get(path.suffix.lower(), "Give it the ending that says what it holds.")
        raise ValueError(f"{name}: files must end in {', '.join(FORMATS)}. {remedy}")


def path_hint(spec: str) -> str:
    """Hint on a path that does not exist: what may have been meant."""
    path = Path(os.path.expanduser(spec))
    folder = path.parent
    while not os.path.exists(folder) and folder != folder.parent:
        path, folder = folder, folder.parent
    try:
        entries = os.listdir(folder)
    except OSError:
        return ""
    suggestion = nearest(path.name, entries)
    lookalikes = [
        name for name in entries if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", path.name)
    ]
    if lookalikes and lookalikes[0] != path.name:
        return (
            f" There is one whose name looks the same, and has its accents written in another way: {lookalikes[0]!a}. "
            "Copy its name from a listing, or rename it."
        )
    unquoted, slashed = spec.strip(" '\""), spec.replace("\\", "/")
    if unquoted != spec and os.path.exists(unquoted):
        return f" Quotes and spaces around it are taken as part of the name: give {unquoted!r}."
    if slashed != spec and os.path.exists(slashed):
        return f" Folders are separated by / here: give {slashed!r}."
    if "$" in spec or re.search("%[A-Za-z]+%", spec):
        return " Variables such as $HOME are not replaced here: write the path out."
    if "," in spec and all(os.path.exists(part.strip()) for part in spec.split(",")):
        return (
            " Give each file by an option of its own (--source one.csv --source two.csv), or the folder they are in."
        )
    if "=" in spec and os.path.exists(spec.partition("=")[2]):
        return " A name before '=' is made of letters, digits and underscores, and starts with no digit."
    if any(sign in spec for sign in "*?") or re.search(r"\{[^}]*,[^}]*\}", spec):
        return f" Signs such as * stand for themselves: give the folder, or a name with {{split}}.{suggestion}"
    missing_part = f" There is no {path.name!r} in {str(folder)!r}." if path.name != Path(spec).name else ""
    return missing_part + suggestion


def _url_remedy(url: str) -> str:
    """Remedy for a URL given as a domain."""
    if url.lower().startswith("file:"):
        return "Give the plain path, without file://."
    page = DATASET_PAGE.match(url)
    if page:
        parts = page[1].split("/")
        return f"Give its id: {'/'.join(parts[:1] if table_format(Path(parts[-1])) else parts)!r}."
    return "Download the file, and give its path."


def _may_be_hub_id(spec: str) -> bool:
    path = Path(spec)
    known = {*FORMATS, *REMEDIES}
    return bool(HUB_ID.fullmatch(spec)) and path.suffix.lower() not in known and table_format(path) is None
