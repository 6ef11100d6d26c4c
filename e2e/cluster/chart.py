"""Install or upgrade the operator's own chart with the images and the store of this cluster."""

from __future__ import annotations

import yaml

from e2e.cluster.cluster import Cluster
from e2e.tools.places import REPO, state_dir

CHART = REPO / "helm" / "finetune-operator"
GATEWAY_CRDS = CHART / "charts" / "gateway-api" / "crds"
RELEASE, NAMESPACE = "finetune-operator", "finetune-system"
DOMAIN = "models.test"
SECRET = "finetune-artifacts"  # the name of a Secret, not one


def values(cluster: Cluster) -> dict[str, object]:
    """The images by their content-derived tags, so that a changed image rolls the Deployment."""

    def image(reference: str) -> dict[str, str]:
        repository, _, tag = reference.rpartition(":")
        return {"repository": repository, "tag": tag}

    return {
        "image": {**image(cluster.images["operator"]), "pullPolicy": "Never"},
        "trainerImage": image(cluster.images["trainer"]),
        "servingImage": image(cluster.images["vllm"]),
        "gateway": {
            "install": True,
            "domain": DOMAIN,
            "replicas": 1,
            "drainSeconds": 5,
            "image": image(cluster.images["traefik"]),
            "service": {"type": cluster.gateway_type},
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        },
        "artifacts": {"uri": f"s3://{cluster.s3.bucket}/runs", "secretName": SECRET},
        "tuning": {"progressWriteSeconds": 2, "pollSeconds": 1},
    }


def install(cluster: Cluster, timeout: str = "120s") -> None:
    """`helm upgrade --install`, waiting until the operator is ready; the store's Secret for namespace `default`.

    helm brings the Gateway API's CRDs with a first installation only, so that they are applied beforehand.
    """
    cluster.give_store_access("default", SECRET)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(GATEWAY_CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(GATEWAY_CRDS))
    file = state_dir() / "values.yaml"
    file.write_text(yaml.safe_dump(values(cluster)))
    cluster.helm(
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
        *("--values", str(file), "--wait", "--timeout", timeout),
    )
