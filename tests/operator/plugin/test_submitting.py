"""`check` and `submit` against the real API server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from g2rpo_api.errors import SpecError
from g2rpo_api.parse import load_job
from plugin.people import JOBS, Person, over, parsed
from testcluster.process import wait_until

REFERENCE = "g2rpojob.g2rpo.dev/portrait"


@contextmanager
def meanwhile(person: Person, job: str, status: dict) -> Iterator[None]:
    """An operator that gives a job this status once it is there."""

    def tell() -> None:
        wait_until(lambda: person.exists(job), f"{job} exists")
        person.tell(job, status)

    thread = threading.Thread(target=tell)
    thread.start()
    yield
    thread.join()


def test_check_needs_no_cluster(person: Person) -> None:
    said = person.run("check", person.write(), "--kubeconfig", "/nowhere")
    assert "g2rpojob.g2rpo.dev/portrait is valid: G2RPO, 100 iterations" in said.out
    assert said.err == ""


def test_check_prints_the_parsers_errors_to_stderr(person: Person) -> None:
    bad = person.write(training={"iterations": 0, "algoritm": {}})
    with pytest.raises(SpecError) as parsers:
        load_job(Path(bad))
    said = person("check", bad, code=1)
    assert (said.out, said.err) == ("", f"{parsers.value}\n")
    assert "spec.training.algoritm" in said.err
    assert "did you mean algorithm?" in said.err


def test_check_by_the_server_creates_nothing(person: Person) -> None:
    said = person("check", "--server", person.write())
    assert "is valid" in said.out
    assert not person.exists()


def test_check_by_the_server_tells_what_only_it_knows(person: Person) -> None:
    said = person.run("check", "--server", person.write(), "-n", "no-such-namespace", code=1)
    assert said.err == 'Error from server (NotFound): namespaces "no-such-namespace" not found\n'
    person.make(training={"seed": 8})
    assert "spec.training.seed" in person("check", "--server", person.write(), code=1).err


def test_submit_creates_leaves_and_changes(person: Person) -> None:
    assert person("submit", person.write()).out == f"{REFERENCE} created\n"
    assert person("submit", person.write()).out == f"{REFERENCE} unchanged\n"
    changed = person.write(policy={"maxRestarts": 9}, image="registry.example/trainer:2")
    assert person("submit", changed).out == f"{REFERENCE} configured\n"
    spec = person.job()["spec"]
    assert (spec["policy"]["maxRestarts"], spec["image"]) == (9, "registry.example/trainer:2")
    assert spec["training"]["iterations"] == 100


def test_what_is_left_out_of_the_file_goes_back_to_its_default(person: Person) -> None:
    person("submit", person.write(policy={"maxRestarts": 9}))
    person("submit", person.write())
    assert person.job()["spec"]["policy"]["maxRestarts"] == 3


def test_another_training_is_told_by_key_and_changes_nothing(person: Person) -> None:
    before = person.make()
    said = person("submit", person.write(training={"iterations": 7}, policy={"maxRestarts": 9}), code=1)
    text = " ".join(said.err.split())
    assert said.out == ""
    assert "spec.training.iterations found 7 allowed 100, as in the job portrait that exists" in text
    assert "give the job another metadata.name" in text
    assert person.job()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_what_the_server_refuses_is_told_in_its_words(person: Person) -> None:
    person("submit", person.write())
    said = person("submit", person.write(workers={"nodes": 4}), code=1)
    assert said.err.startswith("Error from server (Invalid): ")
    assert "can be changed only while the job is suspended; set suspend: true first" in said.err


def test_one_wrong_file_keeps_all_of_them_back(person: Person) -> None:
    good = person.write("good.yaml")
    bad = person.write("bad.yaml", person.data("other", training={"iterations": 0}))
    assert "bad.yaml: 1 problem" in person("submit", good, bad, code=1).err
    assert not person.exists()


def test_several_files_in_either_way(person: Person) -> None:
    files = [person.write(f"{name}.yaml", person.data(name)) for name in ("one", "two", "three")]
    said = person("submit", files[0], "-f", files[1], "-f", files[2], "-o", "name")
    assert said.out.split() == [f"g2rpojob.g2rpo.dev/{name}" for name in ("one", "two", "three")]
    assert all(person.exists(name) for name in ("one", "two", "three"))


def test_stdin_is_a_dash(person: Person) -> None:
    with Path(person.write()).open() as file, person.start("submit", "-f", "-", stdin=file) as program:
        out, _ = program.communicate(timeout=60)
    assert out == f"{REFERENCE} created\n"
    assert person.exists()


def test_a_dry_run_here_needs_no_cluster(person: Person) -> None:
    said = person.run("submit", "--dry-run", "client", person.write(), "--kubeconfig", "/nowhere")
    assert said.out == f"{REFERENCE} created (dry run)\n"


def test_a_dry_run_by_the_server_shows_what_would_be_and_creates_nothing(person: Person) -> None:
    said = person("submit", "--dry-run=server", person.write())
    assert said.out == f"{REFERENCE} created (server dry run)\n"
    shown = parsed(person("submit", "--dry-run=server", "-o", "yaml", person.write()).out)
    assert shown["spec"]["policy"]["maxRestarts"] == 3, "the server filled the default in"
    assert "managedFields" not in shown["metadata"]
    assert not person.exists()


def test_fields_that_others_changed_are_taken_over_only_when_asked(person: Person) -> None:
    person("submit", person.write(image="registry.example/trainer:1"))
    person.kubectl(
        "patch", "g2j", "portrait", "--type=merge", "-p", '{"spec": {"image": "registry.example/trainer:9"}}'
    )
    again = person.write(image="registry.example/trainer:2")
    said = person("submit", again, code=1)
    assert ".spec.image" in said.err
    assert said.err.endswith("To take these fields over, add --force-conflicts.\n")
    assert person.job()["spec"]["image"] == "registry.example/trainer:9"
    person("submit", "--force-conflicts", again)
    assert person.job()["spec"]["image"] == "registry.example/trainer:2"


def test_of_a_job_that_others_made_only_what_differs_is_in_conflict(person: Person) -> None:
    """The API server compares whole parts, and what it keeps has every default."""
    person.make()
    assert person("submit", person.write()).lines == [f"{REFERENCE} unchanged"]
    said = person("submit", person.write(policy={"maxRestarts": 9}), code=1)
    assert "spec.policy" in said.err
    assert "spec.training" not in said.err


def test_the_namespace_of_the_file_counts_where_none_is_asked_for(person: Person) -> None:
    data = person.data()
    data["metadata"]["namespace"] = person.namespace
    person.run("submit", person.write(data=data))
    assert person.exists()


def test_two_namespaces_are_one_too_many(person: Person) -> None:
    data = person.data()
    data["metadata"]["namespace"] = "elsewhere"
    said = person("submit", person.write(data=data), code=1)
    assert f"metadata.namespace is elsewhere, and --namespace is {person.namespace}; drop one of them" in said.err


def test_waiting_ends_with_the_job(person: Person) -> None:
    with meanwhile(person, "portrait", over()):
        said = person("submit", "--wait", "--timeout", "60s", person.write())
    assert said.lines == [f"{REFERENCE} created", f"{REFERENCE} succeeded"]


def test_the_job_is_waited_for_where_its_file_put_it(person: Person) -> None:
    data = person.data()
    data["metadata"]["namespace"] = person.namespace
    with meanwhile(person, "portrait", over()):
        said = person.run("submit", "--wait", "--timeout", "60s", person.write(data=data))
    assert said.lines[-1] == f"{REFERENCE} succeeded"


def test_waiting_for_a_job_that_fails_is_an_error(person: Person) -> None:
    with meanwhile(person, "portrait", over("Failed", "Diverged")):
        said = person("submit", "--wait", "--timeout", "60s", person.write(), code=1)
    assert said.lines[-1] == f"{REFERENCE} failed"
    assert said.err == "error: not succeeded: portrait; see kubectl g2rpo status portrait\n"


def test_waiting_ends_when_the_time_is_over(person: Person) -> None:
    said = person("submit", "--wait", "--timeout", "1s", person.write(), code=1)
    assert said.err == "error: timed out waiting for the condition on g2rpojobs/portrait\n"
    assert person.exists()


def test_waiting_ends_when_the_job_is_deleted(person: Person) -> None:
    def delete() -> None:
        wait_until(person.exists, "portrait exists")
        person.cluster.api.delete(person.path("portrait"))

    thread = threading.Thread(target=delete)
    thread.start()
    said = person("submit", "--wait", "--timeout", "60s", person.write(), code=1)
    thread.join()
    assert "portrait" in said.err
    assert "deleted" in said.err or "not found" in said.err


def test_a_job_that_is_over_does_not_run_again(person: Person) -> None:
    person.make(status=over())
    said = person("submit", person.write())
    assert said.err == "Warning: portrait is over (Succeeded) and does not run again under this name\n"


def test_what_was_sent_belongs_to_the_plugin(person: Person) -> None:
    person("submit", person.write())
    managers = person.job()["metadata"]["managedFields"]
    assert [(entry["manager"], entry["operation"]) for entry in managers] == [("kubectl-g2rpo", "Apply")]
    assert person.cluster.api.get(f"{JOBS}/{person.namespace}/g2rpojobs")["items"]
