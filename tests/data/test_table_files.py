"""Table files: csv, tsv and parquet, each read as it is, with what was read said; bad ones refused by line."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_tables import PLAIN, SEPARATED
from datasets import Array2D, ClassLabel, Dataset, Features, Image, List, Value

from hftransfer.data.row_origins import ORIGIN
from hftransfer.data.table_files import FORMATS, TableRead, read_table, table_format

TEXTS, LABELS = ["it went up", "it went down", "it stayed"], ["up", "down", "flat"]


@pytest.fixture
def read(tmp_path):
    """Reads what a file of this name holds."""

    def reader(name: str, content: str | bytes, **options) -> TableRead:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, "source", **options)

    return reader


@pytest.mark.parametrize(("name", "content", "culprit", "remedy"), SEPARATED.values(), ids=SEPARATED.keys())
def test_what_is_no_table_is_named_with_its_line(tmp_path, read, name, content, culprit, remedy):
    with pytest.raises(ValueError) as found:  # noqa: PT011
        read(name, content)
    message = str(found.value)
    assert message.startswith(f"source {str(tmp_path / name)!r}")
    assert culprit in message
    assert remedy in message
    assert "\n" not in message
    assert len(message) < 700


def test_rows_carry_their_file_and_line_and_columns_are_listed_without_that(read):
    found = read("a.csv", f"text,label\n\n{PLAIN}")
    assert found.dataset[ORIGIN] == ["0 (a.csv line 3)", "1 (a.csv line 4)", "2 (a.csv line 5)"]
    assert (found.rows, found.columns) == (3, ("text", "label"))
    assert found.notes == ("1 blank line left aside",)
    assert found.dataset["text"] == TEXTS
    assert found.dataset["label"] == LABELS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_the_file_also_behind_texts_of_several_lines(read, end):
    content = 'text,label\n"a\n\nb",up\n\nc,down\n"d\ne",up\nf,down'.replace("\n", end)
    found = read("a.csv", content)
    assert found.dataset[ORIGIN] == [f"{row} (a.csv line {line})" for row, line in enumerate((2, 6, 7, 9))]
    assert found.dataset["text"] == [f"a{end}{end}b", "c", f"d{end}e", "f"]
    assert found.notes == ("1 blank line left aside", "2 rows of several lines, the longest of 3")


# ---- separators


@pytest.mark.parametrize(
    ("name", "content", "notes"),
    [
        ("a.csv", 'text,label\n"a; b",up\nc;d;e,down\n', ()),
        ("a.csv", "text;label\na, b;up\n,c,d,;down\n", ("separator ';'",)),
        ("a.csv", "text\tlabel\na, b\tup\nc;d\tdown\n", (r"separator '\t'",)),
        ("a.csv", "text|label\na, b|up\nc;d|down\n", ("separator '|'",)),
        ("a.CSV", 'text;label\n"a; b";up\nc;down\n', ("separator ';'",)),
        ("a.csv", "sep=;\ntext;label\na, b;up\nc;down\n", ("separator ';'",)),
        ("a.tsv", "text\tlabel\na, b\tup\n,,\tdown\n", ()),
        ("a.tsv", "text,label\na\tb,up\nc,down\n", ("separator ','",)),
        ("a.csv", "a;text,label,b;c\n1;x,up,2;3\n4;y,down,5;6\n", ()),
        ("a.csv", "text;label;notes, if any\na;up;x\nb, c;down;\n", ("separator ';'",)),
    ],
)
def test_the_separator_is_what_header_and_rows_agree_on(read, name, content, notes):
    found = read(name, content)
    assert {"text", "label"} <= {c.split(";")[-1] if c == "a;text" else c for c in found.columns}
    assert found.dataset["label"] == ["up", "down"]
    assert found.notes == notes


def test_one_column_needs_no_separator(read):
    assert read("a.csv", "text\na; b\nc|d\n").dataset["text"] == ["a; b", "c|d"]
    assert read("a.tsv", "text\na, b\n").dataset["text"] == ["a, b"]


# ---- quotes


HONEST = ["one line", "Two lines,\nthe second says, up", 'He said "up"\nand "down"', "up,\ndown,\n", ", up\n\nup"]


@pytest.mark.parametrize("text", HONEST)
@pytest.mark.parametrize("names", [("text", "label"), ("label", "text"), ("id", "label", "text")])
def test_honest_texts_of_several_lines_pass(read, text, names):
    columns = {"text": [text, *TEXTS], "label": ["up", *LABELS], "id": ["1", "2", "3", "4"]}
    whole = io.StringIO(newline="")
    csv.writer(whole).writerows([names, *zip(*(columns[name] for name in names), strict=True)])
    found = read("a.csv", whole.getvalue())
    assert found.dataset["text"] == columns["text"]
    assert found.dataset["label"] == columns["label"]


def test_what_pandas_writes_comes_back(read):
    data = pd.DataFrame({"text": [*HONEST, 'a "b", c', "\\"], "label": [*LABELS, *LABELS, "up"]})
    for options, notes in (
        ({"index": False}, ("4 rows of several lines, the longest of 3",)),
        ({}, ("4 rows of several lines, the longest of 3", "the first column, which has no name, left aside")),
        ({"quoting": csv.QUOTE_ALL, "sep": ";", "index": False}, ("separator ';'", "4 rows of several")),
    ):
        found = read("a.csv", data.to_csv(**options))
        assert found.dataset["text"] == list(data["text"])
        assert found.columns == ("text", "label")
        assert all(said.startswith(note) for said, note in zip(found.notes, notes, strict=True))


def test_a_tsv_is_read_without_quoting_unless_its_header_is_quoted(read):
    rows = [f"it {i}\tup" for i in range(24)]
    rows[3], rows[9] = '"Great, she said\tup', '"it fell\tdown'
    found = read("a.tsv", "text\tlabel\n" + "\n".join(rows))
    assert found.rows == 24
    assert found.dataset[3]["text"] == '"Great, she said'
    assert found.notes == ()
    found = read("a.tsv", 'text\tlabel\n"a ""b"""\tup\n')
    assert found.dataset["text"] == ['"a ""b"""']
    assert found.notes == ("1 field(s) in double quotes, kept as written (.tsv is read without quoting)",)
    found = read("a.tsv", '"text"\t"label"\n"a ""b""\tc"\t"up"\n')
    assert found.dataset["text"] == ['a "b"\tc']
    assert found.notes == ("read with quoting, as its header is quoted",)


def test_a_quote_within_a_text_is_a_character(read):
    assert read("a.csv", 'text,label\na 5" pipe,up\n').dataset["text"] == ['a 5" pipe']


def test_a_field_may_be_long(read):
    before = csv.field_size_limit()
    assert len(read("a.csv", f"text,label\n{'w ' * 200_000},up\n").dataset[0]["text"]) == 400_000
    assert csv.field_size_limit() == before


# ---- values and names


def test_csv_text_stays_text_and_an_empty_field_alone_is_missing(read):
    words = ["None", "NA", "null", "nan", "NaN", "N/A", "001", "1.50", "True", "-", " ", "#N/A"]
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        rows = [f"{word}{separator}{word}" for word in words] + [f"{separator}w", f"w{separator}"]
        found = read(name, "\n".join([f"text{separator}label", *rows]))
        assert found.dataset["label"] == [*words, "w", None]
        assert found.dataset["text"] == [*words, None, "w"]
        assert found.dataset.features == Features({n: Value("string") for n in ("text", "label", ORIGIN)})


def test_rows_of_empty_fields_are_left_aside_like_blank_lines(read):
    found = read("a.csv", "text,label,note\nw1,up,\n,,\n  \n\nw2,down,x\n,,\n")
    assert found.dataset["text"] == ["w1", "w2"]
    assert found.dataset[ORIGIN][1] == "1 (a.csv line 6)"
    assert found.notes == ("2 rows of empty fields left aside", "2 blank lines left aside")
    assert read("b.csv", 'text\n""\nw1\n').dataset["text"] == [None, "w1"]  # one column: nothing is blank but a line


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ('up, "so, it goes"\ndown, "and, on"\n', ["so, it goes", "and, on"]),
        ('up, "so it goes"\ndown, "and on"\n', ["so it goes", "and on"]),
        ('up, "so it goes"\ndown, and on\n', [' "so it goes"', " and on"]),
        ('up, he said "so"\ndown, and on\n', [' he said "so"', " and on"]),
    ],
)
def test_quotes_after_a_space_are_quotes_where_all_rows_agree(read, rows, texts):
    found = read("a.csv", f"label,text\n{rows}")
    assert found.dataset["text"] == texts
    assert ("spaces after separators cut" in found.notes) == (not texts[0].startswith(" "))


@pytest.mark.parametrize("size", [40, 10_500])
def test_a_late_word_among_numbers_is_like_an_early_one(read, size):
    rows = [f"w{i},{i % 3}" for i in range(size)] + ["w,unsure"]
    labels = read("a.csv", "text,label\n" + "\n".join(rows)).dataset["label"]
    assert labels == [*(str(i % 3) for i in range(size)), "unsure"]


@pytest.mark.parametrize(
    ("header", "row", "notes"),
    [
        ("text ,label\t", "a,up", ("white space around column names cut",)),
        ("text, label", 'a, "up"', ("spaces after separators cut",)),
        ("\xa0text,label", "a,up", ("white space around column names cut",)),
        ('"text",label', "a,up", ()),
        ("text,label,", "a,up,", ("empty fields at the line ends left aside",)),
        ("text,label,,", "a,up,,", ("empty fields at the line ends left aside",)),
        (
            ",text,label",
            "17,a,up",
            ("the first column, which has no name, left aside as an index (pandas writes one)",),
        ),
    ],
)
def test_white_space_and_nameless_columns_of_the_header(read, header, row, notes):
    found = read("a.csv", f"{header}\n{row}\n")
    assert {name: found.dataset[name] for name in found.columns} == {"text": ["a"], "label": ["up"]}
    assert found.notes == notes


def test_a_header_without_usual_names_is_shown(read):
    found = read("a.csv", "a great film,good\na bad film,poor\n")
    assert found.notes == ("the first line taken as names: 'a great film', 'good'",)
    assert read("a.csv", "review,stars\nstars,5\n", label_column="stars").notes == ()


# ---- encodings and packing


@pytest.mark.parametrize(
    ("content", "encoding", "notes"),
    [
        ("café,up".encode(), None, ()),
        ("café,up".encode(), "utf-8", ("encoding utf-8",)),
        ("café,up".encode("latin-1"), "latin-1", ("encoding latin-1",)),
        ("café – “up”,up".encode("cp1252"), "cp1252", ("encoding cp1252",)),
        ("кафе,up".encode("koi8-r"), "koi8-r", ("encoding koi8-r",)),
        ("カフェ,up".encode("shift_jis"), "shift_jis", ("encoding shift_jis",)),
        (codecs.BOM_UTF8 + "café,up".encode(), None, ("encoding utf-8, by its byte order mark",)),
        (codecs.BOM_UTF8 + "café,up".encode(), "UTF8", ("encoding utf-8, by its byte order mark",)),
        ("café,up".encode("utf-16"), None, ("encoding utf-16, by its byte order mark",)),
        (codecs.BOM_UTF16_BE + "café,up".encode("utf-16-be"), None, ("encoding utf-16, by its byte order mark",)),
        ("café,up".encode("utf-16"), "utf-16", ("encoding utf-16, by its byte order mark",)),
        ("café,up".encode("utf-16-le"), "utf-16-le", ("encoding utf-16-le",)),
        ("café,up".encode("utf-32"), None, ("encoding utf-32, by its byte order mark",)),
    ],
)
def test_encodings_are_marked_or_given(read, content, encoding, notes):
    name = encoding or ("utf-8" if not notes else notes[0].split()[1].strip(","))
    big = content.startswith(codecs.BOM_UTF16_BE)
    first = "text,label\n".encode("utf-16-be" if big else name)
    mark = next(
        (
            m
            for m in (codecs.BOM_UTF32_LE, codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            if content.startswith(m)
        ),
        b"",
    )
    found = read("a.csv", mark + first.removeprefix(mark) + content.removeprefix(mark), encoding=encoding)
    assert found.columns == ("text", "label")
    assert found.dataset["text"] == [content.decode("utf-8-sig" if name in ("utf-8", "UTF8") else name).split(",")[0]]
    assert found.notes == notes


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"text\na", "latin99", "encoding 'latin99' is not known"),
        (b"text\na", "latin_one", "Did you mean 'latin-1'"),
        (b"text\na", "hex", "encoding 'hex' is not known"),
        (codecs.BOM_UTF8 + b"text\na", "cp1252", "its byte order mark says utf-8, encoding='cp1252' says otherwise"),
        ("text\ncafé".encode(), "ascii", "line 2: this is no ascii .* It reads as utf-8: leave the encoding out"),
        (b"text\ncaf\x81", "cp1252", "line 2: this is no cp1252 .* The encoding latin-1 reads it"),
        (codecs.BOM_UTF16_LE + b"t\0e\0x", None, "Is the file whole"),
    ],
)
def test_encodings_that_cannot_be(read, content, encoding, message):
    with pytest.raises(ValueError, match=message):
        read("a.csv", content, encoding=encoding)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".XZ", lzma.compress)])
def test_packed_text_files_are_unpacked(read, ending, pack):
    found = read(f"a.csv{ending}", pack(f"text,label\n{PLAIN}".encode()))
    assert found.dataset["text"] == TEXTS
    assert found.notes == (f"unpacked ({ending[1:].lower()})",)


def test_which_files_are_tables():
    for suffix in FORMATS:
        assert table_format(Path(f"s[1]{suffix.upper()}")) == suffix
        assert table_format(Path(f"s{suffix}.gz")) == (None if suffix == ".parquet" else suffix)
    for name in ("a.txt", "a.csv.zip", "csv", ".gz", "a.gz", "a.csv.txt"):
        assert table_format(Path(name)) is None


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"folder\.csv' is a folder"):
        read_table(tmp_path / "folder.csv", "target")
    with pytest.raises(FileNotFoundError, match=r"^target '.*gone\.csv': there is no such file"):
        read_table(tmp_path / "gone.csv", "target")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe\.csv' is a pipe"):
        read_table(tmp_path / "pipe.csv", "target")


# ---- parquet


def test_parquet_keeps_labels_images_and_arrays(tmp_path):
    features = Features(
        text=Value("string"),
        label=ClassLabel(names=LABELS),
        image=Image(),
        tokens=List(Value("string")),
        grid=Array2D((2, 2), "float32"),
    )
    pictures = [np.full((2, 3, 3), i, np.uint8) for i in range(3)]
    data = Dataset.from_dict(
        {
            "text": TEXTS,
            "label": [0, 1, 2],
            "image": pictures,
            "tokens": [["a"], [], None],
            "grid": [[[0, 1], [2, 3]]] * 3,
        },
        features=features,
    )
    path = tmp_path / "a.parquet"
    data.to_parquet(path)
    found = read_table(path, "source")
    assert found.dataset.features == features | {ORIGIN: Value("string")}
    assert found.columns == tuple(features)
    assert (np.asarray(found.dataset[2]["image"]) == 2).all()
    assert found.dataset["tokens"] == [["a"], [], None]
    assert found.dataset[ORIGIN][1] == "1 (a.parquet)"
    assert found.notes == ()


def test_parquet_of_pandas_has_plain_types(tmp_path):
    path = tmp_path / "a.PARQUET"
    data = pd.DataFrame({"text": TEXTS, "label": pd.Categorical(LABELS), "n": [1, 2, 3], "none": [None] * 3})
    data.index = ["x", "y", "z"]
    data.to_parquet(path)
    found = read_table(path, "source")
    assert found.dataset.features == Features(
        text=Value("string"),
        label=Value("string"),
        n=Value("int64"),
        none=Value("string"),
        **{ORIGIN: Value("string")},
    )
    assert found.dataset["label"] == LABELS
    assert found.notes == ("the index of pandas left aside",)
    kinds = pa.schema([("text", pa.large_string()), ("tokens", pa.large_list(pa.large_string()))])
    pq.write_table(pa.table({"text": TEXTS, "tokens": [TEXTS] * 3}, schema=kinds), path)
    found = read_table(path, "source")
    assert found.dataset.features["tokens"] == List(Value("string"))
    assert found.dataset[0]["tokens"] == TEXTS


def test_parquet_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.parquet"
    for content in (b"PAR0", b"", b"PAR1" + bytes(40), b"text,label\na,up\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^source '.*a\.parquet' cannot be read as parquet: [^\n]*$"):
            read_table(path, "source")
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match=r"a\.parquet' holds gzip, not parquet\. Unpack it"):
        read_table(path, "source")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(ValueError, match=r"a\.parquet' is empty: it has no rows"):
        read_table(path, "source")
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(ValueError, match="two columns are called 'text'"):
        read_table(path, "source")
    odd = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"text": ["a"], "odd": odd}), path)
    found = read_table(path, "source")
    assert (found.columns, len(found.notes)) == (("text",), 1)
    assert found.notes[0].startswith("'odd' left aside, of the type map<")
    with pytest.raises(ValueError, match="'odd' is of the type map<.*Convert it"):
        read_table(path, "source", label_column="odd")


def test_two_files_with_one_content_have_one_fingerprint_and_others_another(read):
    one, other = f"text,label\n{PLAIN}", f"text,label\n{PLAIN}".replace("up", "UP")
    marks = [read("a.csv", content).dataset._fingerprint for content in (one, one, other)]
    assert marks[0] == marks[1] != marks[2]
