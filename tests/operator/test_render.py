"""Manifests: what the cluster gets, held against Kubernetes' own rules and against what the trainer reads back."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from g2rpo_api.errors import SpecError
from g2rpo_api.parse import parse_job
from g2rpo_operator import render
from g2rpo_operator.observe import attempt_of as attempt_label
from g2rpo_operator.observe import owner_of
from g2rpo_operator.world import Attempt, View
from testoperator.podsecurity import SPOILERS, violations
from testoperator.records import DEFAULT_IMAGE, NAME, NAMESPACE, UID, job, job_data, view
from testoperator.workers import EVERYTHING, LONGEST

Manifest = dict[str, Any]

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def seen(number: int = 1, metadata: Manifest | None = None, **spec: Any) -> View:
    """A job whose attempt of this number is to be created."""
    return view(job(metadata, **spec), attempt=Attempt(number))


def pod_template(number: int = 1, **spec: Any) -> Manifest:
    manifest = render.child_job(seen(number, **spec), 15)
    template: Manifest = manifest["spec"]["template"]
    return template


def pod(**spec: Any) -> Manifest:
    found: Manifest = pod_template(**spec)["spec"]
    return found


def trainer(**spec: Any) -> Manifest:
    (found,) = pod(**spec)["containers"]
    return found


def env(**spec: Any) -> dict[str, Manifest]:
    variables = trainer(**spec)["env"]
    assert len({variable["name"] for variable in variables}) == len(variables), "a name occurs twice"
    return {variable["name"]: variable for variable in variables}


def values(**spec: Any) -> dict[str, str]:
    return {name: variable["value"] for name, variable in env(**spec).items() if "value" in variable}


def everything() -> Manifest:
    return copy.deepcopy(EVERYTHING)


# The attempt's Job


def test_an_attempt_is_one_indexed_job_that_never_starts_a_pod_again() -> None:
    manifest = render.child_job(seen(3, workers={"nodes": 4}), 15)
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job")
    spec = manifest["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert not {"backoffLimit", "maxFailedIndexes"} & set(spec), "with them one failed pod takes the others along"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert not {"suspend", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "successPolicy"} & set(spec)


def test_a_job_of_a_queue_is_created_suspended_and_carries_the_queues_label() -> None:
    label = {"kueue.x-k8s.io/queue-name": "gold"}
    manifest = render.child_job(seen(metadata={"labels": label | {"mine": "x"}}), 15)
    assert manifest["spec"]["suspend"] is True
    assert manifest["metadata"]["labels"].items() >= label.items()
    assert "mine" not in manifest["metadata"]["labels"]


@pytest.mark.parametrize("number", [1, 12, 99999])
def test_every_object_names_its_owner_and_its_attempt(number: int) -> None:
    objects = render.config_map(seen(number)), render.service(seen(number)), render.child_job(seen(number), 15)
    for manifest in objects:
        metadata = manifest["metadata"]
        (owner,) = metadata["ownerReferences"]
        assert (owner["apiVersion"], owner["kind"]) == ("g2rpo.dev/v1alpha1", "G2RPOJob")
        assert (owner["name"], owner["uid"], owner["controller"]) == (NAME, UID, True)
        assert metadata["namespace"] == NAMESPACE
        assert owner_of({"metadata": metadata}) == ((NAMESPACE, NAME), UID)
    assert [attempt_label(manifest) for manifest in objects] == [number, 0, number]
    assert attempt_label(objects[2]["spec"]["template"]) == number
    assert owner_of({"metadata": objects[2]["spec"]["template"]["metadata"] | {"namespace": NAMESPACE}})


def test_two_attempts_share_no_name_but_the_services() -> None:
    first, second = ([render.config_map(seen(n)), render.child_job(seen(n), 15)] for n in (1, 2))
    assert {m["metadata"]["name"] for m in first}.isdisjoint(m["metadata"]["name"] for m in second)


def test_names_fit_the_longest_job_at_its_widest_and_latest() -> None:
    training = {"prompts": {"path": "prompts.txt", "perIteration": 1024}}
    widest = seen(99999, {"name": LONGEST}, workers={"nodes": 1024}, training=training)
    assert len(LONGEST) == 48
    with pytest.raises(SpecError, match=r"metadata\.name"):
        job({"name": LONGEST + "c"})
    manifest = render.child_job(widest, 15)
    name = manifest["metadata"]["name"]
    last_host = f"{name}-{manifest['spec']['completions'] - 1}"  # hostname that the Job controller gives
    for text in (name, last_host, render.config_map(widest)["metadata"]["name"], render.curve_name(LONGEST)):
        assert DNS_LABEL.fullmatch(text), text
    assert SERVICE_NAME.fullmatch(render.service(widest)["metadata"]["name"])
    labels = manifest["metadata"]["labels"] | manifest["spec"]["template"]["metadata"]["labels"]
    assert all(LABEL_VALUE.fullmatch(value) for value in labels.values())
    for address in values_of(manifest, "MASTER_ADDR", "PET_MASTER_ADDR"):
        assert len(f"{address}.{'n' * 63}.svc.cluster.local") <= 253
        assert all(DNS_LABEL.fullmatch(part) for part in address.split("."))


def values_of(manifest: Manifest, *names: str) -> list[str]:
    variables = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    return [variable["value"] for variable in variables if variable["name"] in names]


# Where ranks meet


def test_every_pod_has_a_name_in_dns_before_it_is_ready() -> None:
    service = render.service(seen())
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    template = pod_template()
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["selector"] == {"g2rpo.dev/job-uid": UID}, "an older job of this name has other pods"


def test_the_ranks_meet_at_the_first_pod_of_their_own_attempt() -> None:
    for number in (1, 7):
        found = values(number=number)
        assert found["MASTER_ADDR"] == f"{NAME}-a{number}-0.{NAME}"
        assert found["G2RPO_ATTEMPT"] == str(number)
    ports = {port["port"] for port in render.service(seen())["spec"]["ports"]}
    assert {int(values()["MASTER_PORT"]), int(values()["G2RPO_PORT"])} <= ports


def test_torchrun_would_read_the_same_place_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import get_args_parser

    for name, value in values(workers={"nodes": 2, "processesPerNode": 2}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PET_NODE_RANK", "1")
    read = get_args_parser().parse_args(["train.py"])
    assert (str(read.nnodes), str(read.nproc_per_node), str(read.node_rank)) == ("2", "2", "1")
    assert read.master_addr == f"{NAME}-a1-0.{NAME}"
    assert int(read.master_port) == 29500


@pytest.mark.parametrize("name", ["G2RPO_NODE_RANK", "PET_NODE_RANK"])
def test_a_pod_learns_its_rank_from_the_job_controller(name: str) -> None:
    path = env()[name]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_the_trainer_learns_all_that_the_contract_says() -> None:
    found = values(workers={"nodes": 4})
    assert found["G2RPO_NODES"] == "4"
    assert found["G2RPO_LINGER_SECONDS"] == "30", "two progress intervals"
    mounts = {mount["mountPath"] for mount in trainer()["volumeMounts"]}
    assert found["G2RPO_RUNS_DIR"] in mounts
    assert found["G2RPO_STOP_FILE"] == "/etc/g2rpo/stop"
    assert trainer()["args"] == ["/etc/g2rpo/job.json"]
    assert found["G2RPO_TERMINATION_LOG"] == trainer()["terminationMessagePath"]
    assert trainer()["terminationMessagePolicy"] == "FallbackToLogsOnError"


# What the trainer reads


@pytest.mark.parametrize("workers", [{"nodes": 1}, {"nodes": 2, "processesPerNode": 2}])
def test_the_trainer_reads_the_training_and_the_number_of_ranks_that_the_job_says(workers: Manifest) -> None:
    original = seen(workers=workers, training={"iterations": 33, "optimizer": {"learningRate": 3e-4}})
    text = render.config_map(original)["data"]["job.json"]
    read = parse_job(text)
    assert json.loads(text)["kind"] == "G2RPOJob"
    assert read.spec.training == original.job.spec.training
    assert read.spec.workers.ranks == original.job.spec.workers.ranks
    assert read.spec.workers.nodes == original.job.spec.workers.nodes
    assert read.metadata.name == NAME


SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_survives_the_way_to_the_trainer(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    original = parse_job({**data, "metadata": {**data["metadata"], "namespace": NAMESPACE}})
    text = render.config_map(view(original, attempt=Attempt(1)))["data"]["job.json"]
    assert parse_job(text).spec.training == original.spec.training


def test_the_trainer_is_told_nothing_of_secrets_and_placement() -> None:
    text = render.config_map(seen(workers=everything(), suspend=False))["data"]["job.json"]
    assert set(json.loads(text)["spec"]) == {"workers", "training"}
    assert parse_job(text).spec.workers.ranks == 4


def test_a_request_to_stop_that_came_before_the_attempt_is_there_from_the_beginning() -> None:
    assert set(render.config_map(seen(stop=True))["data"]) == {"job.json", "stop"}
    assert set(render.config_map(seen())["data"]) == {"job.json"}


def test_the_stop_file_can_appear_while_the_pod_runs() -> None:
    config = next(mount for mount in trainer()["volumeMounts"] if mount["mountPath"] == "/etc/g2rpo")
    assert "subPath" not in config, "the kubelet never renews a file that was mounted by subPath"
    volume = next(volume for volume in pod()["volumes"] if volume["name"] == config["name"])
    assert volume["configMap"] == {"name": render.config_map(seen())["metadata"]["name"]}


def test_equal_trainings_have_equal_digests() -> None:
    digest = render.spec_digest(job())
    assert re.fullmatch(r"[0-9a-f]{16}", digest)
    assert render.spec_digest(job({"name": "other"}, workers={"nodes": 1}, image="x")) == digest
    assert render.spec_digest(job(training={"optimizer": {"learningRate": 1e-4}})) == digest, "the default, spelt out"
    assert render.spec_digest(job(training={"optimizer": {"learningRate": 2e-4}})) != digest


# Security


@pytest.mark.parametrize("workers", [{}, {"resourceName": "nvidia.com/gpu"}, {"env": EVERYTHING["env"]}])
def test_pods_meet_the_restricted_pod_security_standard(workers: Manifest) -> None:
    assert violations(pod(workers=workers)) == []


def test_only_what_a_job_asks_for_departs_from_the_standard() -> None:
    found = violations(pod(workers=everything()))
    assert sorted(found) == ["capability IPC_LOCK", "volume hostPath", "volume nfs"]


@pytest.mark.parametrize(("spoil", "violation"), SPOILERS)
def test_the_check_of_the_standard_finds_what_is_wrong(spoil: Callable[[Manifest], None], violation: str) -> None:
    spec = copy.deepcopy(pod())
    spoil(spec)
    found = violations(spec)
    assert violation in found


def test_no_pod_holds_a_token_or_learns_of_other_services() -> None:
    for workers in ({}, everything()):
        spec = pod(workers=workers)
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not any("projected" in volume for volume in spec["volumes"])


def test_the_root_is_read_only_and_everything_that_is_written_has_a_volume() -> None:
    spec = pod()
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert {"/runs", "/cache", "/tmp", "/dev/shm"} <= writable
    folders = [values()[name] for name in values() if name.endswith(("_DIR", "_HOME")) or name == "HOME"]
    folders.remove("/runs")
    assert folders
    assert all(any(folder == path or folder.startswith(f"{path}/") for path in writable) for folder in folders)


def test_users_are_who_the_job_says_and_never_root() -> None:
    security = pod(workers=everything())["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (1000, 1001, 1002)
    assert pod()["securityContext"]["runAsUser"] > 0
    without = pod(workers={"security": {"fsGroup": None}})["securityContext"]
    assert not {"fsGroup", "fsGroupChangePolicy"} & set(without)
    with pytest.raises(SpecError, match="runAsUser"):
        job(workers={"security": {"runAsUser": 0}})


# Resources and place


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb", "amd.com/gpu"])
@pytest.mark.parametrize("processes", [1, 4])
def test_every_process_gets_one_accelerator(resource: str, processes: int) -> None:
    spec = {"resourceName": resource, "processesPerNode": processes, "nodes": 1}
    assert trainer(workers=spec)["resources"] == {"limits": {resource: str(processes)}}
    assert values(workers=spec)["PET_NPROC_PER_NODE"] == str(processes)


def test_a_job_on_processors_asks_for_no_accelerator() -> None:
    assert trainer()["resources"] == {}
    asked = {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}}
    assert trainer(workers={"resources": asked})["resources"] == asked


def test_the_number_of_accelerators_cannot_be_talked_down() -> None:
    sly = {"resourceName": "nvidia.com/gpu", "processesPerNode": 2, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    with pytest.raises(SpecError, match=r"limits\.nvidia\.com/gpu"):
        trainer(workers=sly)


def test_a_fast_network_comes_with_the_right_to_pin_memory_and_only_then() -> None:
    container = trainer(workers=everything())
    assert container["resources"]["limits"] == {"memory": "128Gi", "nvidia.com/gpu": "2", "rdma/hca": "2"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    assert trainer()["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_shared_memory_is_memory_and_as_large_as_the_job_says() -> None:
    def shm(**workers: Any) -> Manifest:
        spec = pod(workers=workers)
        (name,) = [m["name"] for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm"]
        (volume,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == name]
        found: Manifest = volume
        return found

    assert shm() == {"medium": "Memory"}
    assert shm(sharedMemory="16Gi") == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_where_pods_may_run_is_passed_on_as_it_stands() -> None:
    spec, asked = pod(workers=everything()), everything()
    for key in (
        "nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "schedulerName",
        "serviceAccountName", "imagePullSecrets",
    ):  # fmt: skip
        assert spec[key] == asked[key], key
        assert key not in pod(), f"{key} is left to the cluster"


def test_a_pod_gets_the_time_that_a_checkpoint_needs() -> None:
    assert pod(policy={"terminationGracePeriodSeconds": 1234})["terminationGracePeriodSeconds"] == 1234


def test_the_image_is_the_jobs_or_the_operators() -> None:
    assert (trainer()["image"], trainer()["imagePullPolicy"]) == (DEFAULT_IMAGE, "IfNotPresent")
    own = trainer(image="registry.example/mine@sha256:00", imagePullPolicy="Always")
    assert (own["image"], own["imagePullPolicy"]) == ("registry.example/mine@sha256:00", "Always")


# Storage


@pytest.mark.parametrize(
    "runs",
    [
        {"persistentVolumeClaim": {"claimName": "runs", "readOnly": False}},
        {"nfs": {"server": "nfs.example", "path": "/runs", "readOnly": False}},
        {"hostPath": {"path": "/mnt/runs"}},
        {"emptyDir": {"medium": "", "sizeLimit": "5Gi"}},
    ],
)
@pytest.mark.parametrize("inside", [None, "team/a"])
def test_runs_are_kept_where_the_job_says(runs: Manifest, inside: str | None) -> None:
    spec = pod(storage={"runs": runs | ({"subPath": inside} if inside else {})})
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["mountPath"] == "/runs"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    assert volume == {"name": mount["name"], **runs}
    assert mount.get("subPath") == inside


def test_without_storage_runs_die_with_the_pod() -> None:
    assert {"name": "g2rpo-runs", "emptyDir": {}} in pod()["volumes"]


# What users may add, and what they may not change


def test_what_users_add_is_there() -> None:
    asked = everything()
    variables = env(workers=asked)
    assert variables["NCCL_DEBUG"]["value"] == "INFO"
    secret = variables["HF_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert (secret["name"], secret["key"]) == ("hub", "token")
    assert variables["ZONE"]["valueFrom"]["configMapKeyRef"]["optional"] is True
    spec = pod(workers=asked)
    named = {volume["name"]: volume for volume in spec["volumes"]}
    for volume in asked["volumes"]:
        (kind,) = set(volume) - {"name"}
        assert named[volume["name"]][kind].items() >= volume[kind].items()
    for mount in asked["volumeMounts"]:
        assert any(found.items() >= mount.items() for found in spec["containers"][0]["volumeMounts"])
    metadata = pod_template(workers=asked)["metadata"]
    assert metadata["labels"]["team"] == "vision"
    assert metadata["annotations"]["sidecar.istio.io/inject"] == "false"


FOLDERS = {"HOME", "HF_HOME", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR"}
"""Variables that name places for files, not a rank's place among the others."""


@pytest.mark.parametrize("name", sorted((set(env()) - FOLDERS) | {"RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK"}))
def test_a_variable_that_tells_ranks_their_place_cannot_be_set(name: str) -> None:
    with pytest.raises(SpecError, match=name):
        job(workers={"env": [{"name": name, "value": "mine"}]})


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_folder_of_a_cache_can_be_moved(name: str) -> None:
    assert values(workers={"env": [{"name": name, "value": "/models"}]})[name] == "/models"


def test_labels_that_the_operator_needs_cannot_be_changed() -> None:
    plain = pod_template()["metadata"]["labels"]
    wishes = dict.fromkeys(plain, "mine")
    assert pod_template(workers={"labels": wishes | {"team": "x"}})["metadata"]["labels"] == plain | {"team": "x"}


@pytest.mark.parametrize("path", ["/runs", "/runs/deep", "/etc/g2rpo", "/tmp", "/dev/shm", "/cache/huggingface"])
def test_nothing_can_be_mounted_over_what_the_operator_mounts(path: str) -> None:
    volume = {"volumes": [{"name": "x", "emptyDir": {}}], "volumeMounts": [{"name": "x", "mountPath": path}]}
    with pytest.raises(SpecError, match="mountPath"):
        job(workers=volume)


def test_every_mount_has_a_volume_and_no_path_is_taken_twice() -> None:
    spec = pod(workers=everything())
    mounts = spec["containers"][0]["volumeMounts"]
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(set(names)) == len(names)
    assert {mount["name"] for mount in mounts} <= set(names)
    assert len({mount["mountPath"] for mount in mounts}) == len(mounts)


def test_a_manifest_is_plain_json() -> None:
    full = seen(workers=everything(), storage={"runs": {"persistentVolumeClaim": {"claimName": "runs"}}})
    for manifest in (render.config_map(full), render.service(full), render.child_job(full, 15)):
        assert json.loads(json.dumps(manifest)) == manifest
        assert "null" not in json.dumps({key: value for key, value in manifest.items() if key != "data"})


def test_rendering_twice_gives_the_same() -> None:
    data = job_data(workers=everything())
    first, second = (render.child_job(view(parse_job(copy.deepcopy(data)), attempt=Attempt(2)), 15) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


def test_the_curve_is_kept_under_the_jobs_name_and_belongs_to_it() -> None:
    manifest = render.curve_config_map(seen().owner, {"curve.csv": "a,b\n"})
    assert manifest["metadata"]["name"] == f"{NAME}-curve"
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == UID
    assert manifest["data"] == {"curve.csv": "a,b\n"}
    assert attempt_label(manifest) == 0
