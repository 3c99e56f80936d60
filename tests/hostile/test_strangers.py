"""Files that are not this log's, paths that are no log, versions to come."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from encoder import build_lock, rechecked
from hostile_logs import Files, Log, closed_log, files_of, killed_log, put
from processes import run_python
from stores import SEGMENT_BYTES, run, state_of

import pylogwal
from pylogwal import CorruptionError, Entry, UnsupportedFormatError, Wal, WalError

MAKERS = {"closed": closed_log, "killed": killed_log}


@pytest.fixture(params=MAKERS.keys())
def make(request: pytest.FixtureRequest) -> Callable[[Path], Log]:
    maker: Callable[[Path], Log] = MAKERS[request.param]
    return maker


def segments_of(files: Files) -> list[str]:
    return sorted(name for name in files if name.endswith(".wal"))


def refused(path: Path, error: type[WalError], match: str | None = None) -> WalError:
    """Both kinds of open raise it, and change no byte."""
    before = files_of(path)
    for read_only in (True, False):
        with pytest.raises(error, match=match) as raised:
            Wal(path, read_only=read_only)
        assert type(raised.value) is error
        assert raised.value.path == str(path)
    after = files_of(path)
    if "LOCK" not in before:
        assert after.pop("LOCK", b"") == b""
    assert after == before
    return raised.value


def test_a_file_of_another_log_is_refused(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    ours = make(tmp_path / "ours")
    (tmp_path / "more").mkdir()
    theirs = make(tmp_path / "more" / "theirs")
    mixed = tmp_path / "mixed"
    for name in sorted(set(ours.files) & set(theirs.files)):
        if not any(ours.files[name][:4096]):
            continue  # blank: a successor that has not begun is nobody's
        put(mixed, {**ours.files, name: theirs.files[name]})
        error = refused(mixed, CorruptionError)
        assert error.file is not None


def test_a_leftover_of_another_log_is_not_removed(tmp_path: Path) -> None:
    ours = closed_log(tmp_path / "ours")
    with Wal(tmp_path / "theirs", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 5))
    theirs = files_of(tmp_path / "theirs")[f"{1:016x}.wal"]
    with Wal(tmp_path / "ours", segment_bytes=SEGMENT_BYTES) as wal:
        wal.purge(pylogwal.LogId(60, 4))
        assert not (tmp_path / "ours" / f"{1:016x}.wal").exists()
    (tmp_path / "ours" / f"{1:016x}.wal").write_bytes(theirs)
    refused(tmp_path / "ours", CorruptionError, "another log")
    assert ours.states


def newer(page: bytes, version: int = 2) -> bytes:
    """The page as a later version may write it: only the first bytes and the check are fixed."""
    assert len(page) == 4096
    return rechecked(page[:8] + version.to_bytes(4, "little") + page[12:])


def test_a_newer_version_is_said_to_be_one(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "log")
    path = tmp_path / "newer"
    for name in segments_of(log.files):
        data = log.files[name]
        for start in (0, 4096, len(data) - 4096):
            if data[start : start + 2] != b"LW":
                continue
            made = data[:start] + newer(data[start : start + 4096]) + data[start + 4096 :]
            put(path, {**log.files, name: made})
            needed = name == segments_of(log.files)[-1] or start != 4096
            if needed:
                error = refused(path, UnsupportedFormatError, "newer version")
                assert name in str(error)
                assert error.file == name


def test_a_newer_lock_is_said_to_be_one(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "log")
    lock = build_lock(log.files["LOCK"][16:32], version=2)
    put(tmp_path / "newer", {**log.files, "LOCK": lock})
    assert refused(tmp_path / "newer", UnsupportedFormatError, "newer version").file == "LOCK"


def test_a_newer_version_whose_check_is_wrong_is_damage(tmp_path: Path) -> None:
    log = closed_log(tmp_path / "log")
    name = segments_of(log.files)[0]
    data = bytearray(log.files[name])
    data[8] = 2
    put(tmp_path / "damaged", {**log.files, name: bytes(data)})
    refused(tmp_path / "damaged", CorruptionError)


def test_an_empty_segment_file(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "log")
    path = tmp_path / "empty"
    for name in segments_of(log.files):
        put(path, {**log.files, name: b""})
        if not any(log.files[name]) and len(log.states) == 1:
            with Wal(path) as wal:  # closed, and this one not begun: it will be made anew
                assert state_of(wal) == log.states[0]
            continue
        error = refused(path, CorruptionError)
        lost = log.visible.get(name, range(0))
        if lost:
            assert error.first_index is not None
            assert error.first_index <= max(lost[0], log.begins[name])
            assert error.last_index is None or error.last_index >= lost[-1]


@pytest.mark.parametrize("data", [b"?", b"", b"no segment\n" * 1000], ids=["byte", "empty", "text"])
@pytest.mark.parametrize("ahead", [1, 2, 90])
def test_a_stray_file_with_a_segments_name_is_named_and_nothing_called_lost(
    tmp_path: Path, make: Callable[[Path], Log], data: bytes, ahead: int
) -> None:
    log = make(tmp_path / "log")
    path = tmp_path / "log"
    newest = max(int(name[:16], 16) for name in segments_of(log.files))
    stray = f"{newest + ahead:016x}.wal"
    if any(log.files[f"{newest:016x}.wal"][:4096]) and ahead == 1:
        return  # where a successor stands, the file may be one
    (path / stray).write_bytes(data)
    error = refused(path, CorruptionError, "move the file out of the directory and open the log ag")
    assert error.file == stray
    assert (error.first_index, error.last_index) == (None, None)
    assert "lost" not in str(error)
    (path / stray).unlink()
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        assert state_of(wal) in log.states


def test_a_stray_file_where_the_next_segment_would_be(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 5))
        files = files_of(tmp_path / "log")  # as a kill leaves them
    stray = f"{2:016x}.wal"
    put(tmp_path / "killed", {**files, stray: b"?"})
    error = refused(tmp_path / "killed", CorruptionError, "move the file out of the directory and")
    assert (error.file, error.first_index) == (stray, None)
    (tmp_path / "killed" / stray).unlink()
    with Wal(tmp_path / "killed", segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.last_index() == 5


def test_segments_missing_at_the_end_are_lost_though_a_stray_file_stands_there(
    tmp_path: Path,
) -> None:
    with Wal(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 5))
        while wal.stats().segments < 3:
            index = wal.last_index() + 1
            wal.persist_entries(run(index, index, payload=bytes(20_000)))
        sealed = wal.core.segments()[0]
    for name in segments_of(files_of(tmp_path / "log"))[1:]:
        (tmp_path / "log" / name).unlink()
    (tmp_path / "log" / f"{99:016x}.wal").write_bytes(b"?")
    error = refused(tmp_path / "log", CorruptionError, "missing")
    assert error.file == f"{2:016x}.wal"
    assert (error.first_index, error.last_index) == (sealed.next_index, None)


def test_foreign_files_are_left_alone(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "log")
    path = tmp_path / "log"
    foreign = {
        "notes.txt": b"mine",
        "1.wal": b"not 16 digits",
        f"{1:016x}.wal.bak": b"not ours",
        f"{1:016X}a.wal": b"17",
        "000000000000000G.wal": b"no digit",
        f"{0xABC:016X}.wal": b"capitals",
        f"{1:016x}.WAL": b"capitals",
        ".hidden": b"",
        "LOCK~": b"",
    }
    for name, data in foreign.items():
        (path / name).write_bytes(data)
    (path / "folder").mkdir()
    (path / "folder" / f"{9:016x}.wal").write_bytes(b"deeper")
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        assert state_of(wal) == log.states[-1]
        wal.reset()
        wal.persist_entries([Entry(1, 1, b"x" * 50_000), Entry(2, 1, b"x" * 50_000)])
        wal.purge(pylogwal.LogId(1, 1))
    with Wal(path) as wal:
        assert wal.last_index() == 2
    assert {name: (path / name).read_bytes() for name in foreign} == foreign
    assert (path / "folder" / f"{9:016x}.wal").read_bytes() == b"deeper"


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    log = closed_log(tmp_path / "log")
    for name in (segments_of(log.files)[0], segments_of(log.files)[-1], "LOCK"):
        path = tmp_path / "folder"
        put(path, {other: data for other, data in log.files.items() if other != name})
        (path / name).mkdir()
        for read_only in (True, False):
            with pytest.raises(WalError) as raised:
                Wal(path, read_only=read_only)
            assert raised.value.errno in (errno.EISDIR, errno.EINVAL)
        shutil.rmtree(path)


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    for read_only in (True, False):
        with pytest.raises(WalError) as raised:
            Wal(path, read_only=read_only)
        assert raised.value.errno == errno.ENOTDIR
    assert path.read_bytes() == b"mine"
    with pytest.raises(WalError) as raised:
        Wal(path / "below")
    assert raised.value.errno == errno.ENOTDIR


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "gone")
    for path in (tmp_path / "a" / "b", tmp_path / "link"):
        with pytest.raises(WalError) as raised:
            Wal(path)
        assert raised.value.errno in (errno.ENOENT, errno.EEXIST)
    with pytest.raises(WalError) as raised:
        Wal(tmp_path / "none", create=False)
    assert raised.value.errno == errno.ENOENT
    assert not (tmp_path / "none").exists()
    (tmp_path / "blank").mkdir()
    with pytest.raises(WalError) as raised:
        Wal(tmp_path / "blank", create=False)
    assert raised.value.errno == errno.ENOENT
    assert list((tmp_path / "blank").iterdir()) == []


AS_ORDINARY_USER = """
import errno, os, sys
path, expected, *options = sys.argv[1:]
from pylogwal import Entry, Wal, WalError
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Wal(path, segment_bytes=65536, read_only="read_only" in options) as wal:
        assert wal.get_entries(1, 3) == [Entry(i, 1, b"%d in term 1" % i) for i in range(1, 4)]
        if "write" in options:
            for i in range(4, 60):
                wal.persist_entries([Entry(i, 1, b"x" * 5000)])
    print("open")
except WalError as error:
    print(errno.errorcode.get(error.errno, error.errno))
"""


def permit(path: Path, rights: str) -> None:
    """Gives these of the rights "rwx" to the user of AS_ORDINARY_USER. For root that is nobody,
    as one of the others; for any other user it is the user, as the owner.
    """
    bits = sum({"r": 4, "w": 2, "x": 1}[right] for right in rights)
    path.chmod(0o700 | bits if os.geteuid() == 0 else bits << 6)


@pytest.fixture
def their_log() -> Iterator[Path]:
    """A log in a place that everybody may go to."""
    with tempfile.TemporaryDirectory(prefix="pylogwal-") as made:
        place = Path(made)
        place.chmod(0o755)
        if os.geteuid() == 0 and any(not folder.stat().st_mode & 0o001 for folder in place.parents):
            pytest.skip(f"not everybody may go to {place.parent}, where temporary files are made")
        path = place / "log"
        with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
            wal.persist_entries(run(1, 3))
        yield path
        path.chmod(0o700)


def test_a_directory_without_permission(their_log: Path) -> None:
    before = files_of(their_log)
    permit(their_log, "")
    assert run_python(AS_ORDINARY_USER, their_log, "") == "EACCES\n"
    assert run_python(AS_ORDINARY_USER, their_log, "", "read_only") == "EACCES\n"
    assert run_python(AS_ORDINARY_USER, their_log / "below", "") == "EACCES\n"
    their_log.chmod(0o700)
    assert files_of(their_log) == before


def test_files_without_permission(their_log: Path) -> None:
    before = files_of(their_log)
    permit(their_log, "rx")
    for name in before:
        permit(their_log / name, "r")
    assert run_python(AS_ORDINARY_USER, their_log, "") == "EACCES\n"
    assert run_python(AS_ORDINARY_USER, their_log, "", "read_only") == "open\n"
    for name in before:
        permit(their_log / name, "")
        assert run_python(AS_ORDINARY_USER, their_log, "", "read_only") == "EACCES\n", name
        permit(their_log / name, "r")
    assert files_of(their_log) == before


def test_a_directory_that_can_only_be_read(their_log: Path) -> None:
    """Reading needs no more; writing does as long as no new file is needed."""
    for name in files_of(their_log):
        permit(their_log / name, "rw")
    permit(their_log, "rx")
    assert run_python(AS_ORDINARY_USER, their_log, "", "read_only") == "open\n"
    assert run_python(AS_ORDINARY_USER, their_log, "") == "open\n"
    assert run_python(AS_ORDINARY_USER, their_log, "", "write") == "EACCES\n"
    permit(their_log, "rwx")
    with Wal(their_log) as wal:
        assert wal.get_entries(1, 3) == run(1, 3)


def test_a_log_may_be_moved_and_copied_whole(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "log")
    put(tmp_path / "copy", log.files)
    (tmp_path / "copy").rename(tmp_path / "moved")
    with Wal(tmp_path / "moved", segment_bytes=SEGMENT_BYTES) as wal:
        assert state_of(wal) == log.states[-1]


def test_a_log_without_its_lock_file_opens_if_all_agree(
    tmp_path: Path, make: Callable[[Path], Log]
) -> None:
    log = make(tmp_path / "log")
    whole = log.files["LOCK"]
    for lock in (None, b"", bytes(32), whole[:16]):  # removed; or torn when it was written anew
        files = {name: data for name, data in log.files.items() if name != "LOCK"}
        put(tmp_path / "copy", files if lock is None else {**files, "LOCK": lock})
        with Wal(tmp_path / "copy", read_only=True) as wal:
            assert state_of(wal) == log.states[-1]
        with Wal(tmp_path / "copy", segment_bytes=SEGMENT_BYTES, create=False) as wal:
            assert state_of(wal) == log.states[-1]
        assert (tmp_path / "copy" / "LOCK").read_bytes() == whole
        shutil.rmtree(tmp_path / "copy")


def test_a_pipe_under_a_segments_name_is_an_error_and_nobody_waits_for_it(tmp_path: Path) -> None:
    for number in (1, 2):
        os.mkfifo(tmp_path / f"{number:016x}.wal")
    for read_only in (True, False):
        with pytest.raises(WalError):
            Wal(tmp_path, read_only=read_only)
