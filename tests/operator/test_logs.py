"""Lines of the log: what machines and people read in them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

from g2rpo_operator import logs
from g2rpo_operator.logs import job_context

logger = logging.getLogger("g2rpo_operator.test")


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was written to standard error; what `set_up` changes is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {name: (logging.getLogger(name).level, logging.getLogger(name).handlers[:]) for name in logs.NOISY}
    yield lambda: capsys.readouterr().err
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, (old, own) in libraries.items():
        logging.getLogger(name).setLevel(old)
        logging.getLogger(name).handlers[:] = own


def entries(stderr: Callable[[], str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr().split("\n") if line]


def test_a_line_is_an_object_with_time_level_logger_and_message(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    logger.info("created %s with %d pods", "a-a1", 4)
    (entry,) = entries(stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {"level": "INFO", "logger": "g2rpo_operator.test", "message": "created a-a1 with 4 pods"}


def test_a_message_of_several_lines_stays_one_line(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    logger.warning('first\nsecond \u2028 "third" ünïcode')
    (entry,) = entries(stderr)
    assert entry["message"] == 'first\nsecond \u2028 "third" ünïcode'


def test_lines_of_a_look_name_the_job_and_its_attempt_and_others_do_not(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    with job_context("team/portrait", 2):
        logger.info("inside")
    logger.info("outside")
    inside, outside = entries(stderr)
    assert (inside["job"], inside["attempt"]) == ("team/portrait", 2)
    assert not {"job", "attempt"} & set(outside)


def test_looks_that_overlap_do_not_mix_their_lines(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")

    async def look(job: str, attempt: int) -> None:
        with job_context(job, attempt):
            for _ in range(3):
                logger.info("%s", job)
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(look("team/a", 1), look("team/b", 2), look("team/c", 3))

    asyncio.run(main())
    found = [(entry["message"], entry["job"], entry["attempt"]) for entry in entries(stderr)]
    assert len(found) == 9
    assert set(found) == {("team/a", "team/a", 1), ("team/b", "team/b", 2), ("team/c", "team/c", 3)}


def test_a_look_that_fails_leaves_no_job_behind(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    with pytest.raises(ZeroDivisionError), job_context("team/a", 1):
        _ = 1 / 0
    logger.info("later")
    assert "job" not in entries(stderr)[0]


def test_an_exception_brings_its_traceback(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("no good")
    (entry,) = entries(stderr)
    assert (entry["level"], entry["message"]) == ("ERROR", "no good")
    assert entry["traceback"].endswith("ZeroDivisionError: division by zero")


def test_text_is_for_people(stderr: Callable[[], str]) -> None:
    logs.set_up("text", "INFO")
    with job_context("team/portrait", 2):
        logger.warning("a rank failed")
    logger.info("leads")
    first, second = stderr().splitlines()
    assert re.fullmatch(r"\S+Z WARNING g2rpo_operator\.test \[team/portrait #2\] a rank failed", first)
    assert re.fullmatch(r"\S+Z INFO    g2rpo_operator\.test leads", second)


def test_text_shows_a_traceback_below_its_line(stderr: Callable[[], str]) -> None:
    logs.set_up("text", "INFO")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("no good")
    lines = stderr().splitlines()
    assert lines[0].endswith("no good")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", 4), ("INFO", 3), ("WARNING", 2), ("ERROR", 1)])
def test_the_level_says_what_is_told(stderr: Callable[[], str], level: str, expected: int) -> None:
    logs.set_up("json", level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(number, "x")
    assert len(entries(stderr)) == expected


def test_warnings_of_libraries_are_lines_too(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "INFO")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old habit", DeprecationWarning, stacklevel=1)
    (entry,) = entries(stderr)
    assert (entry["logger"], entry["level"]) == ("py.warnings", "WARNING")
    assert "old habit" in entry["message"]


def kopf_speaks(kind: str) -> None:
    """A line that kopf logs about an object."""
    body = kopf.Body({"kind": kind, "metadata": {"namespace": "team", "name": "portrait", "uid": "1"}})
    about = kopf.ObjectLogger(body=body, settings=kopf.OperatorSettings())
    about.warning("something about it")
    about.info("chatter")


def test_kopf_speaks_through_the_same_lines_and_only_of_what_goes_wrong(stderr: Callable[[], str]) -> None:
    kopf.configure(log_format=kopf.LogFormat.FULL)
    logs.set_up("json", "INFO")
    kopf_speaks("G2RPOJob")
    kopf_speaks("Pod")
    first, second = entries(stderr)
    assert (first["logger"], first["message"], first["job"]) == ("kopf.objects", "something about it", "team/portrait")
    assert "job" not in second


def test_debugging_shows_kopfs_chatter(stderr: Callable[[], str]) -> None:
    logs.set_up("json", "DEBUG")
    kopf_speaks("G2RPOJob")
    assert [entry["message"] for entry in entries(stderr)] == ["something about it", "chatter"]
