"""Writes the reference pages from the CRDs, so that they promise nothing the API server does not know.

`python docs/reference/generate.py` rewrites them; a test guards that this leaves no diff.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune_api.allowed import ADAPTER, METHODS, RULES
from finetune_api.crdgen import FROZEN, finetunejob_crd, modeldeployment_crd
from finetune_api.exitcodes import MEANINGS, reason
from finetune_api.reports import Estimate
from finetune_cli.combinations import METHODS as ALL_METHODS
from finetune_cli.combinations import OBJECTIVES, RETENTION, STRATEGIES, Choices, Part, refusals
from finetune_cli.sizes import COUNTS, GLOBAL_BATCH, GPUS, LENGTH, SHAPES, smallest
from finetune_cli.sizes import METHODS as SIZED_METHODS

HERE = Path(__file__).parent
Schema = Mapping[str, Any]

JOB_INTRO = """\
# FineTuneJob

`finetune.dev/v1alpha1`, namespaced, short name `ftj`. Written by `docs/reference/generate.py` from the CRD; the same
text is at your fingertips with `kubectl explain finetunejob.spec`.

Fields marked **frozen** cannot change once the run has begun (once the status has `resolved`): the API server refuses
the edit. Decimal numbers are strings: write `learningRate: "2e-4"`, in quotes. A `secretRef` is `{name}`: a Secret in
the job's own namespace, with keys such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
"""
DEPLOYMENT_INTRO = """\
# ModelDeployment

`finetune.dev/v1alpha1`, namespaced, short name `md`. Written by `docs/reference/generate.py` from the CRD; the same
text is at your fingertips with `kubectl explain modeldeployment.spec`.

The fields of `spec.engine`, `spec.resources`, `spec.model.servedName` and `spec.model.secretRef` make a revision: a
change of one of them, or of the model, starts a rollout. Everything else takes effect at once. Decimal numbers are
strings: write `max: "0.01"`, in quotes. A `secretRef` is `{name}`: a Secret in the deployment's own namespace.
Three annotations are a person's word: `finetune.dev/promote` and `finetune.dev/abort` carry `<revision>/<step>`,
`finetune.dev/retry` carries `<revision>`. How a rollout goes: `docs/guides/rollouts.md`.
"""
METHODS_INTRO = """\
# Training methods

Written by `docs/reference/generate.py` from `finetune_api/allowed.py`, which the API server's rules, preflight and the
publisher read too. Each row is proved by `tests/trainer/test_methods.py` on a tiny model: it learns, is stopped and
resumed bit for bit, published, loaded again, and gives the same logits. How to choose: [guide](../guides/methods.md).

| `method.type` | published as | strategies | packed rows | unmerged adapter in vLLM | learningRate when unset |
|---|---|---|---|---|---|
"""
COMBINATIONS_INTRO = """\
# What goes with what

Written by `docs/reference/generate.py`, which asks the CRD's own rules about each pair, as the API server does when you
apply a manifest. **yes** is taken; a number is refused, for the reason below the tables. A job makes one choice of each
kind, and is refused when any two of them do not go together. Every method with every objective that it goes with is
trained, stopped and resumed bit for bit by `tests/trainer/test_combinations.py`, on a tiny model.
"""
TOKENS = 10**8
SIZES_INTRO = f"""\
# How many GPUs?

Written by `docs/reference/generate.py`, which asks the estimate that [preflight](../guides/will-it-fit.md) makes of
every job; nothing in it was measured on these GPUs. Rows of {LENGTH} tokens, `microBatchSize: 1`,
`globalBatchSize: {GLOBAL_BATCH}`, bf16, AdamW, one node, everything else as it is when left out (`strategy: Auto`,
`activationCheckpointing: Auto`, which spends memory that is free on speed).

A cell is the fewest GPUs of {", ".join(map(str, COUNTS))} that are enough, what each holds at its fullest moment, and
how long a hundred million tokens take at 40 % of the GPUs' peak. One GPU, or DDP, keeps the model whole on each; FSDP
cuts it. **—** means that eight are not enough: take more nodes, shorter rows, or another method. `finetune plan -f
job.yaml` answers for your own job, with what would fit instead.

"""
EXITS = """\
## Exit codes

What a trainer, preflight or publish process says by the way it ends. A custom trainer image speaks the same language.

| code | name | what happened | then | what you can do |
|---|---|---|---|---|
"""
FROZEN_PATHS = {path for _, path in FROZEN}


def anchor(path: str) -> str:
    return "#" + "".join(c for c in path.lower() if c.isalnum())


def kind(schema: Schema, path: str) -> str:
    """A short name of the type, with its bounds; a block links to its table."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return " \\| ".join(f"`{v}`" for v in schema["enum"])
    if schema["type"] == "array":
        return f"list of {kind(schema['items'], path + '[]')}"
    if schema["type"] == "object":
        if "additionalProperties" in schema:
            return f"map to {kind(schema['additionalProperties'], path + '.*')}"
        return "`{name}`" if is_reference(schema) else f"[block]({anchor(path)})"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{schema['type']} {low}–{high}"
    return f"{schema['type']} ≥ {low}" if low is not None else str(schema["type"])


def is_reference(schema: Schema) -> bool:
    """`{name}` alone: explained once, in the introduction."""
    return set(schema.get("properties", ())) == {"name"}


def default(schema: Schema) -> str:
    value = schema.get("default")
    return "" if value in (None, {}) else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def blocks(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """(path, schema) of each object with fields of its own, outermost first."""
    if schema.get("type") == "array":
        yield from blocks(f"{path}[]", schema["items"])
    elif "additionalProperties" in schema:
        yield from blocks(f"{path}.*", schema["additionalProperties"])
    elif "properties" in schema and not is_reference(schema):
        yield path, schema
        for name, child in schema["properties"].items():
            yield from blocks(f"{path}.{name}", child)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(path: str, schema: Schema, frozen: Collection[str], *, defaults: bool) -> Iterator[str]:
    yield f"### `{path}`\n"
    if schema.get("description"):
        yield f"{schema['description']}\n"
    yield "| field | type | default | meaning |" if defaults else "| field | type | meaning |"
    yield "|---|---|---|---|" if defaults else "|---|---|---|"
    required = schema.get("required", [])
    for name, child in schema["properties"].items():
        marks = ["**required**"] * (name in required) + ["**frozen**"] * (f"{path}.{name}" in frozen)
        description = "" if "properties" in child else child.get("description", "")
        meaning = cell("; ".join([*marks, description]).strip("; "))
        middle = f"{default(child)} | " if defaults else ""
        yield f"| `{name}` | {kind(child, f'{path}.{name}')} | {middle}{meaning} |"
    rules = [r["message"] for r in schema.get("x-kubernetes-validations", [])]
    if rules:
        yield "\nRefused otherwise: " + "; ".join(rules) + "."
    yield ""


def page(intro: str, crd: Mapping[str, Any], frozen: Collection[str] = ()) -> str:
    version = crd["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    lines = [intro, "The whole object:\n"]
    lines += [f"- {rule['message']}" for rule in root["x-kubernetes-validations"]]
    lines.append(f"\n## Columns of `kubectl get {crd['spec']['names']['plural']}`\n")
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        lines.append(f"- **{column['name']}**{wide}: `{column['jsonPath']}`")
    for section in ("spec", "status"):
        lines.append(f"\n## {section.capitalize()}\n")
        for path, schema in blocks(section, root["properties"][section]):
            lines += table(path, schema, frozen, defaults=section == "spec")
    return "\n".join(lines)


def methods_page() -> str:
    rows = []
    for name, traits in METHODS.items():
        strategies = "DDP, FSDP" if traits.shards else "DDP"
        adapter = "none" if ADAPTER not in traits.published else traits.not_served or "loads"
        packed = "yes" if traits.packs else "no"
        kinds = " or ".join(traits.published)
        rows.append(f"| `{name}` | {kinds} | {strategies} | {packed} | {adapter} | {traits.rate} |")
    refused = [f"- {rule['message']}" for rule in RULES]
    return METHODS_INTRO + "\n".join(rows) + "\n\n## Refused\n\n" + "\n".join(refused) + "\n"


def combinations_page() -> str:
    reasons: list[str] = []

    def answer(*parts: Part) -> str:
        found = refusals(*parts)
        reasons.extend(words for words in found if words not in reasons)
        return ", ".join(str(reasons.index(words) + 1) for words in found) or "yes"

    def grid(title: str, rows: Choices, columns: Choices) -> list[str]:
        head = " | ".join(f"`{name}`" for name in columns)
        lines = [f"\n## {title}\n", f"| | {head} |", "|---|" + "---|" * len(columns)]
        lines += [
            f"| `{name}` | " + " | ".join(answer(row, column) for column in columns.values()) + " |"
            for name, row in rows.items()
        ]
        return lines

    lines = grid("Methods and objectives", ALL_METHODS, OBJECTIVES)
    lines += grid("Methods and strategies", ALL_METHODS, STRATEGIES)
    lines += grid("Objectives and strategies", OBJECTIVES, STRATEGIES)
    lines += grid("Methods and retention", ALL_METHODS, RETENTION)
    lines += grid("Objectives and retention", OBJECTIVES, RETENTION)
    lines.append("\n## Reasons\n")
    lines += [f"{number}. {words}" for number, words in enumerate(reasons, start=1)]
    return COMBINATIONS_INTRO + "\n".join(lines) + "\n"


def sizes_page() -> str:
    lines = []
    for method in SIZED_METHODS:
        lines += [f"## {method}\n", "| | " + " | ".join(GPUS) + " |", "|---|" + "---|" * len(GPUS)]
        for name, shape in SHAPES.items():
            lines.append(f"| {name} | " + " | ".join(size(smallest(shape, method, gpu)) for gpu in GPUS) + " |")
        lines.append("")
    return SIZES_INTRO + "\n".join(lines)


def size(found: tuple[int, Estimate] | None) -> str:
    if found is None:
        return "—"
    count, estimate = found
    speed = estimate.tokens_per_second_per_gpu
    took = f", {TOKENS / (speed * count) / 3600:.2g} h" if speed else ""
    how = "" if count == 1 else f" {estimate.strategy}"
    return f"**{count}**{how}: {estimate.memory_per_gpu_bytes / 2**30:.0f} GiB{took}"


def pages() -> dict[Path, str]:
    exits = EXITS + "\n".join(
        f"| {int(code)} | {reason(code)} | {m.what} | {m.then} | {m.remedy} |" for code, m in MEANINGS.items()
    )
    return {
        HERE / "methods.md": methods_page(),
        HERE / "combinations.md": combinations_page(),
        HERE / "sizes.md": sizes_page(),
        HERE / "finetunejob.md": page(JOB_INTRO, finetunejob_crd(), FROZEN_PATHS) + "\n" + exits + "\n",
        HERE / "modeldeployment.md": page(DEPLOYMENT_INTRO, modeldeployment_crd()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
