"""What messages may not hold: tokens, and characters that a terminal obeys."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer.messages import keep_secret, printable, redacted, redacted_values, shown

LONG = "hf_" + "abcdefghij" * 3 + "WXYZ"
HIDES = {
    "a token": (f"401 for {LONG}.", LONG[3:]),
    "a short one": ("--hub_tokn=hf_AbC123xyz", "AbC123"),
    "of an organisation": ("api_org_AbCdEfGhIj0123456789", "AbCd"),
    "all lower case, long": ("hf_" + "x" * 34, "xxx"),
    "in a repr": (f"{{'token': '{LONG}'}}", LONG[3:]),
    "in json": (f'{{"hub_token": "{LONG}"}}', LONG[3:]),
    "a url with a password": ("cannot reach https://me:pa55word@host/x", "pa55word"),
    "a url with a token as user": ("https://tokentoken@huggingface.co/owner/x", "tokentoken"),
    "a proxy": ("socks5h://me:geheim@proxy:1080", "geheim"),
    "a query": ("https://host/x?download=1&access_token=qwertz&x=1", "qwertz"),
    "a signed url": ("https://host/x?X-Amz-Signature=abcdef0123&y=2", "abcdef0123"),
    "a header": ("authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
    "a header's repr": ("{'Authorization': 'Basic bWU6cGFzcw=='}", "bWU6cGFzcw"),
    "of another service": ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "0123456789"),
    "a setting": ("hub_token=sometoken99", "sometoken99"),
    "an option": ("--hub_token sometoken99", "sometoken99"),
}
KEEPS = [
    "transformers/hf_argparser.py, line 3, in hf_hub_download",
    "source 'hf_reviews2024.csv': there is no such file or folder",
    "'hf_reviews_v2' has no column 'tokens'; tokens_column='words'",
    "https://huggingface.co/owner/name@main?revision=main",
    "[PAD] is the pad_token; max_length=512 tokens, token: w1",
    "hub_token is None, HF_TOKEN is not set: run `hf auth login`",
    "git@github.com:owner/name.git and me@example.org",
    "C:/runs/mine, s3://bucket/key, step 12: loss 0.123",
]


@pytest.mark.parametrize(("text", "secret"), HIDES.values(), ids=HIDES.keys())
def test_what_looks_like_a_token_is_hidden(text, secret):
    assert secret in text
    assert secret not in redacted(text)
    assert "***" in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("text", KEEPS)
def test_what_does_not_is_left_alone(text):
    assert redacted(text) == text


def test_known_values_are_hidden_whatever_they_look_like(monkeypatch):
    monkeypatch.setattr("hftransfer.messages._registered_secrets", set())
    assert redacted("open sesame") == "open sesame"
    monkeypatch.setenv("HF_TOKEN", "open sesame")
    assert redacted("say open sesame!") == "say ***!"
    keep_secret("say open sesame")
    assert redacted("say open sesame!") == "***!"
    keep_secret("a")
    assert redacted("a b") == "a b"
    assert redacted_values({"x": ["open sesame", 3], "y": {"z": None}}) == {"x": ["***", 3], "y": {"z": None}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, [red]bold[/red] and ünïcödé 中文 👩\u200d🔬\n\t.", None),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
        ("a\rb\x08\x07\x00", "a\\rb\\x08\\x07\\x00"),
        ("\x9b31m \u202egnp.exe \u2028", "\\x9b31m \\u202egnp.exe \\u2028"),
        ("cut \x1b[", "cut \\x1b["),
    ],
)
def test_a_terminal_does_not_obey(text, shown):
    assert printable(text) == (text if shown is None else shown)


def test_values_are_shown_short():
    assert shown("up") == "'up'"
    assert shown("x" * 900) == f"'{'x' * 60}…' (900 characters)"
    assert shown(b"x" * 900).endswith("…' (900 bytes)")
    assert shown(None) == "None"
    for value in (
        list(range(9999)),
        ["x" * 900] * 50,
        dict.fromkeys(range(99), "y" * 99),
        np.zeros((99, 99)),
        "'" * 99,
    ):
        assert len(shown(value)) <= 140, value
    assert "geheim" not in shown("https://me:geheim@host/a.png")
