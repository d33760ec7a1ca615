"""Each line is one JSON object that says which run, job, step and day it belongs to; none is lost for its text, and none shows a secret."""

import json
import logging
import multiprocessing
import os
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pytest

from orchestration import logs
from orchestration.run_history import past_runs, stage_seconds
from orchestration.runs import prepare_home, reasons_of
from orchestration.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = Settings(home=tmp_path / "home")
    monkeypatch.setenv("VOLCAST_HOME", str(made.home))
    yield made
    logs.start(Settings(home=tmp_path / "elsewhere"))


def lines_of(settings: Settings) -> list[dict]:
    text = (settings.home / "logs" / logs.FILE_NAME).read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


@dg.op
def ingest(context: dg.OpExecutionContext) -> int:
    context.log.info("84 rows offered", extra={"coin": "ETH"})
    context.log.debug("not worth a line")
    logging.getLogger("orchestration.ingest").info(
        "stale", extra={"coin": "BTC", "event": "stream_stale"}
    )
    return 1


@dg.op
def train(rows: int) -> None:
    raise RuntimeError("diverged")


@dg.job(name="daily")
def a_job() -> None:
    train(ingest())


def test_what_a_run_says_is_found_by_run_job_step_and_day_and_history_agrees_with_dagster(settings):
    prepare_home(settings)
    logs.start(settings)
    with dg.DagsterInstance.get() as instance:
        result = a_job.execute_in_process(
            instance=instance, tags={"dagster/partition": "2024-03-20"}, raise_on_error=False
        )
        record = instance.get_run_record_by_id(result.run_id)
        stats = instance.get_run_step_stats(result.run_id)
    lines = lines_of(settings)
    assert {line["run"] for line in lines} == {result.run_id}
    assert {line["job"] for line in lines} == {"daily"}
    assert {line["partition"] for line in lines} == {"2024-03-20"}
    by_event = {line["event"]: line for line in lines}
    assert list(dict.fromkeys(line["event"] for line in lines)) == [
        "run_start", "step_start", "log", "stream_stale", "step_success", "step_failure", "run_failure",
    ]  # fmt: skip
    assert (by_event["log"]["step"], by_event["log"]["message"]) == ("ingest", "84 rows offered")
    assert by_event["log"]["coin"] == "ETH"
    stale = by_event["stream_stale"]
    assert (stale["step"], stale["coin"], stale["logger"]) == (
        "ingest",
        "BTC",
        "orchestration.ingest",
    )
    assert by_event["step_success"]["duration_seconds"] >= 0
    assert (by_event["step_failure"]["level"], "diverged" in by_event["step_failure"]["error"]) == (
        "error",
        True,
    )

    (run,) = past_runs(settings)
    assert (run.run_id, run.job, run.status, run.days) == (
        result.run_id,
        "daily",
        "FAILURE",
        "2024-03-20",
    )
    assert run.started_at.timestamp() == record.start_time
    assert run.ended_at.timestamp() == record.end_time
    measured = {item.step_key: item.end_time - item.start_time for item in stats}
    assert stage_seconds(settings, run.run_id) == pytest.approx(measured, abs=0.002)
    assert reasons_of(settings, run.run_id) == "train: RuntimeError: diverged"

    logging.getLogger("orchestration.cli").info("between runs")
    assert "run" not in lines_of(settings)[-1]


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\n",
        "nul \x00 and bell \x07",
        "half a character \ud83d",
        '{"json": 1}',
        "\u2028 separates",
        "%s %d",
    ],
    ids=["lines", "nul", "half a character", "json", "separator", "percent"],
)
def test_odd_text_is_one_line(settings, text):
    logs.start(settings)
    record = logging.LogRecord("ml", logging.WARNING, __file__, 1, "%s", (text,), None)
    # straight to the file: pytest cannot send half a character to the process that gathers its reports
    for handler in logging.getLogger("ml").handlers:
        handler.handle(record)
    (line,) = lines_of(settings)
    assert line["message"] == text


def test_a_huge_text_is_cut_in_the_middle_and_says_so(settings):
    logs.start(settings)
    logging.getLogger("quality").info("begin" + "x" * 3_000_000 + "the end says why")
    (line,) = lines_of(settings)
    assert len(line["message"]) < logs.MOST_TEXT + 100
    assert line["message"].startswith("begin")
    assert line["message"].endswith("the end says why")
    assert "characters left out" in line["message"]


def test_a_format_that_does_not_fit_its_arguments_loses_nothing(settings):
    logs.start(settings)
    logging.getLogger("ml").info("%d forecasts of %s", "six", "BTC")
    (line,) = lines_of(settings)
    assert "six" in line["message"]
    assert "BTC" in line["message"]


def test_secrets_are_masked_in_messages_errors_and_counts(settings, monkeypatch):
    monkeypatch.setenv("VOLCAST_ALERT_SMTP_PASSWORD", "correct horse")
    logs.start(settings)
    logger = logging.getLogger("orchestration.alerts")
    logger.info(
        "login with %s", "correct horse", extra={"counts": {"correct horse": "correct%20horse"}}
    )
    try:
        raise OSError("https://me:hunter222@example.org refused")
    except OSError:
        logger.exception("no mail")
    text = (settings.home / "logs" / logs.FILE_NAME).read_text()
    assert "horse" not in text
    assert "hunter222" not in text
    assert text.count("***") >= 2


def test_level_and_terminal_follow_the_settings(settings, capsys):
    logs.start(settings.model_copy(update={"log_level": "warning", "log_format": "text"}))
    logging.getLogger("ml").info("not asked for")
    logging.getLogger("ml").warning("asked for", extra={"coin": "ETH"})
    assert [line["message"] for line in lines_of(settings)] == ["asked for"]
    shown = capsys.readouterr().err
    assert shown.endswith("warning ETH: asked for\n")
    logs.start(settings.model_copy(update={"log_format": "json"}))


def write_lines(path: Path, who: int, count: int) -> None:
    file = logs.LogFile(path, most_bytes=4_000, kept=50)
    for number in range(count):
        file.write(json.dumps({"who": who, "number": number}).encode() + b"\n")


def test_processes_that_write_and_rotate_at_once_lose_no_line(tmp_path):
    path = tmp_path / "logs" / "x.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_lines, args=(path, who, 400)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    files = [file for file in path.parent.iterdir() if file.suffix != ".lock"]
    assert len(files) > 5
    found = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert len(found) == 1600
    assert len({(line["who"], line["number"]) for line in found}) == 1600


def test_files_are_bounded_in_size_and_number(tmp_path):
    file = logs.LogFile(tmp_path / "x.jsonl", most_bytes=1_000, kept=3)
    for number in range(500):
        file.write(f"{number:09d}\n".encode())
    kept = sorted(path.name for path in tmp_path.glob("x.jsonl*"))
    assert kept == ["x.jsonl", "x.jsonl.1", "x.jsonl.2", "x.jsonl.3"]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.glob("x.jsonl*"))
    assert (tmp_path / "x.jsonl").read_text().splitlines()[-1] == "000000499"


def test_a_full_disk_stops_no_run_and_spoils_no_line_after(settings, monkeypatch, capsys):
    logs.start(settings)
    logger = logging.getLogger("ml")
    logger.info("before")
    write, room = os.write, [10]

    def full(descriptor: int, content: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    logger.info("while it is full")
    monkeypatch.setattr(os, "write", write)
    logger.info("after")
    shown = capsys.readouterr().err
    assert "No space left on device" in shown
    assert "while it is full" in shown
    lines = (settings.home / "logs" / logs.FILE_NAME).read_text().splitlines()
    assert json.loads(lines[0])["message"] == "before"
    assert json.loads(lines[-1])["message"] == "after"


def test_a_disk_that_takes_nothing_leaves_no_empty_line_and_one_that_takes_half_no_spoilt_one(
    tmp_path, monkeypatch
):
    file, write, room = logs.LogFile(tmp_path / "x.jsonl"), os.write, [0]

    def limited(descriptor: int, line: bytes) -> int:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        taken = write(descriptor, line[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    for line, free in (
        (b"one\n", 99),
        (b"two\n", 0),
        (b"three\n", 99),
        (b"four\n", 2),
        (b"five\n", 99),
    ):
        room[0] = free
        with nullcontext() if free == 99 else pytest.raises(OSError, match="No space"):
            file.write(line)
    assert file.path.read_bytes() == b"one\nthree\nfo\nfive\n"
