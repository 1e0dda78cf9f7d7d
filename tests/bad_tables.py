"""Bad table files by name: the file's name, what it holds, the culprit that the message names and the remedy that it
offers. As in `bad_cases`; all are refused with a `ValueError`."""

from __future__ import annotations

import gzip
import json

ROWS = [("it went up", "up"), ("it went down", "down"), ("it stayed", "flat")]
PLAIN = "".join(f"{text},{label}\n" for text, label in ROWS)
QUOTED = "with quotes inside written twice"
WANTED = "orient='records', lines=True"
CAFE = "text{0}label\nit went up{0}up\nthe café fell{0}down\n"


def lines(*values) -> str:
    """JSON lines of rows, strings as they are."""
    return "".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values)


def labelled(*labels) -> str:
    """JSON lines of rows with these labels."""
    return lines(*({"text": f"w{i}", "label": label} for i, label in enumerate(labels)))


SEPARATED = {
    "a comma without quotes": ("a.csv", f"text,label\n{PLAIN}up, then down,flat\n", "line 5: more fields", QUOTED),
    "a comma without quotes in all rows": (
        "a.csv",
        "text,label\nso, it went up,up\nso, it fell,down\n",
        "line 2: more fields than the header (3, not 2, by separator ',', as 2 of 2 rows): 'so', ' it went up', 'up'",
        QUOTED,
    ),
    "a title above the header": (
        "a.csv",
        f"Made in 2024\n\ntext,label\n{PLAIN}",
        "line 3: more fields than the header (2, not 1, by separator ',', as 4 of 4 rows)",
        "is 'Made in 2024' the header? What stands above it must go.",
    ),
    "a comment above the header": ("a.csv", f"# mine\ntext,label\n{PLAIN}", "line 2: more", "is '# mine' the header?"),
    "two files put together": (
        "a.csv",
        f"text,label\n{PLAIN}text,label\n{PLAIN}",
        "line 5: the header comes again ('text', 'label')",
        "Remove the line",
    ),
    "a separator that is not known": ("a.csv", "text^label\na^up\n", "line 1: the header is one field", "by a comma"),
    "spaces between the columns": ("a.csv", "text label\na up\n", "'text label': no known separator", "by a comma"),
    "a Markdown table": (
        "a.csv",
        "| text | label |\n|---|:-:|\n| a | up |\n",
        "line 2: this is a Mark",
        "Save it as csv",
    ),
    "row names without a name in the header, as R writes them": (
        "a.tsv",
        '"text"\t"label"\n"1"\t"it went up"\t"up"\n"2"\t"it fell"\t"down"\n',
        "line 2: more fields than the header (3, not 2, by separator '\\t', as 2 of 2 rows)",
        "row.names=FALSE",
    ),
    "a semicolon without quotes": ("a.csv", "text;label\na;b;up\n", "line 2: more fields than the header", '("so; ""'),
    "a trailing comma": ("a.csv", "text,label\na,up,\nb,down,\n", "line 2: more fields", "too many: remove it"),
    "a trailing comma in one row": ("a.csv", f"text,label\n{PLAIN}b,down,\n", "line 5: more", "too many: remove it"),
    "fewer fields": ("a.csv", f"text,label\n{PLAIN}nothing else\n", "line 5: fewer fields", QUOTED),
    "quotes with backslashes": (
        "a.csv",
        'text,label\n"he said \\"hi\\", then left",up\nb,down\n',
        "line 2: a quoted field that starts in this row goes on after its closing quote",
        r"A backslash does not escape a quote (\").",
    ),
    "backslashes that shift a column": (
        "a.csv",
        'text,label\nb,down\n"\\", she said",up\n',
        "line 3: more fields than the header",
        r"A backslash does not escape a quote (\").",
    ),
    "two stray quotes": (
        "a.csv",
        f'text,label\n{PLAIN}"Up he said,up\n{PLAIN}"Down he said,down\n',
        "line 5: a quoted field that starts in this row, up to line 9, goes on after its closing quote",
        "read without quoting",
    ),
    "one stray quote": ("a.csv", f'text,label\n{PLAIN}"Up he said,up\n{PLAIN}', "line 5: a quote opens", QUOTED),
    "a stray quote that swallows rows": (
        "a.csv",
        f'text,label\n{PLAIN}"Up he said,up\n{PLAIN}down, he said",down\n',
        "line 5: a quoted field that starts in this row holds line 5, which is like a row of its own",
        "is a quote astray?",
    ),
    "a swallowed row behind a text of two lines": (
        "a.csv",
        f'text,label\n{PLAIN}"It went\nup,up\n{PLAIN}down",down\n',
        "line 5: a quoted field that starts in this row holds line 6, which is like a row of its own ('up,up')",
        "is a quote astray?",
    ),
    "a stray quote before labels that stand first": (
        "a.csv",
        'label,text\nup,one\ndown,two\nup,"three\ndown,four\nup,five"\n',
        "line 4: a quoted field that starts in this row holds line 5",
        "is a quote astray?",
    ),
    "a stray quote with labels between": (
        "a.csv",
        'id,label,text\n1,up,a\n2,down,"b\n3,up,c\n4,down,d"\n',
        "line 3: a quoted field that starts in this row holds line 4",
        "is a quote astray?",
    ),
    "a stray quote in a label": (
        "a.csv",
        'text,label\na,up\nb,"down\nc,up"\nd,down\n',
        "line 3: a quoted field that starts in this row holds line 4",
        "is a quote astray?",
    ),
    "a stray quote with numbers as labels": (
        "a.csv",
        'text;label\na;1\nb;0\n"c;1\nd;0\ne";0\n',
        "line 4: a quoted field that starts in this row holds line 4",
        "is a quote astray?",
    ),
    "a tab in a text": ("a.tsv", "text\tlabel\na\tb\tup\n", "line 2: more fields", "a text holds no tab"),
    "a text of two lines in a tsv": (
        "a.tsv",
        'text\tlabel\n"a\nb"\tup\n',
        "line 2: fewer fields",
        "as .csv with quotes",
    ),
    "a name twice": ("a.csv", "text,text,label\na,b,up\n", "two columns are called 'text'", "Rename or drop one"),
    "a name twice but for white space": ("a.csv", "text,text ,label\na,b,up\n", "called 'text'", "Rename or drop one"),
    "a column without a name": ("a.csv", "text,,label\na,b,up\n", "no name for field 2", "Name it"),
    "two columns without a name": ("a.csv", ",,text\n0,1,a\n", "no name for field 2", "Name it"),
    "no name at all": ("a.csv", ",\na,up\n", "line 1: the header names no column", "such as: text,label"),
    "no header": ("a.csv", "x,up\ny,down\nz,up\n", "line 1: this looks like a row", "Put names above the rows"),
    "no header in a tsv": ("a.tsv", "x\t1\ny\t0\nz\t1\n", "not like a header: '1' comes again", "Put names above"),
    "no header over numbers": ("a.csv", "x,1\ny,2\n", "not like a header: '1' is a number", "Put names above"),
    "a parquet file": ("a.csv", b"PAR1\x00\xff\xfe", "holds parquet, not csv", "Call it .parquet"),
    "a gzip without its ending": ("a.csv", gzip.compress(b"text\na\n"), "holds gzip, not csv", "Unpack it."),
    "a workbook called csv": ("a.csv", b"PK\3\4\x14\0\x06\0", "holds a zip or a workbook, not csv", "as .csv"),
    "JSON lines called csv": ("a.csv", '{"text": "a"}\n{"text": "b"}\n', "holds JSON, not csv", "Call it .jsonl"),
    "JSON called tsv": ("a.tsv", '[{"text": "a"}]', "holds JSON, not tsv", "Call it .json"),
    "a page": ("a.csv", "<!DOCTYPE html>\n<html>", "holds a web page, not csv", "Download the file itself"),
    "a page called json": ("a.json", "<html>404</html>", "holds a web page, not json", "Download the file itself"),
    "a pointer": ("a.csv", "version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs", "git lfs pull"),
    "an old workbook": ("a.csv", bytes.fromhex("d0cf11e0a1b11ae1"), "holds an old workbook, not csv", "as .csv"),
    "a sqlite file": ("a.csv", b"SQLite format 3\0", "holds an SQLite data base, not csv", "as .csv"),
    "a header alone": ("a.csv", "text,label\n", "is empty", "it has a header but no rows"),
    "a header and blank lines": ("a.csv", "text,label\n\n \n\n", "is empty", "it has a header but no rows"),
    "a header alone in a tsv": ("a.TSV", "text\tlabel", "is empty", "it has a header but no rows"),
    "an empty file": ("a.csv", "", "is empty", "it has no rows"),
    "blank lines alone": ("a.csv", "\n \n", "is empty", "it has no rows"),
    "a byte order mark alone": ("a.csv", b"\xef\xbb\xbf", "is empty", "it has no rows"),
    "a NUL byte": ("a.csv", "text,label\na\0b,up\n", "line 2: it holds a NUL byte", "Remove the NUL bytes"),
    "utf-16 without its mark": (
        "a.csv",
        f"text,label\n{PLAIN}".encode("utf-16-le"),
        "line 1:",
        "--encoding utf-16-le",
    ),
    "latin-1 in a csv": ("a.csv", CAFE.format(",").encode("latin-1"), "line 3: this is no utf-8", "--encoding cp1252"),
    "latin-1 in a tsv": (
        "a.tsv",
        CAFE.format("\t").encode("latin-1"),
        "line 3: this is no utf-8",
        "--encoding cp1252",
    ),
    "latin-1 in an old Mac's csv": (
        "a.csv",
        CAFE.format(",").replace("\n", "\r").encode("latin-1"),
        "line 3: this is no utf-8",
        "(latin-1 as Windows writes it) reads it, with 'the café fell,down' there",
    ),
    "a damaged line": ("a.csv", "text,label\nthé,up\n".encode() + b"b\xff,up\n", "line 3", "this line may be damaged"),
    "a cut gzip": (
        "a.csv.gz",
        gzip.compress(f"text,label\n{PLAIN}".encode())[:-9],
        "cannot be unpacked",
        "Is it whole",
    ),
    "a gzip that is none": ("a.csv.gz", f"text,label\n{PLAIN}", "cannot be unpacked", "packed as its name says"),
    "a packed parquet": ("a.parquet.gz", b"", "files must end in .csv, .tsv", "Text files may be packed"),
    "a zip": ("a.csv.zip", b"PK", "files must end in .csv, .tsv", "Text files may be packed (.gz, .bz2, .xz)"),
    "a workbook": ("a.xlsx", b"PK", "files must end in .csv, .tsv", "Save the sheet as .csv"),
    "our own column": ("a.csv", "text,__origin__\na,b\n", "a column is called '__origin__'", "Rename it"),
}
RECORDS = {
    "a list with a comma too many": ("a.jsonl", '[\n{"text": "a"},\n]', "line 3 cannot be read as json", WANTED),
    "an Arrow file": ("a.jsonl", b"ARROW1\0\0", "holds Arrow, not jsonl", "to_parquet"),
    "a line that is no JSON": (
        "a.jsonl",
        labelled("up", "down") + '{"text": "a", "label" "up"}\n',
        "line 3 cannot be read as json: Expecting ':' delimiter (character 23)",
        "Every line of a .jsonl file is one object",
    ),
    "a first line that is no JSON": ("a.jsonl", "{'text': 'a'}\n" + labelled("up"), "line 1 cannot", "is one object"),
    "a line that is cut": ("a.jsonl", labelled("up") + '\n{"text": "a', "line 3 cannot be read as json", "one object"),
    "a line that is a list": ("a.jsonl", labelled("up") + '["a", "up"]\n', "line 2 is a list, not an object", WANTED),
    "lines that are lists": ("a.jsonl", '["a", "up"]\n["b", "down"]\n', "line 1 is a list, not an object", WANTED),
    "lines that are texts in a json": ("a.json", '"a"\n"b"\n', "line 1 is text, not an object", WANTED),
    "a key twice": ("a.jsonl", '{"text": "a", "text": "b"}\n{}\n', "line 1", "the key 'text' comes twice"),
    "a json that is cut": ("a.json", '[{"text": "a"},\n{"text": ', "line 2 cannot be read as json", WANTED),
    "latin-1 in a jsonl": (
        "a.jsonl",
        labelled("up").encode() + '{"text": "café"}\n'.encode("latin-1"),
        "line 2: this is no utf-8 (byte 0xe9)",
        "--encoding cp1252",
    ),
    "latin-1 in a json": (
        "a.json",
        '[{"text":\n"café"}]'.encode("latin-1"),
        "line 2: this is no",
        "--encoding cp1252",
    ),
    "half a character": (
        "a.jsonl",
        labelled("up") + '{"text": "\\ud83d"}\n',
        "row 1 (a.jsonl line 2): 'text'",
        "Remove",
    ),
    "a label that is a dict": (
        "a.jsonl",
        labelled(*["up", "down"] * 3, "up", {"name": "up"}),
        'source row 7 (a.jsonl line 8): \'label\' is a dict, {"name": "up"}',
        "one plain value a row",
    ),
    "labels that are dicts": (
        "a.jsonl",
        labelled({"a": 1}, {"a": 2}),
        "row 0 (a.jsonl line 1): 'label' is a dict",
        "one",
    ),
    "a label that is a list": (
        "a.jsonl",
        labelled("up", "up", ["up"]),
        "row 2 (a.jsonl line 3): 'label' is a list",
        "one",
    ),
    "a label that is no list": (
        "a.jsonl",
        labelled(["up"], ["down"], 3),
        "row 2 (a.jsonl line 3): 'label' is a number, 3; most rows hold a list",
        "(or a list in every row)",
    ),
    "a label that is a dict in a document": (
        "a.json",
        json.dumps([{"text": "a", "label": "up"}, {"text": "b", "label": "up"}, {"text": "c", "label": {}}]),
        "source row 2 (a.json): 'label' is a dict, {}",
        "one plain value a row",
    ),
    "a text that is a dict": (
        "a.jsonl",
        lines({"text": "a"}, {"text": "b"}, {"text": {"en": "a"}}),
        "row 2 (a.jsonl line 3): 'text' is a dict",
        "the same kind of value in every row",
    ),
    "several splits": (
        "a.json",
        '{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
        "'train', 'test'",
        "of its own",
    ),
    "splits of columns": ("a.json", '{"train": {"text": ["a"]}, "test": {"text": ["b"]}}', "of splits", "of its own"),
    "a list of lists": ("a.json", '[["a", "up"], ["b", "down"]]', "list of lists, without column names", WANTED),
    "a list of lists under a name": ("a.json", '{"data": [["a", "up"]]}', "list of lists under 'data'", WANTED),
    "a list of texts": ("a.json", '["a", "b"]', "row 0 (a.json) is text, not an object", WANTED),
    "one object": ("a.json", '{"text": "a", "label": "up"}', "is one object ('text', 'label'), a single row", WANTED),
    "one object with more inside": ("a.json", '{"a": {"b": 1}, "c": [1], "d": 2}', "no list of rows is found", WANTED),
    "a number": ("a.json", "3", "holds a number and no rows", WANTED),
    "lists of different lengths": (
        "a.json",
        '{"text": ["a"], "label": [1, 2]}',
        "'text' has 1, 'label' has 2",
        WANTED,
    ),
    "columns by different rows": ("a.json", '{"text": {"0": "a"}, "label": {"1": 1}}', "for row '0'", WANTED),
    "objects that may be rows or columns": ("a.json", '{"a": {"b": 1}, "c": {"b": 2}}', "rows are not told", WANTED),
    "a short row of a split table": (
        "a.json",
        '{"columns": ["text"], "data": [[]]}',
        "row 0 (a.json) has 0 values",
        "text",
    ),
    "an empty list": ("a.json", "[]", "is empty", "it has no rows"),
    "an empty object": ("a.json", "{}", "is empty", "it has no rows"),
    "an empty list of rows": ("a.json", '{"data": []}', "is empty", "no rows under 'data'"),
    "rows without columns": ("a.jsonl", "{}\n{}\n", "its rows have no columns", WANTED),
    "deep lists": (
        "a.jsonl",
        labelled("up") + "[" * 100_000,
        "line 2 cannot be read as json: it is nested too",
        "object",
    ),
}
