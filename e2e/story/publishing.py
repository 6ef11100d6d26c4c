"""Letter e: metrics and gate, the model in S3, a gate that costs no retraining, a run that is never trained twice."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from e2e.story.stage import Job, Stage, StoryError, attempts, condition
from e2e.story.training import REFERENCE

GATED = "gate-fails"


def e_publish(stage: Stage) -> Job:
    """Metrics and gate stand in status, the merged model lies in S3 and loads in plain transformers."""
    job = stage.wait(REFERENCE, "it is published", lambda j: j["status"].get("phase") == "Succeeded", timeout=300)
    metrics = job["status"]["evaluation"]["metrics"]
    base, final = metrics["exactMatch"].get("base", 0.0), metrics["exactMatch"]["final"]
    if base > 0.1 or final < 0.9:
        raise StoryError(f"learning is not visible: exact match {base} -> {final}")
    stage.fact("e", "exact match on held-out prompts, base -> final", f"{base:.2f} -> {final:.2f}")
    for gate in job["status"]["evaluation"]["gate"]:
        stage.fact("e", "gate", gate["message"])
    output = job["status"]["output"]
    _load(stage, output["uri"])
    stage.fact("e", "published and loaded in plain transformers", output["uri"])
    return job


def _load(stage: Stage, uri: str) -> None:
    """Greedy decoding with nothing of ours: the published folder is an ordinary model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        stage.store.download_tree("/".join(uri.split("/")[3:]), Path(folder), files=None)
        manifest = json.loads((Path(folder) / "MANIFEST.json").read_text())
        if not manifest["gatePassed"]:
            raise StoryError(f"the manifest says the gate failed: {manifest['gate']}")
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("hello", return_tensors="pt")
        ids.pop("token_type_ids", None)
        made = model.generate(**ids, max_new_tokens=4, do_sample=False)
        if made.shape[1] <= ids["input_ids"].shape[1]:
            raise StoryError("the published model generates nothing")


def e_gate(stage: Stage) -> Job:
    """A job whose gate fails ends GateFailed; relaxing the gate publishes without training again."""
    stage.narrator.command("kubectl apply -f examples/03-gate-fails.yaml")
    stage.apply(stage.example("03-gate-fails.yaml", name=GATED))
    stage.until(
        f"{GATED} ends", lambda: stage.get(GATED)["status"].get("phase") in ("Failed", "Succeeded"), timeout=300
    )
    job = stage.get(GATED)
    if (job["status"]["phase"], job["status"]["reason"]) != ("Failed", "GateFailed"):
        raise StoryError(f"expected Failed/GateFailed:\n{stage.dump(GATED, job)}")
    stage.fact("e", "a gate that fails", job["status"]["message"])
    trained = len(attempts(job))
    patch = '{"spec":{"evaluation":{"gate":[]}}}'
    began = time.monotonic()
    stage.kubectl("-n", stage.namespace, "patch", "finetunejob", GATED, "--type=merge", "-p", patch, show=True)
    stage.until("it is published", lambda: stage.get(GATED)["status"].get("phase") == "Succeeded", timeout=180)
    job = stage.get(GATED)
    if len(attempts(job)) != trained:
        raise StoryError("relaxing the gate trained again")
    stage.fact("e", "gate relaxed to published, no training", f"{time.monotonic() - began:.0f} s")
    return job


def f_already_published(stage: Stage) -> Job:
    """The same manifest deleted and applied again after success trains nothing."""
    stage.kubectl("-n", stage.namespace, "delete", "finetunejob", REFERENCE, "--wait=true", "--timeout=120s", show=True)
    began = time.monotonic()
    stage.apply(stage.example("01-finetune.yaml", name=REFERENCE))
    job = stage.wait(REFERENCE, "it is known", lambda j: j["status"].get("phase") == "Succeeded", timeout=120)
    if job["status"]["reason"] != "AlreadyPublished" or attempts(job):
        raise StoryError(f"expected AlreadyPublished without attempts: {job['status']}")
    stage.fact("f", "the same manifest again: AlreadyPublished after", f"{time.monotonic() - began:.0f} s")
    if condition(job, "Complete")["status"] != "True":
        raise StoryError("kubectl wait --for=condition=Complete would not end")
    return job
