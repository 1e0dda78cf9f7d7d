"""Names of domains, and folders of files, that must be refused: given (a name, what is there), error, culprit, remedy.

What is there: rows of a good table by number, bytes, a link as `(where,)`, or `None` for a folder.
"""

from __future__ import annotations

import pictures

PNG = pictures.png(pictures.pictures(1)[0]["image"])
CARD = """---
configs:
- {config_name: en, data_files: en.csv}
- {config_name: de, data_files: de.csv}
---
"""
FILES = {
    "nothing at all": ((" ", {}), ValueError, "source is empty", "give `sample`, a Hub id"),
    "a file that is not there": (
        ("nwes.csv", {"news.csv": 3}), FileNotFoundError, "'nwes.csv': there is no such file",
        "Did you mean 'news.csv'?",
    ),
    "a folder that is not there": (
        ("dta/news.csv", {"data/news.csv": 3}),
        FileNotFoundError, "There is no 'dta' in '.'", "Did you mean 'data'?",
    ),
    "a file of a folder that is there": (
        ("./data/new.csv", {"data/news.csv": 3}), FileNotFoundError, "'./data/new.csv'", "Did you mean 'news.csv'?",
    ),
    "a file in upper case": (
        ("News.csv", {"news.csv": 3}), FileNotFoundError, "'News.csv'", "Did you mean 'news.csv'?",
    ),
    "signs of a shell": (
        ("data/*.csv", {"data/first-part.csv": 3}),
        FileNotFoundError, "'data/*.csv': there is no such file or folder", "give the folder",
    ),
    "a name that is no name": (
        ("my-news=n.csv", {"n.csv": 3}), FileNotFoundError, "'my-news=n.csv'", "letters, digits and underscores",
    ),
    "a link to nowhere": (
        ("a.csv", {"a.csv": ("gone.csv",)}), FileNotFoundError, "'a.csv' is a link to 'gone.csv'", "Mend the link",
    ),
    "a mistyped sample": (("sample:digit", {}), ValueError, "no such sample", "Did you mean 'sample:digits'?"),
    "a Hub id's configuration on a folder": (
        ("own/news:en", {"own/news/train.csv": 3}), FileNotFoundError, "'own/news' is a local path", "Give 'own/news'",
    ),
    "a spreadsheet": (("a.xlsx", {"a.xlsx": b"PK"}), ValueError, "'a.xlsx': files must end in .csv", "Save the sheet"),
    "a text file": (("a.TXT", {"a.TXT": b"w1"}), ValueError, "'a.TXT': files must end in .csv",
        "as csv with a header"),
    "an archive": (("a.zip", {"a.zip": b"PK"}), ValueError, "'a.zip': files must end in .csv", "Unpack it"),
    "an Arrow file": (("a.arrow", {"a.arrow": b"AR"}), ValueError, "'a.arrow'",
        "the folder that `save_to_disk` wrote"),
    "a pickle": (("a.pkl", {"a.pkl": b"x"}), ValueError, "'a.pkl'", "Save its rows as parquet or jsonl"),
    "one image": (("a.png", {"a.png": PNG}), ValueError, "'a.png'", "Give the folder that the images are in"),
    "a file without an ending": (("./data", {"data": b"x"}), ValueError, "'./data'", "files must end in .csv"),
    "a URL": (
        ("https://example.org/news.csv", {}), ValueError, "'https://example.org/news.csv' is a URL",
        "Download the file",
    ),
    "a bucket": (("s3://bucket/news.csv", {}), ValueError, "'s3://bucket/news.csv' is a URL", "give its path"),
    "a file's URL": (
        ("file:///data/news.csv", {}), ValueError, "'file:///data/news.csv' is a URL", "plain path, without file://",
    ),
    "a page of the Hub": (
        ("https://huggingface.co/datasets/own/news/viewer", {}), ValueError, "is a URL", "Give its id: 'own/news'.",
    ),
    "a file of the Hub": (
        ("hf://datasets/imdb/train.csv", {}), ValueError, "'hf://datasets/imdb/train.csv'", "Give its id: 'imdb'.",
    ),
    "accents in another form": (
        ("./Caf\u00e9.csv", {"Cafe\u0301.csv": 3}), FileNotFoundError, r"looks the same", r"'Cafe\u0301.csv'. Copy",
    ),
    "quotes around a name": (
        ("'./a.csv'", {"a.csv": 3}), FileNotFoundError, "Quotes and spaces around it", "give './a.csv'",
    ),
    "a name of Windows": (
        (r"data\a.csv", {"data/a.csv": 3}), FileNotFoundError, "separated by / here", "give 'data/a.csv'",
    ),
    "a variable": (
        ("$DATA/a.csv", {"a.csv": 3}), FileNotFoundError, "'$DATA/a.csv'", "write the path out",
    ),
    "two files in one name": (
        ("./a.csv,./b.csv", {"a.csv": 3, "b.csv": 4}), FileNotFoundError, "'./a.csv,./b.csv'", "an option of its own",
    ),
    "braces of a shell": (
        ("./{a,b}.csv", {"a.csv": 3, "b.csv": 4}), FileNotFoundError, "'./{a,b}.csv'", "give the folder",
    ),
    "an unknown ending": (("./a.dat", {"a.dat": b"x"}), ValueError, "'./a.dat'", "ending that says what it holds"),
    "a pattern without files": (
        ("n_{split}.csv", {"m_train.csv": 3}), FileNotFoundError, "no file 'n_train.csv'", "'n_train.csv'",
    ),
    "a pattern without train": (
        ("n_{split}.csv", {"n_dev.csv": 3}), ValueError, "has no train split; it has validation (n_dev.csv)",
        "Name a file",
    ),
    "a pattern with two of one split": (
        ("n_{split}.csv", {"n_train.csv": 3, "n_dev.csv": 4, "n_validation.csv": 5}),
        ValueError, "'n_dev.csv' and 'n_validation.csv' both claim the validation split", "Move one of them away",
    ),
    "a pattern of folders": (
        ("p/{split}", {"p/train/a.csv": 3}), ValueError, "'p/train' is a folder", "Give the folder that holds it",
    ),
}  # fmt: skip
FOLDERS = {
    "rows that a column calls a test split": (
        ("a.csv", {"a.csv": b"text,label,Split\nw1,up,train\nw2,down,Test\nw3,up,Test\n"}),
        ValueError, "'a.csv': the column 'Split' says 'Test' in 2 rows", "a file of its own",
    ),
    "rows that a column calls another split, or none": (
        ("a.csv", {"a.csv": b"text,label,data_split\nw1,up,train\nw2,down,dev\nw3,up,\n"}),
        ValueError, "'a.csv': the column 'data_split' says 'dev' in 1 rows", "drop the column",
    ),
    "rows for validation by a truth value": (
        ("a.csv", {"a.csv": b"text,label,is_valid\nw1,up,False\nw2,down,True\nw3,up,True\n"}),
        ValueError, "'a.csv': the column 'is_valid' says 'True' in 2 rows", "a file of its own",
    ),
    "rows not to train on by a number": (
        ("a.jsonl", {"a.jsonl": b'{"text": "w1", "label": "up", "isTrain": 1}\n{"text": "w2", "isTrain": 0}\n'}),
        ValueError, "'a.jsonl': the column 'isTrain' says 0 in 1 rows", "a file of its own",
    ),
    "a test split that metadata names": (
        ("./f", {"f/0.png": PNG, "f/1.png": PNG,
                 "f/metadata.csv": b"file_name,label,split\n0.png,up,train\n1.png,down,test\n"}),
        ValueError, "the column 'split' says 'test' in 1 rows", "a file of its own",
    ),
    "a card with two configurations": (
        ("./f", {"f/en.csv": 3, "f/de.csv": 4, "f/README.md": CARD.encode()}),
        ValueError, "README.md names 2 configurations ('en', 'de')", "Give the folder or the file of one",
    ),
    "a card that names a file which is not there": (
        ("./f", {"f/a.csv": 3, "f/README.md": b"---\nconfigs:\n- data_files: {test: b.csv}\n---\n"}),
        ValueError, "README.md names 'b.csv' for 'test', and there is no such table", "Mend its `data_files`",
    ),
    "pictures that are not read": (
        ("./f", {"f/cat/0.heic": b"x", "f/dog/1.heic": b"x"}), ValueError, "it holds cat/0.heic, dog/1.heic",
        "to PNG or JPEG",
    ),
    "a setting's file beside the rows": (
        ("./f", {"f/a.csv": 3, "f/config.json": b'[{"width": 1}]'}),
        ValueError, "source './f': 'a.csv' has the columns 'text', 'label' and 'config.json'", "move the other away",
    ),
    "an empty folder": (("./f", {"f": None}), ValueError, "it holds no files", "files named by split (train.csv"),
    "a folder with no usable file": (
        ("./f", {"f/a.xlsx": b"PK", "f/b.txt": b"x", "f/README.md": b"x"}),
        ValueError, "it holds a.xlsx, b.txt; 1 other file", "files named by split (train.csv",
    ),
    "a folder of Arrow files": (
        ("./f", {"f/train/data-00000-of-00001.arrow": b"AR", "f/train/state.json": b"{}"}),
        ValueError, "Directory f/train is neither", "come from `save_to_disk`",
    ),
    "a test split alone": (
        ("./f", {"f/Test.csv": 3}), ValueError, "has no train split; it has test (Test.csv)", "Rename the file",
    ),
    "two names for one split": (
        ("./f", {"f/train.csv": 3, "f/dev.csv": 4, "f/validation.csv": 5}),
        ValueError, "'dev.csv' and 'validation.csv' both claim the validation split", "Move one of them away",
    ),
    "one name in two cases": (
        ("./f", {"f/train.csv": 3, "f/Train.csv": 4}), ValueError, "both claim the train split",
        "Move one of them away",
    ),
    "two splits in one name": (
        ("./f", {"f/train.csv": 3, "f/train_test.csv": 4}), ValueError, "'train_test.csv' says train", "Rename it",
    ),
    "a file in the folder of another split": (
        ("./f", {"f/test/train.csv": 3, "f/train/a.csv": 4}), ValueError, "'test/train.csv' says test", "Rename it",
    ),
    "the same rows in two forms": (
        ("./f", {"f/train.csv": b"text,label\nw1,1\nw2,2\n",
                 "f/train.jsonl": b'{"text": "w1", "label": 1}\n{"text": "w2", "label": 2}\n'}),
        ValueError, "'train.csv' and 'train.jsonl' hold the same rows", "Remove one of them",
    ),
    "other columns in one file": (
        ("./f", {"f/a.csv": 3, "f/b.jsonl": b'{"body": "w1", "label": "up"}\n'}),
        ValueError, "'a.csv' has the columns 'text', 'label' and 'b.jsonl' has 'body', 'label'",
        "name the files by split",
    ),
    "other kinds in one file": (
        ("./f", {"f/a.csv": 3, "f/b.jsonl": b'{"text": "w1", "label": ["up"]}\n'}),
        ValueError, "'label' is of another kind in 'b.jsonl' than in 'a.csv'", "Write both files the same way",
    ),
    "a broken link in a folder": (
        ("./f", {"f/train.csv": 3, "f/test.csv": ("gone.csv",)}), FileNotFoundError, "a link to 'gone.csv'",
        "Mend or remove",
    ),
    "an empty file in a folder": (
        ("./f", {"f/train.csv": 3, "f/test.csv": b""}), ValueError, "f/test.csv' is empty", "no rows",
    ),
    "images and a table that does not name them": (
        ("./f", {"f/cat/0.png": PNG, "f/dog/0.png": PNG, "f/labels.csv": b"file,kind\n0.png,cat\n"}),
        ValueError, "tables without a column 'image' (labels.csv)", "`image_column`",
    ),
    "images without classes in a source": (
        ("./f", {"f/0.png": PNG, "f/1.png": PNG}), ValueError, "2 images of the train split stand in no class folder",
        "put each image into a folder named by its class",
    ),
    "an image outside of the class folders": (
        ("./f", {"f/0.png": PNG, "f/cat/1.png": PNG, "f/dog/2.png": PNG}),
        ValueError, "1 image of the train split stands in no class folder ('0.png')", "folder named by its class",
    ),
    "a folder around the class folders": (
        ("./f", {"f/images/cat/1.png": PNG, "f/images/dog/2.png": PNG}),
        ValueError, "one folder 'images', which would be the only class", "give that folder",
    ),
    "a class that is called like a split": (
        ("./f", {"f/bus/1.png": PNG, "f/train/2.png": PNG}),
        ValueError, "is 'train' a split or a class?", "Put the class folders into one named train",
    ),
    "classes valid and invalid": (
        ("./f", {"f/valid/1.png": PNG, "f/invalid/2.png": PNG}),
        ValueError, "is 'valid' a split or a class?", "Put the class folders into one named train",
    ),
    "two folders for one split of images": (
        ("./f", {"f/train/a/1.png": PNG, "f/val/a/2.png": PNG, "f/Valid/a/3.png": PNG}),
        ValueError, "both claim the validation split", "Move one of them away",
    ),
    "test images alone": (
        ("./f", {"f/Test/a/1.png": PNG, "f/Test/b/1.png": PNG}), ValueError, "has no train split; it has test",
        "train/",
    ),
    "a class that train lacks": (
        ("./f", {"f/train/a/1.png": PNG, "f/train/b/1.png": PNG, "f/test/B/1.png": PNG}),
        ValueError, "the test split has the class folder 'B', which the train split lacks", "Did you mean 'b'?",
    ),
    "an empty image": (
        ("./f", {"f/a/1.png": PNG, "f/b/2.png": b""}), ValueError, "'b/2.png' is no image: the file is empty",
        "Remove",
    ),
    "a web page for an image": (
        ("./f", {"f/a/1.png": PNG, "f/b/2.JPG": b"<!DOCTYPE html>\n<html>"}),
        ValueError, "'b/2.JPG' is no image: it holds text ('<!DOCTYPE html>'", "Remove or replace it",
    ),
    "a pointer for an image": (
        ("./f", {"f/a/1.png": PNG, "f/b/2.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:1"}),
        ValueError, "'b/2.png' is no image", "`git lfs pull`",
    ),
    "metadata of an image that is not there": (
        ("./f", {"f/0.png": PNG, "f/metadata.csv": b"file_name,label\n0.png,up\n1.png,down\n"}),
        ValueError, "row 1 (metadata.csv line 3): file_name '1.png' is no image of this folder",
        "mend or drop the row",
    ),
    "metadata that names an image twice": (
        ("./f", {"f/0.png": PNG, "f/metadata.csv": b"file_name,label\n0.png,up\n./0.png,down\n"}),
        ValueError, "'./0.png' was named before, in row 0 (metadata.csv line 2)", "Drop one",
    ),
}  # fmt: skip
