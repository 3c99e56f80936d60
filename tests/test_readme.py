"""The README's sessions run as they are printed."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib.metadata
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


@pytest.mark.parametrize("name", ["CHANGELOG.md", "docs/durability.md", "docs/operations.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def readme_links() -> list[str]:
    """The targets of all links and images, inline or defined at the end."""
    text = re.sub(
        r"^```.*?^```$|`[^`\n]*`", "", README.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    definitions = dict(re.findall(r"^\[([^\]]+)\]: *(\S+)$", text, re.MULTILINE))
    inline = re.findall(r"\]\(([^)\s]*)[^)]*\)", text)
    inline += re.findall(r"<[^>]*(?:href|src)=[\"']?([^\"'\s>]*)", text)
    assert set(re.findall(r"\[([^\]]+)\](?![(:])", text)) <= set(definitions)
    return [*inline, *definitions.values()]


def repository() -> str:
    """Its address, as the package's metadata has it."""
    urls = importlib.metadata.metadata("pylogwal").get_all("Project-URL") or []
    return dict(url.split(", ", 1) for url in urls)["Homepage"]


def path_in(repository: str, target: str) -> str | None:
    """The file of this repository that a link names, if it names one."""
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/")
    for prefix in (f"{repository}/blob/main/", f"{repository}/tree/main/", f"{raw}/main/"):
        if target.startswith(prefix):
            return target.removeprefix(prefix).partition("#")[0]
    return None


def test_each_link_of_the_readme_works_where_only_the_readme_is_shown() -> None:
    """As on PyPI."""
    targets = readme_links()
    assert len(targets) > 5
    for target in targets:
        assert target.startswith("https://"), target
        path = path_in(repository(), target)
        if target.startswith((repository(), "https://raw.githubusercontent.com/")):
            assert path is not None, f"{target}: not a file of the branch main"
            assert (ROOT / path).is_file(), target
