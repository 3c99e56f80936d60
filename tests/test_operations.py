"""docs/operations.md has an entry for each error, log line and message there is, and no other.

What can be printed is read from the sources: each text of two words or more in the C core, each
call of the logger, each message of the command line, each text of a WalError that Python raises
(but for those about one argument, in `checks`, and those of the log in memory, which repeat them).
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES, run

from pylogwal import Wal, core, errors

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
ENTRIES = re.findall(r"^- `([^`]+)`", PAGE, re.MULTILINE)

C_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^"'/]+|/""", re.DOTALL
)
C_FIELD = re.compile(r"%(?:llu|zd|[dsu])")
LOG_FIELD = re.compile(r"%(?:\.\d)?[dfs]")
FIELD = "\0"

PYTHON = [
    path
    for path in sorted((ROOT / "pylogwal").glob("*.py"))
    if path.name not in ("checks.py", "memory.py")
]


# -- what can be printed: texts with FIELD in the place of what is put in --------------------------


def c_texts(source: str) -> Iterator[str]:
    """Of literals that stand one behind the other, the whole."""
    text = ""
    for token in C_TOKEN.findall(re.sub(r"^ *#.*$", "", source, flags=re.MULTILINE)):
        if token.startswith('"'):
            text += token[1:-1]
        elif token.strip() and not token.startswith(("//", "/*")):
            yield text
            text = ""


def from_c() -> set[str]:
    sources = sorted((ROOT / "csrc").glob("*.c"))
    assert len(sources) > 20
    texts = {C_FIELD.sub(FIELD, text) for path in sources for text in c_texts(path.read_text())}
    return {text for text in texts if re.search(r"\w \w", text)}


def python_text(node: ast.expr, field: re.Pattern[str] | None = None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return field.sub(FIELD, node.value) if field else node.value
    if isinstance(node, ast.JoinedStr):
        parts = [python_text(part) for part in node.values]
        return "".join(FIELD if part is None else part for part in parts)
    return None


def is_printed(call: ast.Call) -> bool:
    """On stderr, as a complaint, a log line, a warning or an error."""
    function = ast.unparse(call.func)
    return (
        function in ("complain", "warnings.warn", *errors.__all__)
        or function.startswith("logger.")
        or (
            function == "print" and any(ast.unparse(k.value) == "sys.stderr" for k in call.keywords)
        )
    )


def from_python() -> set[str]:
    texts = set()
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and is_printed(node):
                is_log_line = ast.unparse(node.func).startswith("logger.")
                text = python_text(node.args[0], LOG_FIELD if is_log_line else None)
                if text is not None and re.search(r"[a-z]{2}", text.replace("x1b", "")):
                    # Each error ends with where it happened; the command's name comes first.
                    texts.add(text.removesuffix(f" [{FIELD}]").removeprefix("pylogwal: "))
    return texts - {FIELD}


def pattern(text: str) -> re.Pattern[str]:
    """What the page writes for it: a word in capitals for each field."""
    return re.compile("[A-Z]+".join(map(re.escape, text.split(FIELD))))


# -- the page --------------------------------------------------------------------------------------


def test_the_sources_are_read() -> None:
    assert "the segment is missing" in from_c()
    assert any(text.startswith("another writer has LOCK locked; read_only") for text in from_c())
    printed = from_python()
    assert "standard output is closed" in printed
    assert f"damaged: {FIELD} (docs/operations.md, CorruptionError)" in printed
    assert f"{FIELD}: close: {FIELD}" in printed
    assert any("cut a torn tail" in text for text in printed)


@pytest.mark.parametrize("sources", [from_c, from_python])
def test_each_message_has_an_entry(sources: object) -> None:
    assert callable(sources)
    missing = [
        text.replace(FIELD, "N")
        for text in sorted(sources())
        if not any(pattern(text).fullmatch(entry) for entry in ENTRIES)
    ]
    assert not missing, "docs/operations.md has no entry for these"


def test_each_entry_is_of_a_message_that_is_printed_and_stands_there_once() -> None:
    patterns = [pattern(text) for text in from_c() | from_python()]
    unknown = [e for e in ENTRIES if not any(known.fullmatch(e) for known in patterns)]
    assert not unknown, "docs/operations.md names these, and no source has them"
    assert len(ENTRIES) == len(set(ENTRIES)), "docs/operations.md has an entry twice"


def test_what_a_log_tells_is_what_the_page_shows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    caplog.set_level(logging.INFO, "pylogwal")
    with Wal(log, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 10))
        end = wal.core.segments()[-1].end
        wal.persist_entries(run(11, 12))
        segment = (log / wal.core.segments()[-1].file).read_bytes()
    torn = bytearray(segment)  # as it was before the close
    torn[end + 4] ^= 1
    (log / "0000000000000001.wal").write_bytes(torn)
    caplog.clear()
    Wal(log, segment_bytes=SEGMENT_BYTES).close()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING"]
    assert "whole batches in it: 1)" in caplog.messages[1]
    shown = [re.compile(re.sub(r"\b[A-Z]{1,5}\b", ".+", re.escape(entry))) for entry in ENTRIES]
    for message, level in zip(caplog.messages, levels, strict=True):
        (entry,) = [e for e, s in zip(ENTRIES, shown, strict=True) if s.fullmatch(message)]
        assert f"- `{entry}` ({level})" in PAGE.replace("\n  ", " ")


def test_each_error_has_a_section() -> None:
    (section,) = re.findall(r"^## Errors\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    others = {"MemoryError", "TimeoutError", "ValueError"}
    titles = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert sorted(titles) == sorted({*errors.__all__} | others)
    for title in titles:
        body = section.partition(f"### {title}\n")[2].partition("###")[0]
        assert len(body.split()) > 10, title


def test_each_place_that_a_message_names_is_a_title() -> None:
    titles = set(re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE))
    for error_type in core._EXPLAINED:
        assert error_type.__name__ in titles
    named = re.findall(r'docs/operations\.md, "([^"]+)"', "\n".join(ENTRIES))
    assert named
    assert set(named) <= titles


def test_each_link_within_the_page_leads_to_a_title() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    targets = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert targets
    assert set(targets) <= anchors
