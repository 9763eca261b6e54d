"""The store keeps the newest state of what is ours, and what is gone stays gone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g2rpo_operator.store import Store
from g2rpo_operator.world import Kind

KEY = ("team", "job")


def job(version: int, uid: str = "u1", name: str = "job", **metadata: Any) -> dict[str, Any]:
    """A G2RPOJob as a watch delivers it."""
    own = {"namespace": "team", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**own, **metadata}, "spec": {"version": version}}


def pod(version: int, uid: str = "p1", owner: str = "u1", attempt: int = 1, phase: str = "Running") -> dict[str, Any]:
    """A pod of a job."""
    labels = {"g2rpo.dev/job": "job", "g2rpo.dev/job-uid": owner, "g2rpo.dev/attempt": str(attempt)}
    metadata = {"namespace": "team", "name": uid, "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": phase}}


def test_a_new_object_wakes_its_job_and_the_same_state_again_does_not() -> None:
    store = Store()
    assert store.put("G2RPOJob", job(5)) == KEY
    assert store.put("Pod", pod(6)) == KEY
    assert store.put("G2RPOJob", job(5), watched=True) is None
    assert store.put("Pod", pod(6)) is None


def test_an_older_state_never_replaces_a_newer_one() -> None:
    store = Store()
    store.put("Pod", pod(9, phase="Failed"))
    assert store.put("Pod", pod(7, phase="Running")) is None
    assert [found.phase for found in store.children("u1").pods] == ["Failed"]


def test_how_a_pod_ended_is_known_when_it_is_gone_and_goes_with_the_job() -> None:
    store = Store()
    store.put("G2RPOJob", job(1))
    store.put("Pod", pod(5))
    last = pod(6, phase="Failed")
    last["status"]["containerStatuses"] = [
        {"name": "trainer", "state": {"terminated": {"exitCode": 75, "message": "saved"}}}
    ]
    assert store.drop("Pod", "p1", last) == KEY
    parted = store.children("u1").parted
    assert [(gone.last_word, gone.exit_code) for gone in parted] == [("saved", 75)]
    store.put("Pod", pod(7, uid="p2"))
    store.drop("Pod", "p2")
    assert store.children("u1").parted == parted, "the other had not ended"
    store.put("Pod", pod(8, uid="p3"))
    store.drop("G2RPOJob", "u1")
    assert store.children("u1").parted == ()
    store.drop("Pod", "p3", pod(9, uid="p3", phase="Failed"))
    assert store.children("u1").parted == (), "nobody asks for it any more"


def test_what_belongs_to_nobody_is_not_kept() -> None:
    store = Store()
    stranger = pod(5)
    del stranger["metadata"]["labels"]["g2rpo.dev/job-uid"]
    assert store.put("Pod", stranger) is None
    assert store.newest_version() == 0


def test_a_late_answer_does_not_bring_back_what_was_deleted() -> None:
    store = Store()
    store.put("Pod", pod(5))
    assert store.drop("Pod", "p1") == KEY
    assert store.put("Pod", pod(6)) is None
    assert store.children("u1").pods == ()


def test_a_job_created_again_under_the_same_name_has_children_of_its_own() -> None:
    store = Store()
    store.put("G2RPOJob", job(1, uid="old"))
    store.put("Pod", pod(2, uid="p-old", owner="old"))
    store.put("G2RPOJob", job(3, uid="new"))
    assert store.drop("G2RPOJob", "old") == KEY
    manifest = store.job(KEY)
    assert manifest is not None
    assert manifest["metadata"]["uid"] == "new"
    assert store.children("new").pods == ()
    assert [found.name for found in store.children("old").pods] == ["p-old"]


def test_managed_fields_are_not_kept() -> None:
    store = Store()
    store.put("G2RPOJob", job(1, managedFields=[{"manager": "kubectl"}]))
    manifest = store.job(KEY)
    assert manifest is not None
    assert "managedFields" not in manifest["metadata"]


def test_a_list_tells_what_is_gone_but_not_of_what_came_after_it() -> None:
    store = Store()
    store.put("Pod", pod(3, uid="gone"))
    store.put("Pod", pod(4, uid="stays"))
    since = store.newest_version()
    store.put("Pod", pod(8, uid="came-later"))
    assert store.forget_unlisted("Pod", {"stays"}, since) == {KEY}
    assert {found.name for found in store.children("u1").pods} == {"stays", "came-later"}


def test_a_list_shows_what_a_watch_owes_until_it_delivers() -> None:
    store = Store()
    store.put("Pod", pod(3, uid="a"), watched=True)
    store.put("Pod", pod(5, uid="b"))
    behind = store.unwatched("Pod", {"a", "b"})
    assert behind == {"b"}
    store.put("Pod", pod(5, uid="b"), watched=True)
    assert store.unwatched("Pod", behind) == set()


def test_a_deletion_that_was_asked_for_shows() -> None:
    store = Store()
    labels = {"g2rpo.dev/job": "job", "g2rpo.dev/job-uid": "u1", "g2rpo.dev/attempt": "1"}
    metadata = {"namespace": "team", "name": "job-a1", "uid": "j1", "resourceVersion": "4", "labels": labels}
    store.put("Job", {"metadata": metadata, "spec": {}})
    store.mark_deleting("j1")
    assert [child.deleting for child in store.children("u1").jobs] == [True]


Events = st.lists(
    st.tuples(st.sampled_from(["put", "drop"]), st.sampled_from(["a", "b", "c"]), st.integers(1, 50)), max_size=40
)


@given(Events)
def test_the_store_equals_a_plain_model(events: list[tuple[str, str, int]]) -> None:
    store, model, gone = Store(), {}, set()
    for action, uid, version in events:
        if action == "drop":
            store.drop("Pod", uid)
            model.pop(uid, None)
            gone.add(uid)
        else:
            store.put("Pod", pod(version, uid=uid, phase=f"v{version}"))
            if uid not in gone and model.get(uid, 0) < version:
                model[uid] = version
    assert {found.uid: found.phase for found in store.children("u1").pods} == {
        uid: f"v{version}" for uid, version in model.items()
    }
    assert store.newest_version() == max(model.values(), default=0)


@pytest.mark.parametrize("kind", ["Job", "Pod", "Service", "ConfigMap"])
def test_each_kind_of_child_is_found_by_its_owner(kind: Kind) -> None:
    store = Store()
    store.put(kind, pod(1))
    children = store.children("u1")
    found = {
        "Job": children.jobs,
        "Pod": children.pods,
        "Service": children.services,
        "ConfigMap": children.config_maps,
    }
    assert [child.uid for child in found[kind]] == ["p1"]


def test_a_change_that_no_decision_looks_at_wakes_nobody() -> None:
    store = Store()
    store.put("Pod", pod(5))
    touched = pod(6)
    touched["metadata"]["finalizers"] = []
    assert store.put("Pod", touched, watched=True) is None
    assert store.newest_version() == 6
    assert store.put("Pod", pod(7, phase="Succeeded"), watched=True) == KEY
