"""Feature store of one recipe (model, processor, pooling …): parts of a pass on disk, and whole sets, memory-mapped.

    <recipe>/recipe.json               what the features are of
    <recipe>/parts/<hash>.safetensors  a chunk of a pass that goes on, or was killed
    <recipe>/sets/<hash>/              features.npy (rows, width), set.json; positions.npy where a row is a word

Everything is named after the content of the rows that it was made of, and written by one rename. Each part has a
checksum, which is compared whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..models.disk_space import enough_disk_space

FORMAT = 1
RECIPE, SET, FEATURES, POSITIONS = "recipe.json", "set.json", "features.npy", "positions.npy"
ROOM = "Set cache_dir to a folder on another disk, or make room with `hftransfer cache --clear`."


@dataclass(frozen=True)
class Part:
    """Features of one chunk.

    Args:
        features: (rows, width), float32; a row is a word where there are positions.
        columns: names of groups of columns and their widths, in order.
        positions: (rows, 2) int64: row of the chunk and word of the row, or `None`.
    """

    features: np.ndarray
    columns: Mapping[str, int]
    positions: np.ndarray | None = None

    @property
    def checksum(self) -> int:
        start = 0 if self.positions is None else zlib.crc32(np.ascontiguousarray(self.positions).data)
        return zlib.crc32(np.ascontiguousarray(self.features).data, start)


@dataclass(frozen=True)
class StoredSet:
    """Features of a whole data set, memory-mapped and read-only; `Part` says what is what.

    Args:
        parts: by chunk: key, number of its input rows, number of feature rows, checksum.
    """

    features: np.ndarray
    columns: Mapping[str, int]
    positions: np.ndarray | None
    parts: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Place:
    """Place of a chunk in a set: its rows, the first of them, and the number of its first input row."""

    folder: Path
    start: int
    rows: int
    first_input: int
    checksum: int


class FeatureStore:
    """Store of the features of one recipe.

    Args:
        root: folder of the cache.
        recipe: facts that JSON can hold; another value of any of them is another store.
        about: facts for people, which make no difference.
    """

    def __init__(self, root: str | os.PathLike[str], recipe: Mapping[str, Any], about: Mapping[str, Any]):
        text = json.dumps({"format": FORMAT, **recipe}, sort_keys=True)
        self.folder = Path(root).expanduser() / hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self.parts, self.sets = self.folder / "parts", self.folder / "sets"
        self.parts.mkdir(parents=True, exist_ok=True)
        self.sets.mkdir(exist_ok=True)
        if not (self.folder / RECIPE).is_file():
            write_text(self.folder / RECIPE, json.dumps({"about": dict(about), "recipe": dict(recipe)}, indent=1))
        self._places: dict[str, Place] = {}
        self._seen: set[str] = set()

    # ---- parts

    def read(self, key: str) -> Part | None:
        """Part by its chunk's key, from the pass or from a set that holds it; `None` where there is none, or where its
        checksum says that it is damaged."""
        part = self._read_file(key)
        if part is None and key not in self._places:
            self._find_sets()
        return self._read_place(key) if part is None else part

    def write(self, key: str, part: Part) -> None:
        """Part, written by one rename."""
        path = self._path(key)
        arrays = {"features": part.features} | ({} if part.positions is None else {"positions": part.positions})
        facts = {"columns": json.dumps(dict(part.columns)), "checksum": str(part.checksum)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with enough_disk_space("features", self.parts, part.features.nbytes, lambda: ROOM):
                save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, facts)
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Lock of a chunk or a set: one process makes it, others wait and find it made."""
        with FileLock(self.parts / f"{key[:2]}.lock"):
            yield

    def has_new_part(self, keys: Iterable[str]) -> bool:
        """Whether a chunk was made since its set was put together, or has not been put into one."""
        return any(self._path(key).exists() for key in keys)

    def _path(self, key: str) -> Path:
        return self.parts / f"{key}.safetensors"

    def _read_file(self, key: str) -> Part | None:
        try:
            with safe_open(self._path(key), framework="np") as file:
                facts = file.metadata()
                positions = file.get_tensor("positions") if "positions" in file.keys() else None
                part = Part(file.get_tensor("features"), json.loads(facts["columns"]), positions)
                return part if part.checksum == int(facts["checksum"]) else None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None

    def _read_place(self, key: str) -> Part | None:
        if key not in self._places:
            return None
        place = self._places[key]
        stored = _read_set(place.folder)
        if stored is None:
            return None
        span = slice(place.start, place.start + place.rows)
        positions = None
        if stored.positions is not None:
            positions = stored.positions[span] - np.array([place.first_input, 0])
        part = Part(np.array(stored.features[span]), stored.columns, positions)
        return part if part.checksum == place.checksum else None

    def _find_sets(self) -> None:
        """Chunks of sets that were not there when it was last asked."""
        for folder in self.sets.iterdir():
            stored = None if folder.name in self._seen or folder.name.startswith(".") else _read_set(folder)
            if stored is None:
                continue
            self._seen.add(folder.name)
            start = first_input = 0
            for key, count, rows, checksum in stored.parts:
                self._places.setdefault(key, Place(folder, start, rows, first_input, checksum))
                start, first_input = start + rows, first_input + count

    # ---- sets

    def open(self, keys: Sequence[str]) -> StoredSet | None:
        """Set of chunks, in order; `None` where it has not been put together, or is cut short."""
        folder = self._set_folder(keys)
        stored = _read_set(folder)
        if stored is not None:
            with suppress(OSError):
                os.utime(folder / SET)  # when it was last used
        return stored

    def assemble(self, keys: Sequence[str], counts: Sequence[int]) -> StoredSet:
        """Set put together from its parts, one in memory at a time; parts of the pass are removed.

        Args:
            keys: of its chunks, in order.
            counts: input rows of each.

        Raises:
            FileNotFoundError: a part is gone.
            DiskFullError: there is not enough room.
        """
        folder = self._set_folder(keys)
        staging = Path(tempfile.mkdtemp(prefix=".", dir=self.sets))
        try:
            first = self._needed(keys[0])
            size = first.features.nbytes * len(keys)
            with enough_disk_space("features", self.sets, size, lambda: ROOM):
                parts = self._write_set(staging, keys, counts, first)
                facts = {"columns": dict(first.columns), "parts": parts, "width": int(first.features.shape[1])}
                write_text(staging / SET, json.dumps(facts))
            os.chmod(staging, 0o755)
            if folder.exists():
                shutil.rmtree(folder)
            os.rename(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for key in set(keys):
            with suppress(OSError):
                self._path(key).unlink()
        stored = _read_set(folder)
        assert stored is not None
        return stored

    def _write_set(self, staging: Path, keys: Sequence[str], counts: Sequence[int], first: Part) -> list[list[Any]]:
        parts: list[list[Any]] = []
        rows = first_input = 0
        with open(staging / FEATURES, "wb") as features, open(staging / POSITIONS, "wb") as positions:
            for file in (features, positions):
                file.write(_header(np.float32, (0, 0)))
            for i, (key, count) in enumerate(zip(keys, counts, strict=True)):
                part = first if i == 0 else self._needed(key)
                features.write(np.ascontiguousarray(part.features, dtype=np.float32).data)
                if part.positions is not None:
                    moved = part.positions + np.array([first_input, 0])
                    positions.write(np.ascontiguousarray(moved, dtype=np.int64).data)
                parts.append([key, count, len(part.features), part.checksum])
                rows, first_input = rows + len(part.features), first_input + count
            for file, dtype, width in ((features, np.float32, first.features.shape[1]), (positions, np.int64, 2)):
                file.seek(0)
                file.write(_header(dtype, (rows, width)))
                file.flush()
                os.fsync(file.fileno())
        if first.positions is None:
            (staging / POSITIONS).unlink()
        return parts

    def _needed(self, key: str) -> Part:
        part = self.read(key)
        if part is None:
            raise FileNotFoundError(
                f"A part of the features is not in {self.parts}. If several processes make them, cache_dir must be a "
                "folder that all of them share."
            )
        return part

    @staticmethod
    def set_key(keys: Sequence[str]) -> str:
        """Key of a set, by those of its chunks."""
        return hashlib.blake2b("".join(keys).encode(), digest_size=16).hexdigest()

    def _set_folder(self, keys: Sequence[str]) -> Path:
        return self.sets / self.set_key(keys)


def write_text(path: Path, text: str) -> None:
    """Small file, written by one rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _header(dtype: Any, shape: tuple[int, int]) -> bytes:
    """Header of an .npy file, of one length for all shapes: NumPy leaves room for the first number to grow."""
    from io import BytesIO

    buffer = BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _read_set(folder: Path) -> StoredSet | None:
    """Set in a folder, memory-mapped; `None` where it is not whole."""
    try:
        facts = json.loads((folder / SET).read_text(encoding="utf-8"))
        parts = tuple((str(key), int(count), int(rows), int(check)) for key, count, rows, check in facts["parts"])
        features = _mapped(folder / FEATURES)
        has_positions = (folder / POSITIONS).is_file()
        positions = _mapped(folder / POSITIONS) if has_positions else None
        if features.shape != (sum(rows for _, _, rows, _ in parts), facts["width"]):
            return None
        return StoredSet(features, facts["columns"], positions, parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path) -> np.ndarray:
    """Array of a file, memory-mapped; one without a row, which cannot be mapped, is read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array: np.ndarray = np.load(path, allow_pickle=False)
        array.setflags(write=False)
        return array
