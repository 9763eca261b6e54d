from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from g2rpo_trainer.logs import JsonLines, log_to


def entry(record: logging.LogRecord) -> dict[str, object]:
    parsed = json.loads(JsonLines("numbers", 2).format(record))
    assert isinstance(parsed, dict)
    return parsed


def test_a_log_line_is_json_with_job_rank_and_time_in_utc() -> None:
    record = logging.LogRecord("g2rpo", logging.WARNING, "f.py", 1, "lost %d of\n%s", (2, "äö"), None)
    record.created = 0.5
    assert entry(record) == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "WARNING",
        "logger": "g2rpo",
        "message": "lost 2 of\näö",
        "job": "numbers",
        "rank": 2,
    }


def test_a_traceback_is_in_the_line() -> None:
    try:
        raise KeyError("gone")
    except KeyError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("g2rpo", logging.ERROR, "f.py", 1, "ended", (), info)
    assert "KeyError: 'gone'" in str(entry(record)["traceback"])


@pytest.mark.parametrize(("rank", "levels"), [(0, ["INFO", "WARNING", "ERROR"]), (1, ["ERROR"])])
def test_the_first_rank_logs_what_happens_the_others_what_went_wrong(
    tmp_path: Path, rank: int, levels: list[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        log_to(tmp_path / "log.jsonl", "numbers", rank)
        for severity in (logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger("g2rpo_trainer.x").log(severity, "it happened")
        logging.getLogger("diffusers").info("chatter")
    finally:
        for handler in root.handlers[:]:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["level"] for line in lines] == levels
