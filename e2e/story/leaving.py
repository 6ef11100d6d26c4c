"""Letter g: the operator can be taken away without harm, and leaves nothing behind."""

from __future__ import annotations

import json

from e2e.story.stage import SYSTEM, Stage, StoryError, step

KEPT = "kept"
CRDS = ("finetunejobs.finetune.dev", "modeldeployments.finetune.dev")


def g_uninstall(stage: Stage) -> None:
    """`helm uninstall` leaves running jobs alone; without the CRDs nothing stays; installed again, all works."""
    stage.apply(
        stage.example(
            "01-finetune.yaml", name=KEPT, resources={"nodes": 1}, training={"maxSteps": 5000, "globalBatchSize": 8}
        )
    )
    stage.wait(KEPT, "it trains", lambda j: step(j) > 0)
    pods = {p["metadata"]["uid"] for p in stage.trainers(KEPT, 1)}
    stage.narrator.command(f"helm uninstall finetune-operator -n {SYSTEM}")
    stage.cluster.helm("uninstall", "finetune-operator", "-n", SYSTEM, "--wait")
    after = stage.trainers(KEPT, 1)
    if {p["metadata"]["uid"] for p in after} != pods or any(p["status"]["phase"] != "Running" for p in after):
        raise StoryError(f"helm uninstall harmed the running job: {after}")
    stage.get(KEPT)
    stage.fact("g", "after helm uninstall", "the job's pods run on, the FineTuneJob stands")
    stage.kubectl("delete", "crd", *CRDS, "--wait=true", "--timeout=180s", show=True)
    try:
        stage.until("nothing of ours is left", lambda: not leftovers(stage), timeout=180)
    except StoryError as error:
        raise StoryError(f"{error}: {leftovers(stage)}") from None
    stage.fact("g", "objects left behind without the CRDs", 0)


def leftovers(stage: Stage) -> list[str]:
    """Whatever carries our label anywhere, and whatever is ours in the operator's namespace."""
    out = stage.kubectl(
        "get",
        "jobs,pods,deployments,services,httproutes,networkpolicies,secrets,configmaps,persistentvolumeclaims",
        "--all-namespaces",
        "-l",
        "app.kubernetes.io/managed-by=finetune-operator",
        "-o",
        "json",
    )
    found = [f"{o['kind']} {o['metadata']['namespace']}/{o['metadata']['name']}" for o in json.loads(out)["items"]]
    cluster_wide = stage.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    found += [name for name in cluster_wide.split() if "finetune" in name]
    leases = stage.kubectl("-n", SYSTEM, "get", "leases", "-o", "name")
    found += [name for name in leases.split() if "finetune" in name]
    return found
