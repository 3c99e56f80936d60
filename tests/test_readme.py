"""The README's sessions run as they are printed."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import shlex
import types
from pathlib import Path
from typing import Any

import pytest

from pylogwal import cli

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CHECKER = doctest.OutputChecker()


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


async def printed(source: str, names: dict[str, Any]) -> str:
    """What `python -m asyncio` prints for one statement."""
    code = compile(source, "README.md", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        result = types.FunctionType(code, names)()
        if inspect.iscoroutine(result):
            await result
    return output.getvalue()


async def run_python(session: str) -> None:
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples(session):
        got = await printed(example.source, names)
        assert CHECKER.check_output(example.want, got, doctest.ELLIPSIS), (example.source, got)


def run_commands(session: str, capsys: pytest.CaptureFixture[str]) -> None:
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        program, *arguments = shlex.split(command, comments=True)
        assert program == "pylogwal"
        assert cli.main(arguments) == 0
        assert capsys.readouterr().out == expected


def test_the_sessions_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (python,) = blocks("pycon")
    asyncio.run(run_python(python))
    (console,) = blocks("console")
    run_commands(console, capsys)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/durability.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
