"""Feature store of one recipe (model, processor, pooling …): parts of a pass on disk, and whole sets, memory-mapped.

    <recipe>/recipe.json               what the features are of
    <recipe>/parts/<hash>.safetensors  a chunk of a pass that goes on, or was killed
    <recipe>/sets/<hash>/              features.npy (rows, width), set.json, index.npy to find a row by;
                                       positions.npy where a row is a word

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
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..models.disk_space import enough_disk_space
from .row_index import RowIndex

FORMAT = 1
RECIPE, SET, FEATURES, POSITIONS = "recipe.json", "set.json", "features.npy", "positions.npy"
ELSEWHERE = "Set $HFTRANSFER_CACHE, or cache_dir where there is one, to"
ROOM = f"{ELSEWHERE} a folder on another disk, or make room with `hftransfer cache --clear`."


@dataclass(frozen=True)
class Part:
    """Features of one chunk.

    Args:
        features: (rows, width), float32 or float16; a row is a word where there are positions.
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


class PartFacts(NamedTuple):
    """Facts of a part in a set: its chunk's key, its input rows and its feature rows."""

    key: str
    inputs: int
    rows: int
    checksum: int


@dataclass(frozen=True)
class StoredSet:
    """Features of a whole data set, memory-mapped and read-only; see `Part`.

    Args:
        parts: its chunks in order.
    """

    features: np.ndarray
    columns: Mapping[str, int]
    positions: np.ndarray | None
    parts: tuple[PartFacts, ...]

    @cached_property
    def starts(self) -> np.ndarray:
        """(parts + 1,) first row of each part, and the number of rows."""
        return np.cumsum([0, *(part.rows for part in self.parts)])

    def part(self, number: int) -> Part:
        """Part as it was before it was put into the set, in memory."""
        span = slice(self.starts[number], self.starts[number + 1])
        positions = None
        if self.positions is not None:
            first_input = sum(part.inputs for part in self.parts[:number])
            positions = self.positions[span] - np.array([first_input, 0])
        return Part(np.array(self.features[span]), self.columns, positions)


class Place(NamedTuple):
    """Place of a chunk: a set and the number of the part in it."""

    name: str
    number: int


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
        self._facts = json.dumps({"about": dict(about), "recipe": dict(recipe)}, indent=1)
        try:
            self._make_folders()
        except OSError as error:
            raise OSError(
                f"The cache of features cannot be written in {root} ({error.strerror}). {ELSEWHERE} a folder that can."
            ) from error
        self._places: dict[str, Place] = {}
        self._found: dict[str, StoredSet] = {}  # sets by the name of their folder
        self._indices: list[tuple[str, RowIndex]] = []
        self._touched: set[str] = set()
        self._whole: dict[tuple[str, int], bool] = {}  # parts of sets, as far as their checksums were compared

    def _make_folders(self) -> None:
        """Folders of the recipe where they are not there, or not any more: somebody cleared the cache in a pass."""
        for folder in (self.parts, self.sets):
            folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / RECIPE).is_file():
            write_text(self.folder / RECIPE, self._facts)

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
        self._make_folders()
        try:
            with enough_disk_space("features", self.parts, part.features.nbytes, remedy=ROOM):
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
        name, number = self._places[key]
        part = self._found[name].part(number)
        self._touch(name)
        return part if part.checksum == self._found[name].parts[number].checksum else None

    def _find_sets(self) -> None:
        """Sets that were not there when it was last asked."""
        for folder in self.sets.iterdir():
            stored = None if folder.name in self._found or folder.name.startswith(".") else _read_set(folder)
            if stored is None:
                continue
            self._found[folder.name] = stored
            for number, part in enumerate(stored.parts):
                self._places.setdefault(part.key, Place(folder.name, number))
            with suppress(OSError, ValueError):
                self._indices.append((folder.name, RowIndex(folder)))

    # ---- rows of other sets

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Places of rows in sets that hold them, by their hashes.

        Args:
            hashes: (rows, 16) bytes.

        Returns:
            (rows, 2) number of the set and of its row, -1 where no set holds one.
        """
        self._find_sets()
        places = np.full((len(hashes), 2), -1, dtype=np.int64)
        for number, (name, index) in enumerate(self._indices):
            missing = np.flatnonzero(places[:, 0] < 0)
            rows = index.find(hashes[missing]) if len(missing) else np.empty(0, np.int64)
            whole = np.array([row >= 0 and self._is_whole(name, int(row)) for row in rows], dtype=bool)
            rows = np.where(whole, rows, -1)
            places[missing[rows >= 0]] = np.column_stack([np.full((rows >= 0).sum(), number), rows[rows >= 0]])
        return places

    def gather(self, places: np.ndarray) -> Part:
        """Features of rows of sets, by what `find` gave for them; all of them must have a place."""
        for number in np.unique(places[:, 0]):
            self._touch(self._indices[number][0])
        sets = [self._found[name] for name, _ in self._indices]
        rows = [sets[number].features[row] for number, row in places]
        return Part(np.stack(rows), sets[int(places[0, 0])].columns)

    def _touch(self, name: str) -> None:
        """Note of when a set was last used."""
        if name not in self._touched:
            self._touched.add(name)
            with suppress(OSError):
                os.utime(self.sets / name / SET)

    def _is_whole(self, name: str, row: int) -> bool:
        """Whether the part that a row of a set is in is what was written; looked at once."""
        stored = self._found[name]
        number = int(np.searchsorted(stored.starts, row, side="right")) - 1
        if (name, number) not in self._whole:
            part = stored.part(number)
            self._whole[name, number] = part.checksum == stored.parts[number].checksum
        return self._whole[name, number]

    # ---- sets

    def open(self, keys: Sequence[str]) -> StoredSet | None:
        """Set of chunks, in order; `None` where it has not been put together, or is cut short."""
        stored = _read_set(self._set_folder(keys))
        if stored is not None:
            self._touch(self.set_key(keys))
        return stored

    def assemble(self, keys: Sequence[str], counts: Sequence[int], hashes: np.ndarray | None = None) -> StoredSet:
        """Set put together from its parts, one in memory at a time; parts of the pass are removed.

        Args:
            keys: of its chunks, in order.
            counts: input rows of each.
            hashes: (rows, 16) bytes of the input rows, by which other data sets find them.

        Raises:
            FileNotFoundError: a part is gone.
            DiskFullError: there is not enough room.
        """
        folder = self._set_folder(keys)
        self._make_folders()
        staging = Path(tempfile.mkdtemp(prefix=".", dir=self.sets))
        try:
            first = self._needed(keys[0])
            size = first.features.nbytes * len(keys)
            with enough_disk_space("features", self.sets, size, remedy=ROOM):
                parts = self._write_set(staging, keys, counts, first)
                if hashes is not None and first.positions is None:
                    RowIndex.write(staging, hashes)
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
        dtype = first.features.dtype
        with open(staging / FEATURES, "wb") as features, open(staging / POSITIONS, "wb") as positions:
            for file in (features, positions):
                file.write(_header(dtype, (0, 0)))
            for i, (key, count) in enumerate(zip(keys, counts, strict=True)):
                part = first if i == 0 else self._needed(key)
                features.write(np.ascontiguousarray(part.features, dtype=dtype).data)
                if part.positions is not None:
                    moved = part.positions + np.array([first_input, 0])
                    positions.write(np.ascontiguousarray(moved, dtype=np.int64).data)
                parts.append([key, count, len(part.features), part.checksum])
                rows, first_input = rows + len(part.features), first_input + count
            for file, kind, width in ((features, dtype, first.features.shape[1]), (positions, np.int64, 2)):
                file.seek(0)
                file.write(_header(kind, (rows, width)))
                file.flush()
                os.fsync(file.fileno())
        if first.positions is None:
            (staging / POSITIONS).unlink()
        return parts

    def _needed(self, key: str) -> Part:
        part = self.read(key)
        if part is None:
            raise FileNotFoundError(
                f"A part of the features is not in {self.parts}: the cache was cleared meanwhile, and the same call "
                "computes what is missing; or several processes make them, and cache_dir is no folder that all share."
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
    buffer = BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _read_set(folder: Path) -> StoredSet | None:
    """Set in a folder, memory-mapped; `None` where it is not whole."""
    try:
        facts = json.loads((folder / SET).read_text(encoding="utf-8"))
        parts = tuple(PartFacts(str(key), *map(int, numbers)) for key, *numbers in facts["parts"])
        features = read_array(folder / FEATURES)
        has_positions = (folder / POSITIONS).is_file()
        positions = read_array(folder / POSITIONS) if has_positions else None
        expected = (sum(part.rows for part in parts), facts["width"])
        if features.shape != expected or features.dtype not in (np.float32, np.float16):
            return None
        return StoredSet(features, facts["columns"], positions, parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_array(path: Path) -> np.ndarray:
    """Array of a file, memory-mapped; one without a row, which cannot be mapped, is read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array: np.ndarray = np.load(path, allow_pickle=False)
        array.setflags(write=False)
        return array
