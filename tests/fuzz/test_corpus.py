"""What the fuzzers found worth keeping, run once more; the fuzzers themselves: tests/fuzz/run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from processes import memory, needs_proc

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
FLAGS = ["-std=gnu11", "-O1", "-g", "-pthread", f"-I{CSRC}"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compile_all(commands: list[list[object]]) -> None:
    running = [subprocess.Popen([str(word) for word in command]) for command in commands]
    assert [process.wait() for process in running] == [0] * len(running)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The core without its checksums."""
    made = tmp_path_factory.mktemp("core")
    sources = [path for path in CSRC.glob("*.c") if path.stem != "crc32c"]
    compiler = os.environ.get("CC", "cc").split()
    outputs = [made / f"{source.stem}.o" for source in sources]
    compile_all(
        [
            [*compiler, *FLAGS, "-c", source, "-o", output]
            for source, output in zip(sources, outputs, strict=True)
        ]
    )
    return outputs


@needs_proc  # the sanitizers read it
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="it has sanitizers of its own")
@pytest.mark.parametrize("target", ["decoders", "recovery"])
def test_the_corpus_meets_no_bug(tmp_path: Path, objects: list[Path], target: str) -> None:
    corpus = sorted((HERE / "corpus" / target).iterdir())
    assert corpus
    compiler = os.environ.get("CC", "cc").split()
    sources: list[object] = [HERE / f"fuzz_{target}.c", HERE / "replay.c", *objects]
    kinds: dict[str, list[object]] = {
        "real": [CSRC / "crc32c.c"],
        "stubbed": [HERE / "crc_stub.c", "-DLW_STUBBED_CHECKSUMS"],
    }
    compile_all(
        [
            [*compiler, *FLAGS, "-o", tmp_path / kind, *sources, *more]
            for kind, more in kinds.items()
        ]
    )
    for kind in kinds:
        with memory() as directory:
            done = subprocess.run(
                [tmp_path / kind, *corpus],
                env={**os.environ, "TMPDIR": directory},
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, done.stderr[-10_000:]
