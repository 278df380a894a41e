"""The lines of the log, in text and in JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from command import logging_restored
from fastecho._workers.logs import setup_logging

TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR)\s+(.*)")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with logging_restored():
        yield


def test_text_line_has_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    logging.getLogger("fastecho").info("%d workers", 4)
    err = capsys.readouterr().err
    assert (match := TEXT.fullmatch(err.rstrip("\n")))
    assert match.groups() == ("INFO", "4 workers")
    assert "Z INFO  4 workers" in err


def test_time_is_utc_with_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "levelno": 20, "created": 1767225599.9996})
    logging.getLogger("fastecho").handle(record)
    assert capsys.readouterr().err == "2025-12-31T23:59:59.999Z INFO  x\n"


def test_level_holds_for_the_session_logger_too(capsys: pytest.CaptureFixture[str]) -> None:
    session = logging.getLogger("fastecho.session")
    setup_logging("info", "text")
    session.debug("hidden")
    setup_logging("debug", "text")
    session.debug("shown")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["shown"]


def test_setting_up_twice_prints_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "json")
    setup_logging("info", "text")
    logging.getLogger("fastecho").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_handlers_of_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("fastecho")
    theirs = logging.NullHandler()
    logger.addHandler(theirs)
    setup_logging("info", "text")
    assert theirs in logger.handlers


def test_message_with_line_ends_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    logging.getLogger("fastecho").info("a\nb\r\x1b[31m")
    assert capsys.readouterr().err.rstrip("\n").endswith(r"a\nb\r\x1b[31m")


def test_text_line_of_an_exception_has_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("fastecho").exception("failed")
    assert capsys.readouterr().err.rstrip().endswith("LookupError: gone")


def test_json_line_is_one_object_with_the_extra_fields(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("debug", "json")
    logging.getLogger("fastecho.session").debug("end\n%s", "reset", extra={"peer": ("::1", 7), "cause": {1}})
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert isinstance(entry.pop("pid"), int)
    assert entry == {
        "level": "debug",
        "logger": "fastecho.session",
        "message": "end\nreset",
        "peer": ["::1", 7],
        "cause": "{1}",
    }


def test_json_line_of_an_exception_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "json")
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("fastecho").exception("failed")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert json.loads(line)["exception"].endswith("LookupError: gone")
