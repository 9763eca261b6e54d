"""A job that is taken makes pods that are taken: nothing that the API server would refuse passes the door."""

from __future__ import annotations

import json
from random import Random

import pytest

from g2rpo_api.parse import parse_job
from g2rpo_operator.render import child_job, config_map, service
from testapi.examples import Maker, job_of
from testcluster.api import ApiError
from testcluster.cluster import Cluster
from testoperator.records import view

PATHS = {"Job": "/apis/batch/v1", "ConfigMap": "/api/v1", "Service": "/api/v1"}
PLURALS = {"Job": "jobs", "ConfigMap": "configmaps", "Service": "services"}


@pytest.mark.parametrize("seed", range(4))
def test_what_any_job_is_made_into_is_taken(seed: int, cluster: Cluster, namespace: str) -> None:
    maker = Maker(Random(seed))
    for _ in range(40):
        data = job_of(maker.spec(), "j" * 48)
        data["metadata"]["namespace"] = namespace
        seen = view(parse_job(data))
        for manifest in (config_map(seen), service(seen), child_job(seen, 15.0)):
            kind = manifest["kind"]
            path = f"{PATHS[kind]}/namespaces/{namespace}/{PLURALS[kind]}?dryRun=All&fieldValidation=Strict"
            try:
                cluster.api.create(path, manifest)
            except ApiError as error:
                pytest.fail(f"{error}\n{json.dumps(data['spec'])}")
