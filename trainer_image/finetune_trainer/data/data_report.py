"""What became of the data, in one place: `data-report.json` for programs and `data-report.md` for people.

Both lie in the run directory. Whoever wonders why a model learned nothing looks there first: at the counts, at the
lengths, and at a few records as the model sees them, with what it learns to write set apart.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_api import layout
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError, Store
from finetune_trainer.common import log
from finetune_trainer.data.dataset import Examples, Splits
from finetune_trainer.data.packed import Packed
from finetune_trainer.data.sources import named_sources
from finetune_trainer.data.wrapped import Wrapped

SAMPLES = 3
_SAMPLE_TOKENS = 400
_BAR = 40


def build(
    config: RunConfig, splits: Splits, packed: Packed | Wrapped | None, why_not: str, tokenizer: Any
) -> dict[str, Any]:
    """The report's content: counts, sources, lengths in tokens, samples with what is trained marked."""
    train = splits.train
    lengths = train.lengths
    return {
        "format": 1,
        "maxLength": config.spec.data.max_length,
        "counts": {**asdict(splits.counts), "truncatedPercent": round(splits.counts.truncated_percent, 1)},
        "leftOutBy": splits.store.report.get("leftOut", {}),
        "cleanedBy": splits.store.report.get("cleaned", {}),
        "malformed": splits.store.report.get("malformed", []),
        "sources": _sources(config, splits),
        **({"curriculum": config.spec.data.curriculum.to_wire()} if config.spec.data.curriculum else {}),
        "tokens": {
            "training": int(lengths.sum()),
            "trained": int(sum(int(targets[1:].sum()) for _, targets in train)),
            "shortest": int(lengths.min()),
            "median": int(np.median(lengths)),
            "p95": int(np.percentile(lengths, 95)),
            "longest": int(lengths.max()),
            "histogram": histogram(lengths),
        },
        "packing": asdict(packed.counts) | {"efficiencyPercent": round(packed.counts.efficiency_percent, 1)}
        if packed
        else {"why": why_not},
        "samples": [sample(train, index, tokenizer) for index in _spread(len(train))],
    }


def histogram(lengths: npt.NDArray[np.int64]) -> list[dict[str, int]]:
    """Rows by length, in classes that end at powers of two: `{upTo, rows}`."""
    if not len(lengths):
        return []
    classes = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return [
        {"upTo": 2**number, "rows": int((classes == number).sum())}
        for number in range(int(classes.min()), int(classes.max()) + 1)
    ]


def sample(examples: Examples, index: int, tokenizer: Any) -> dict[str, Any]:
    """One row as parts `{text, trained}`; the first 400 tokens of it."""
    ids, targets = examples[index]
    shown, marks = ids[:_SAMPLE_TOKENS].tolist(), targets[:_SAMPLE_TOKENS].tolist()
    cuts = [0, *(i for i in range(1, len(shown)) if marks[i] != marks[i - 1]), len(shown)]
    parts = [{"text": str(tokenizer.decode(shown[a:b])), "trained": bool(marks[a])} for a, b in pairwise(cuts) if b > a]
    return {"row": index, "tokens": len(ids), "cut": len(ids) > _SAMPLE_TOKENS, "parts": parts}


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    counts, tokens = report["counts"], report["tokens"]
    lines = ["# The data of this run", "", "| what | records |", "|---|---|"]
    words = {
        "records": "read and encoded",
        "malformed": "malformed, passed over",
        "filtered": "left out by filters",
        "duplicates": "exact duplicates left out",
        "near_duplicates": "near duplicates left out",
        "overlapping": "left out because they are held out, too",
        "dropped": "dropped: too long, or nothing left to learn",
        "truncated": f"truncated ({counts['truncatedPercent']} %)",
        "validation": "held out (rows)",
        "train": "trained on in an epoch (rows)",
    }
    lines += [f"| {text} | {counts[key]:,} |" for key, text in words.items()]
    lines += [f"| of these replayed (spec.retention) | {counts['replayed']:,} |"] if counts.get("replayed") else []
    lines += [f"| left out by {name} | {count:,} |" for name, count in report["leftOutBy"].items() if count]
    lines += [f"| cleaned by {name} | {count:,} |" for name, count in report["cleanedBy"].items() if count]
    lines += ["", "## Sources", "", "| source | rows | tokens | in an epoch | held out |", "|---|---|---|---|---|"]
    lines += [
        f"| {s['field']} `{s['uri']}` | {s['rows']:,} | {s['tokens']:,} | {s['train']:,} | {s['validation']:,} |"
        for s in report["sources"]
    ]
    lines += [
        "",
        f"## Lengths, of at most {report['maxLength']:,} tokens",
        "",
        f"{tokens['training']:,} tokens in an epoch, {tokens['trained']:,} of them trained. The shortest row has "
        f"{tokens['shortest']:,}, the median {tokens['median']:,}, 95 % have at most {tokens['p95']:,}, the longest "
        f"has {tokens['longest']:,}.",
        "",
        "```text",
    ]
    most = max((bar["rows"] for bar in tokens["histogram"]), default=1)
    lines += [
        f"≤ {bar['upTo']:>7,}  {bar['rows']:>9,}  {'█' * round(_BAR * bar['rows'] / most)}"
        for bar in tokens["histogram"]
    ]
    lines += ["```", ""]
    if report["malformed"]:
        lines += ["## Malformed", "", *(f"- {words}" for words in report["malformed"]), ""]
    lines += ["## As the model sees it", "", "Between ⟦ and ⟧ stands what it learns to write.", ""]
    for found in report["samples"]:
        text = "".join(f"⟦{p['text']}⟧" if p["trained"] else p["text"] for p in found["parts"])
        fence = "`" * max(3, _longest_fence(text) + 1)
        lines += [f"Row {found['row']}, {found['tokens']:,} tokens:", "", f"{fence}text", text, fence, ""]
    return "\n".join(lines)


def store(run: Store, report: dict[str, Any]) -> None:
    """Into the run directory. Best effort: a report is no reason not to train."""
    try:
        run.put_bytes(layout.DATA_REPORT, json.dumps(report, ensure_ascii=False, indent=1).encode())
        run.put_bytes(layout.DATA_PAGE, page(report).encode())
    except (ArtifactError, OSError) as error:
        log.warning("data report not stored", cause=str(error))


def _sources(config: RunConfig, splits: Splits) -> list[dict[str, Any]]:
    encoded, train, validation = splits.store, splits.train.rows, splits.validation.rows
    lengths = np.diff(encoded.ends, prepend=0)
    found = []
    for number, named in enumerate(named_sources(config)):
        rows = encoded.sources == number
        found.append(
            {
                "field": named.field,
                "uri": named.source.uri,
                "rows": int(rows.sum()),
                "tokens": int(lengths[rows].sum()),
                "train": int(rows[train].sum()),
                "validation": int(rows[validation].sum()),
            }
        )
    return found


def _spread(rows: int) -> list[int]:
    return sorted({index * rows // SAMPLES for index in range(SAMPLES)} if rows else set())


def _longest_fence(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
