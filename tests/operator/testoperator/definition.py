"""The custom resource on the test cluster, for tests that need real G2RPOJobs."""

from __future__ import annotations

from contextlib import suppress

from g2rpo_api import contract
from g2rpo_api.crd import custom_resource_definition
from testcluster.api import ApiError
from testcluster.cluster import Cluster
from testcluster.process import wait_until

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def define_jobs(cluster: Cluster) -> None:
    """The API server knows G2RPOJobs afterwards; it may have known them before."""
    with suppress(ApiError):
        cluster.api.create(DEFINITIONS, custom_resource_definition())
    path = f"/apis/{contract.API_VERSION}/{contract.PLURAL}"
    wait_until(lambda: cluster.api.answers(path), f"{path} is served")
