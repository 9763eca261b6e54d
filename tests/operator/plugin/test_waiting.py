"""Waiting for a job, and watching a list, with servers that end watches, forget versions and lose jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g2rpo_operator.plugin.commands.show import Choice, Listing
from g2rpo_operator.plugin.failures import PluginError
from g2rpo_operator.plugin.jobs import Seen, fetch, seen, until
from plugin.people import condition, over, running
from plugin.servers import EXPIRED, Reply, changes, client_of, reply
from testoperator.records import UID, job_data

DEFINITIONS = [{"name": "Name", "type": "string"}, {"name": "Phase", "type": "string"}]


def manifest(status: dict[str, Any], version: int = 1, uid: str = UID) -> dict[str, Any]:
    return {**job_data({"name": "portrait", "uid": uid, "resourceVersion": str(version)}), "status": status}


TRAINS, ENDED = manifest(running(), 1), manifest(over(), 9)


def finished(job: Seen) -> bool:
    return job.status.finished


def wait(folder: Path, *answers: Reply, seconds: float = 60) -> tuple[str, list[str]]:
    """The phase that a wait ended with, and what was asked; the job is known from before."""
    with client_of(folder, *answers) as (client, server):
        ended = until(client, seen(TRAINS), finished, seconds)
        return ended.status.phase, server.asked


def test_who_waits_is_told_once_what_stands_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def held(version: int, message: str) -> dict[str, Any]:
        waits = condition("Running", "False", "ImagePullFailed", message)
        return manifest({**running(), "phase": "Starting", "conditions": [waits]}, version)

    events = [("MODIFIED", held(3, "Back-off")), ("MODIFIED", manifest(running(), 4)), ("MODIFIED", ENDED)]
    assert wait(tmp_path, reply(held(2, "no such image")), changes(*events))[0] == "Succeeded"
    assert capsys.readouterr().err == "portrait: ImagePullFailed: no such image\n"


def test_a_job_that_is_so_already_is_not_waited_for(tmp_path: Path) -> None:
    phase, asked = wait(tmp_path, reply(ENDED))
    assert phase == "Succeeded"
    assert asked == ["GET /apis/g2rpo.dev/v1alpha1/namespaces/team/g2rpojobs/portrait"]


def test_changes_are_watched_from_the_version_that_was_seen(tmp_path: Path) -> None:
    later = manifest(running(restarts=1), 5)
    phase, asked = wait(tmp_path, reply(TRAINS), changes(("MODIFIED", later), ("MODIFIED", ENDED)))
    assert phase == "Succeeded"
    assert "fieldSelector=metadata.name%3Dportrait&resourceVersion=1&watch=1" in asked[1]


@pytest.mark.parametrize("end", [changes(), changes(EXPIRED), changes(("MODIFIED", TRAINS), EXPIRED)])
def test_a_watch_that_ends_is_taken_up_again(tmp_path: Path, end: Reply) -> None:
    phase, asked = wait(tmp_path, reply(TRAINS), end, reply(TRAINS), end, reply(ENDED))
    assert phase == "Succeeded"
    assert [("watch" in line) for line in asked] == [False, True, False, True, False]


def test_the_server_is_not_asked_for_longer_than_one_waits(tmp_path: Path) -> None:
    _, asked = wait(tmp_path, reply(TRAINS), changes(("MODIFIED", ENDED)), seconds=7)
    assert "timeoutSeconds=7" in asked[1]


def test_a_deleted_job_is_waited_for_no_longer(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"g2rpojob.g2rpo.dev/portrait was deleted"):
        wait(tmp_path, reply(TRAINS), changes(("DELETED", TRAINS)))


def test_another_job_of_the_name_is_not_the_one(tmp_path: Path) -> None:
    other = manifest(over(), 20, uid="0a1b2c3d-0000-4000-8000-000000000002")
    with pytest.raises(PluginError, match="another one of this name"):
        wait(tmp_path, reply(other))


def test_other_refusals_end_the_wait(tmp_path: Path) -> None:
    refused = ("ERROR", {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "not any more"})
    with pytest.raises(PluginError, match="not any more"):
        wait(tmp_path, reply(TRAINS), changes(refused))


def test_a_job_is_fetched_by_name(tmp_path: Path) -> None:
    with client_of(tmp_path, reply(TRAINS)) as (client, server):
        assert fetch(client, "portrait").uid == UID
        assert server.asked == ["GET /apis/g2rpo.dev/v1alpha1/namespaces/default/g2rpojobs/portrait"]


def table(*rows: tuple[str, str, int], version: int = 1, more: str = "", named: bool = True) -> dict[str, Any]:
    """A table of jobs: name, phase and version of each."""
    made = [{"cells": [name, phase], "object": {"metadata": {"resourceVersion": str(at)}}} for name, phase, at in rows]
    definitions = {"columnDefinitions": DEFINITIONS} if named else {}
    return {**definitions, "metadata": {"resourceVersion": str(version), "continue": more}, "rows": made}


def listed(folder: Path, lines: int, *answers: Reply) -> tuple[list[str], list[str]]:
    """So many lines of a watched list, and what was asked."""
    with client_of(folder, *answers) as (client, server):
        listing = Listing(client, "/jobs", Choice(), wide=False, headers=True).lines(watch=True)
        return [next(listing).plain for _ in range(lines)], server.asked


def test_a_list_goes_on_from_page_to_page_and_from_change_to_change(tmp_path: Path) -> None:
    first = table(("one", "Running", 3), version=10, more="next")
    second = table(("two", "Pending", 4), version=10)
    change = table(("two", "Running", 12), named=False)
    lines, asked = listed(tmp_path, 4, reply(first), reply(second), changes(("MODIFIED", change)), changes())
    assert [line.split() for line in lines] == [
        ["NAME", "PHASE"],
        ["one", "Running"],
        ["two", "Pending"],
        ["two", "Running"],
    ]
    assert "continue=next" in asked[1]
    assert "resourceVersion=10&watch=1" in asked[2]


def test_a_watched_list_goes_on_after_the_last_change_that_it_saw(tmp_path: Path) -> None:
    change, another = (table(("one", phase, at), named=False) for phase, at in (("Running", 12), ("Failed", 15)))
    answers = [
        reply(table(("one", "Pending", 3), version=10)),
        changes(("MODIFIED", change)),
        changes(("MODIFIED", another)),
    ]
    lines, asked = listed(tmp_path, 4, *answers)
    assert [line.split()[1] for line in lines] == ["PHASE", "Pending", "Running", "Failed"]
    assert "resourceVersion=12&" in asked[2]


def test_a_version_that_the_server_forgot_is_replaced_by_the_newest(tmp_path: Path) -> None:
    change = table(("one", "Running", 31), named=False)
    newest = reply({"metadata": {"resourceVersion": "30"}, "items": []})
    first = reply(table(("one", "Pending", 3), version=10))
    lines, asked = listed(tmp_path, 3, first, changes(EXPIRED), newest, changes(("MODIFIED", change)))
    assert lines[-1].split() == ["one", "Running"]
    assert asked[2] == "GET /jobs?limit=1"
    assert "resourceVersion=30&" in asked[3]


def test_columns_keep_their_places_while_they_are_watched(tmp_path: Path) -> None:
    wide = table(("a-much-longer-name", "Running", 12), named=False)
    short = table(("one", "Failed", 13), named=False)
    answers = [reply(table(("one", "Pending", 3))), changes(("ADDED", wide), ("MODIFIED", short))]
    lines, _ = listed(tmp_path, 4, *answers)
    assert lines[0].index("PHASE") == lines[1].index("Pending") == len("one") + 4
    assert lines[2].index("Running") == lines[3].index("Failed") == len("a-much-longer-name") + 3
