"""Messages of a worker come whole, however the operating system cut them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from orchestration.workers import whole_lines


def _read(path: Path, pieces: list[str]) -> list[str]:
    """What the reader yields while ``pieces`` are appended one after the other."""
    path.touch()
    ended = threading.Event()

    def write() -> None:
        with path.open("a", encoding="utf-8") as stream:
            for piece in pieces:
                stream.write(piece)
                stream.flush()
                time.sleep(0.03)
        ended.set()

    writer = threading.Thread(target=write)
    with path.open(encoding="utf-8") as stream:
        writer.start()
        found = list(whole_lines(stream, ended))
    writer.join()
    return found


def test_a_message_that_is_written_in_pieces_comes_as_one(tmp_path):
    long = "x" * 20_000
    pieces = ['{"a": "', long, '"}\n{"b"', ": 2}\n"]
    assert _read(tmp_path / "messages", pieces) == [f'{{"a": "{long}"}}\n', '{"b": 2}\n']


def test_what_a_killed_writer_left_unfinished_is_no_message(tmp_path):
    assert _read(tmp_path / "messages", ['{"a": 1}\n', '{"b": ']) == ['{"a": 1}\n']
