"""Jobs in files: every mistake of every file at once, and what cannot change once a job exists."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.errors import SpecError
from g2rpo_api.parse import load_job
from g2rpo_operator.plugin.drafts import differences, read, refuse_another, summary
from g2rpo_operator.plugin.failures import MistakesError, PluginError
from plugin.scenes import seen_job
from testoperator.records import job_data


def written(folder: Path, name: str, data: Any) -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.fixture
def good(tmp_path: Path) -> str:
    return written(tmp_path, "good.yaml", job_data())


def test_a_draft_keeps_what_was_written_and_nothing_else(good: str) -> None:
    (draft,) = read([good])
    assert draft.manifest == job_data()
    assert draft.name == "portrait"
    assert draft.job == load_job(Path(good))


def test_mistakes_are_those_of_the_parser_word_for_word(tmp_path: Path) -> None:
    bad = written(tmp_path, "bad.yaml", job_data(training={"iterations": 0, "sampling": {"hight": 64, "width": 64}}))
    with pytest.raises(SpecError) as parsers:
        load_job(Path(bad))
    with pytest.raises(MistakesError) as ours:
        read([bad])
    assert str(ours.value) == str(parsers.value)


def test_all_files_are_judged_before_any_is_refused(tmp_path: Path, good: str) -> None:
    files = [written(tmp_path, f"{name}.yaml", job_data(training={"iterations": -1})) for name in ("one", "two")]
    with pytest.raises(MistakesError) as error:
        read([files[0], good, files[1], str(tmp_path / "nowhere.yaml")])
    text = str(error.value)
    assert [text.count(name) for name in ("one.yaml: 1 problem", "two.yaml: 1 problem", "nowhere.yaml: 1 problem")] == [
        1,
        1,
        1,
    ]
    assert "good.yaml" not in text
    assert "check the path" in text


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(job_data())))
    (draft,) = read(["-"])
    assert (draft.source, draft.name) == ("stdin", "portrait")


def test_no_file_is_a_mistake_of_its_own() -> None:
    with pytest.raises(PluginError, match="at least one file"):
        read([])


def test_a_right_job_is_told_in_a_line(good: str) -> None:
    (draft,) = read([good])
    assert summary(draft) == (
        f"{good}: g2rpojob.g2rpo.dev/portrait is valid: G2RPO, 100 iterations, 2 x 1 ranks, rewards ocr"
    )


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("spec.a", 1, 2)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("spec.a.c", 2, 3)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("spec.a", [1, 2], [1, 3])]),
        ({"a": 1}, {"b": 1}, [("spec.a", 1, None), ("spec.b", None, 1)]),
    ],
)
def test_differences_are_named_by_key(old: Any, new: Any, found: list[Any]) -> None:
    assert list(differences(old, new, "spec")) == found


def test_another_training_is_refused_with_every_key(tmp_path: Path) -> None:
    other = job_data(
        training={"iterations": 200, "seed": 8}, storage={"runs": {"persistentVolumeClaim": {"claimName": "x"}}}
    )
    (draft,) = read([written(tmp_path, "job.yaml", other)])
    with pytest.raises(MistakesError) as error:
        refuse_another(draft, seen_job())
    text = str(error.value)
    assert text.startswith(f"{draft.source}: 3 problems")
    for key in ("spec.training.iterations", "spec.training.seed", "spec.storage.runs"):
        assert key in text
    assert "100, as in the job portrait that exists in the namespace team" in " ".join(text.split())
    assert "refuse to mix two trainings" in " ".join(text.split())


def test_the_same_training_written_differently_is_the_same(tmp_path: Path) -> None:
    """Defaults spelt out, or left out, are one job; policy, workers and image may change."""
    spelt = job_data(training={"rewards": [{"name": "ocr", "type": "PaddleOCR", "role": "Train", "weight": 1.0}]})
    changed = {
        **spelt,
        "spec": {**spelt["spec"], "policy": {"maxRestarts": 9}, "image": "other:2", "workers": {"nodes": 4}},
    }
    (draft,) = read([written(tmp_path, "job.yaml", changed)])
    refuse_another(draft, seen_job())
