"""Verification of logs that no writer of this library made: see test_decoder.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from encoder import file_name
from test_decoder import DAMAGED, NEWER, SEGMENT_SIZE, SOUND, put

from pylogwal import Finding, FindingKind, UnsupportedFormatError
from pylogwal.verification import Verification

EVERYTHING = 2**64
"""The end of a range whose end is not known."""

EXPECTED: dict[str, list[tuple[str, int | None, int, FindingKind, range | None]]] = {
    "footer_damaged": [(file_name(1), 1, SEGMENT_SIZE - 4096, FindingKind.FOOTER, range(1, 21))],
    "offset_index_damaged": [
        (file_name(1), 1, SEGMENT_SIZE - 4100, FindingKind.OFFSET_INDEX, range(1, 21))
    ],
    "older_entry_damaged": [(file_name(1), 1, 8192, FindingKind.FRAME, range(1, 2))],
    "damage_before_a_synced_batch": [(file_name(1), 1, 8496, FindingKind.FRAME, range(4, 5))],
    "damage_before_a_close_mark": [(file_name(1), 1, 8688, FindingKind.FRAME, range(6, 7))],
    "sealed_and_its_successor_deleted": [
        (file_name(3), 3, 0, FindingKind.MISSING_SEGMENT, range(41, EVERYTHING))
    ],
    "older_segment_deleted": [(file_name(2), 2, 0, FindingKind.MISSING_SEGMENT, range(21, 41))],
    # Which entries each of the two holds cannot be told from where they are.
    "two_segments_swapped": [
        (file_name(1), 1, 0, FindingKind.FOREIGN_FILE, range(1, 41)),
        (file_name(2), 2, 0, FindingKind.FOREIGN_FILE, range(1, 41)),
    ],
    "a_segment_of_another_log": [(file_name(1), 1, 0, FindingKind.FOREIGN_FILE, range(1, 21))],
    "older_segment_of_another_life": [
        (file_name(1), 1, SEGMENT_SIZE - 4096, FindingKind.CHAIN, range(1, 21))
    ],
    "older_segment_cut_short": [
        (file_name(1), 1, SEGMENT_SIZE - 4096, FindingKind.SHORT_FILE, range(1, 21))
    ],
    "tail_cut_short": [
        (file_name(2), 2, SEGMENT_SIZE - 4096, FindingKind.SHORT_FILE, range(21, EVERYTHING))
    ],
    "tail_header_lost": [(file_name(2), 2, 0, FindingKind.HEADER, range(21, 41))],
    # The close mark says that the segment holds no entries.
    "tail_header_lost_before_a_close_mark": [(file_name(2), 2, 0, FindingKind.HEADER, None)],
    "a_number_is_skipped": [(file_name(4), 4, 0, FindingKind.FOREIGN_FILE, None)],
    "log_id_without_segments": [
        (file_name(1), 1, 0, FindingKind.MISSING_SEGMENT, range(1, EVERYTHING))
    ],
    "no_log_id_and_headers_disagree": [
        (file_name(1), 1, 0, FindingKind.FOREIGN_FILE, range(1, 21))
    ],
}


def entries(finding: Finding) -> range | None:
    if finding.first_index is None:
        return None
    last = finding.last_index
    return range(finding.first_index, EVERYTHING if last is None else last + 1)


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_log(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "log", SOUND[name]().files)
    verification = Verification(str(path))
    assert list(verification) == []
    progress = verification.progress
    assert progress.bytes == progress.total_bytes
    if progress.first_index > 0:  # else there is no segment yet
        assert progress.entries == progress.last_index - progress.first_index + 1


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named_with_its_place_and_its_entries(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "log", DAMAGED[name]().files)
    found = list(Verification(str(path)))
    assert all(finding.needed for finding in found)
    assert [(f.file, f.segment, f.offset, f.kind, entries(f)) for f in found] == EXPECTED[name]


@pytest.mark.parametrize("name", NEWER)
def test_a_newer_version_is_refused(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / "log", NEWER[name]().files)
    with pytest.raises(UnsupportedFormatError):
        list(Verification(str(path)))
