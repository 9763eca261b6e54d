"""What the watches told last: jobs as they are, their objects as records. Memory follows what is ours.

Who calls this: `watch.py` and `resync.py` fill it, `reconcile.py` reads it and puts in what the API
server answered to its own writes, so that the next look does not wait for the watch. Objects carry
versions; an older one never replaces a newer one, and what is gone does not come back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from g2rpo_operator.observe import child_job_of, owner_of, part_of, pod_of, summary_of
from g2rpo_operator.world import KINDS, Children, Key, Kind, Pod, Summary

Manifest = dict[str, Any]
RECORDS: dict[Kind, Callable[[Mapping[str, Any]], Any]] = {
    "Job": child_job_of,
    "Pod": pod_of,
    "Service": part_of,
    "ConfigMap": part_of,
}
REMEMBERED_GONE = 10_000
"""Deleted objects whose uids are remembered, so that a late answer does not bring them back."""


@dataclass
class Entry:
    """One object."""

    version: int
    """Of its newest state."""
    watched: int
    """Of the newest state that a watch delivered; 0 before it did."""
    key: Key
    """Of the job that it is, or belongs to."""
    owner: str
    """uid of that job."""
    content: Any
    """A record; a job's manifest as JSON text, which takes a tenth of the memory of a dictionary."""
    summary: Summary | None = None
    """Of a job."""


@dataclass
class Store:
    """Every object of ours that is known, by kind and uid."""

    _entries: dict[Kind, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    _jobs: dict[Key, str] = field(default_factory=dict)
    """uid of the job of each name."""
    _children: dict[str, set[tuple[Kind, str]]] = field(default_factory=lambda: defaultdict(set))
    """By uid of the job."""
    _parted: dict[str, dict[int, Pod]] = field(default_factory=lambda: defaultdict(dict))
    """By uid of the job and index: see `Children.parted`."""
    _gone: dict[str, None] = field(default_factory=dict)

    def put(self, kind: Kind, manifest: Mapping[str, Any], *, watched: bool = False) -> Key | None:
        """Take in an object.

        Returns:
            Key of the job to look at; None when nothing is new, or the object is nobody's.
        """
        place = _place(kind, manifest)
        uid, version = manifest["metadata"]["uid"], int(manifest["metadata"]["resourceVersion"])
        if place is None or uid in self._gone:
            return None
        key, owner = place
        old = self._entries[kind].get(uid)
        if old is not None and old.version >= version:
            old.watched = max(old.watched, version if watched else 0)
            return None
        seen = version if watched else (old.watched if old else 0)
        if kind == "G2RPOJob":
            entry = Entry(version, seen, key, owner, _plain_text(manifest), summary_of(manifest))
            self._jobs[key] = uid
        else:
            entry = Entry(version, seen, key, owner, RECORDS[kind](manifest))
            self._children[owner].add((kind, uid))
        self._entries[kind][uid] = entry
        if old is not None and kind != "G2RPOJob" and old.content == entry.content:
            return None  # something changed that no decision looks at
        return key

    def drop(self, kind: Kind, uid: str, last: Mapping[str, Any] | None = None) -> Key | None:
        """Forget an object that was deleted, in its last state where that is known; key of the job to look at."""
        if last is not None:
            self.put(kind, last)
        self._remember_gone(uid)
        entry = self._entries[kind].pop(uid, None)
        if entry is None:
            return None
        if kind == "G2RPOJob":
            if self._jobs.get(entry.key) == uid:
                del self._jobs[entry.key]
            self._parted.pop(uid, None)
        else:
            if kind == "Pod" and entry.content.over and entry.owner in self._entries["G2RPOJob"]:
                self._parted[entry.owner][entry.content.index] = entry.content
            self._children[entry.owner].discard((kind, uid))
            if not self._children[entry.owner]:
                del self._children[entry.owner]
        return entry.key

    def mark_deleting(self, uid: str) -> None:
        """A Job's deletion was asked for and answered: it need not be asked for again."""
        entry = self._entries["Job"].get(uid)
        if entry is not None:
            entry.content = replace(entry.content, deleting=True)

    def forget_unlisted(self, kind: Kind, listed: set[str], since: int) -> set[Key]:
        """Forget objects that a complete list lacks, unless they came after version `since`; jobs to look at."""
        entries = self._entries[kind]
        lost = [uid for uid, entry in entries.items() if uid not in listed and entry.version <= since]
        return {key for uid in lost if (key := self.drop(kind, uid)) is not None}

    def newest_version(self) -> int:
        """Highest version of any object."""
        return max((entry.version for entries in self._entries.values() for entry in entries.values()), default=0)

    def unwatched(self, kind: Kind, uids: Iterable[str]) -> set[str]:
        """Those of the objects whose newest state no watch has delivered."""
        entries = self._entries[kind]
        return {uid for uid in uids if uid in entries and entries[uid].watched < entries[uid].version}

    def job(self, key: Key) -> Manifest | None:
        """Manifest of a job; None when there is none of this name."""
        uid = self._jobs.get(key)
        if uid is None:
            return None
        manifest: Manifest = json.loads(self._entries["G2RPOJob"][uid].content)
        return manifest

    def children(self, owner: str) -> Children:
        """Objects that belong to the job with this uid."""
        found: dict[Kind, list[Any]] = {kind: [] for kind in RECORDS}
        for kind, uid in self._children.get(owner, ()):
            found[kind].append(self._entries[kind][uid].content)
        pods, maps = tuple(found["Pod"]), tuple(found["ConfigMap"])
        parted = tuple(self._parted[owner].values()) if owner in self._parted else ()
        return Children(tuple(found["Job"]), pods, maps, tuple(found["Service"]), parted)

    def keys(self) -> list[Key]:
        """Every job."""
        return list(self._jobs)

    def summaries(self) -> list[Summary]:
        """What metrics tell of every job."""
        jobs = self._entries["G2RPOJob"]
        return [summary for uid in self._jobs.values() if (summary := jobs[uid].summary) is not None]

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]


def _place(kind: Kind, manifest: Mapping[str, Any]) -> tuple[Key, str] | None:
    metadata = manifest["metadata"]
    if kind == "G2RPOJob":
        return (metadata["namespace"], metadata["name"]), metadata["uid"]
    return owner_of(manifest)


def _plain_text(manifest: Mapping[str, Any]) -> str:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return json.dumps({**manifest, "metadata": metadata})
