"""Every training method on a tiny model, in one process: trained whole, stopped and resumed, published, loaded again.

Run by test_methods.py as `python methods.py <folder>` with RANK set; writes results.json, by method.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from finetune_api import runconfig as rc

ADAPTER = {"output": {"merge": False}}
LORA = {"rank": 4, "alpha": 8}
ADA_LORA = {"initialRank": 6, "targetRank": 3, "alpha": 32, "interval": 2, "settledPercent": 25}
METHODS: dict[str, dict[str, Any]] = {
    "FullFineTune": {"method": {"type": "FullFineTune"}},
    "Freeze": {"method": {"type": "Freeze", "freeze": {"lastLayers": 1, "lmHead": True}}},
    "Freeze-patterns": {"method": {"type": "Freeze", "freeze": {"trainable": [r"\.mlp\."], "embeddings": True}}},
    "LoRA": {"method": {"type": "LoRA", "lora": LORA}},
    "LoRA-adapter": {"method": {"type": "LoRA", "lora": {**LORA, "rslora": True, "dropout": "0.1"}}, **ADAPTER},
    "LoRA-patterns": {
        "method": {
            "type": "LoRA",
            "lora": {**LORA, "rankPattern": {"q_proj": 2}, "alphaPattern": {"v_proj": 4}, "init": "Orthogonal"},
        }
    },
    "LoRA-whole-head": {"method": {"type": "LoRA", "lora": {**LORA, "modulesToSave": ["lm_head"]}}},
    "LoRA-PiSSA": {"method": {"type": "LoRA", "lora": {**LORA, "init": "PiSSA"}}},
    "LoRA-PiSSA-adapter": {
        "method": {"type": "LoRA", "lora": {**LORA, "init": "PiSSA", "rankPattern": {"q_proj": 2}}},
        **ADAPTER,
    },
    "LoRA-OLoRA": {"method": {"type": "LoRA", "lora": {**LORA, "init": "OLoRA"}}},
    "LoRA-OLoRA-adapter": {"method": {"type": "LoRA", "lora": {**LORA, "init": "OLoRA", "rslora": True}}, **ADAPTER},
    "QLoRA": {"method": {"type": "QLoRA", "lora": LORA}},
    "QLoRA-LoftQ": {
        "method": {"type": "QLoRA", "lora": {**LORA, "init": "LoftQ", "rslora": True, "rankPattern": {"q_proj": 2}}}
    },
    "QLoRA-INT8-whole-head": {
        "method": {
            "type": "QLoRA",
            "lora": {**LORA, "modulesToSave": ["lm_head"]},
            "quantization": {"bits": 8},
        }
    },
    "QLoRA-FP4-adapter": {
        "method": {
            "type": "QLoRA",
            "lora": {**LORA, "rslora": True, "dropout": "0.1"},
            "quantization": {"type": "FP4", "doubleQuant": False},
        },
        "training": {"precision": "BF16"},
        **ADAPTER,
    },
    "DoRA": {"method": {"type": "DoRA", "lora": LORA}},
    "DoRA-adapter": {"method": {"type": "DoRA", "lora": {**LORA, "init": "Gaussian"}}, **ADAPTER},
    "AdaLoRA": {"method": {"type": "AdaLoRA", "adaLora": ADA_LORA}},
    "AdaLoRA-adapter": {"method": {"type": "AdaLoRA", "adaLora": {**ADA_LORA, "dropout": "0.1"}}, **ADAPTER},
    "IA3": {"method": {"type": "IA3"}, "training": {"learningRate": "2e-2"}},
    "IA3-adapter": {"method": {"type": "IA3"}, "training": {"learningRate": "2e-2"}, **ADAPTER},
    "Prefix": {"method": {"type": "Prefix", "prefix": {"virtualTokens": 4, "hiddenSize": 32}}},
    "Prompt": {"method": {"type": "Prompt", "prompt": {"virtualTokens": 4}}, "training": {"learningRate": "3e-2"}},
    "PTuning": {"method": {"type": "PTuning", "pTuning": {"virtualTokens": 4, "hiddenSize": 32}}},
    "PTuningV2": {
        "method": {"type": "PTuningV2", "pTuningV2": {"virtualTokens": 4}},
        "training": {"learningRate": "3e-2"},
    },
    "Bottleneck": {"method": {"type": "Bottleneck", "bottleneck": {"size": 8}}},
    "Bottleneck-Houlsby": {"method": {"type": "Bottleneck", "bottleneck": {"size": 8, "style": "Houlsby"}}},
}
STEPS, STOPPED_AT = 8, 4


def main() -> None:
    from tests.trainer import tiny
    from tests.trainer.exact import Ranks

    ranks = Ranks.started()
    folder = ranks.folder
    ranks.phase(1)
    tiny.write_model(folder / "tiny" / "model")
    # 16 records and a batch of 16: each step sees them all, so that a few steps learn something.
    tiny.write_data(folder / "tiny" / "data" / "train.jsonl", 16)
    tiny.write_data(folder / "tiny" / "data" / "held-out.jsonl", 4, seed=1)
    for name in METHODS:
        try:
            run(ranks, folder, name)
        except Exception as error:
            import traceback

            ranks.results[name] = {"error": "".join(traceback.format_exception(error))[-4000:]}
    ranks.finish()


def run(ranks: Any, folder: Path, name: str) -> None:
    changes = {
        **METHODS[name],
        "data": {
            "train": [{"uri": f"file://{folder}/tiny/data/train.jsonl"}],
            "maxLength": 64,
            "validation": {"sources": [{"uri": f"file://{folder}/tiny/data/held-out.jsonl"}]},
        },
        "evaluation": {"samples": {"count": 2, "maxNewTokens": 2}},
    }
    training = {"maxSteps": STEPS, "globalBatchSize": 16, "microBatchSize": 16, "learningRate": "1e-2"}
    training |= {"scheduler": {"type": "Constant", "warmupPercent": 0}} | METHODS[name].get("training", {})
    changes["training"] = training
    lower = name.lower()
    if not ranks.wanted(f"{lower}-whole"):
        return
    ranks.resumed(lower, changes, stop=(STOPPED_AT, 0))
    ranks.results[name] = {"published": published(ranks, folder, f"{lower}-whole", changes)}


def published(ranks: Any, folder: Path, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Publishes as the pod would, then compares the folder, loaded as a user would, with the model of the checkpoint."""
    import torch
    from torch import nn

    from finetune_api.finetunejob import FineTuneJobSpec
    from finetune_artifacts import open_store
    from finetune_trainer.engine.model import load_base
    from finetune_trainer.methods.choose import method_of
    from finetune_trainer.model.estimate.trained import trainable_parameters
    from finetune_trainer.model.inspect import inspect_model
    from finetune_trainer.publish import export
    from finetune_trainer.publish.main import publish
    from tests.trainer import runs

    document = runs.spec(folder / "tiny" / "model", folder / "tiny" / "data" / "train.jsonl")
    document["training"] |= changes["training"]
    document |= {key: value for key, value in changes.items() if key != "training"}
    config = runs.config(folder / "store", document, attempt=0, run_key=name)
    os.environ[rc.TERMINATION_LOG_ENV] = str(folder / f"{name}-words")
    os.environ[rc.SCRATCH_DIR_ENV] = str(folder / f"{name}-scratch")
    code = publish(config)
    words = json.loads((folder / f"{name}-words").read_text())
    spec: FineTuneJobSpec = config.spec
    if code:
        return {"code": code, "message": words["message"]}
    base, output = folder / "tiny" / "model", Path(config.output_uri.removeprefix("file://"))
    device = torch.device("cpu")
    trained = export.trained_model(spec, base, Path(ranks.results[f"{name}-1"]["folder"]), device)
    manifest = json.loads((output / "MANIFEST.json").read_text())
    fresh: nn.Module = (
        method_of(spec.method).load_adapter(load_base(base, torch.float32), output)
        if manifest["kind"] == "Adapter"
        else load_base(output, torch.float32)
    )
    ids = torch.arange(5, 45).unsqueeze(0)
    with torch.inference_mode():
        ours, theirs, untrained = (
            model.eval()(input_ids=ids, use_cache=False).logits.float()
            for model in (trained, fresh, load_base(base, torch.float32))
        )
    store = open_store(f"file://{base}")
    return {
        "code": code,
        "message": words["message"],
        "kind": manifest["kind"],
        "difference": float((ours - theirs).abs().max()),
        "moved": float((ours - untrained).abs().max()),
        "trainable": sum(p.numel() for p in trained.parameters() if p.requires_grad),
        "estimated": trainable_parameters(inspect_model(store, list(store.list())), spec),
        "files": sorted(path.name for path in output.iterdir()),
    }


if __name__ == "__main__":
    main()
