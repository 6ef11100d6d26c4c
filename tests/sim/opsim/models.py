"""Published models as the small image's pods find them in storage: what the verifier and the checker say of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fakeapi.controllers import Process, Program

from finetune_api.exitcodes import ExitCode
from finetune_api.serveconfig import CheckReport, FetchReport, ServeConfig, VerifyReport
from finetune_operator.core.names import ANNOTATION_RUN_CONFIG

from .engines import Behaviour
from .rundir import stamp

Obj = dict[str, Any]


@dataclass
class Model:
    digest: str
    gate_passed: bool | None = True
    tampered: bool = False
    missing: int = 0
    """So many verifiers find no manifest yet."""
    check: str = ""
    """Why the checker refuses it: VerifyFailed, LogprobsDiffer or QualityFailed."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    verified: int = 0
    checked: int = 0


def serve_config(pod: Obj) -> ServeConfig:
    """What the operator told the pod; anything else than a valid ServeConfig is a bug of a builder."""
    return ServeConfig.model_validate_json(pod["metadata"]["annotations"][ANNOTATION_RUN_CONFIG])


def fetch_report(code: int, now: float) -> str:
    reason, message = ("FileTampered", "the model is not what was published") if code else ("Fetched", "")
    report = FetchReport(exit_code=code, reason=reason, message=message, at=stamp(now))
    return json.dumps(report.to_wire())


@dataclass(frozen=True)
class Verifier(Program):
    seconds: float | None = 2.0
    config: ServeConfig | None = None
    model: Model | None = None

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        if how == "term":
            return 143, ""
        code, reason, message, digest = self._judge()
        model = self.model
        report = VerifyReport(
            exit_code=code,
            reason=reason,
            message=message,
            digest=digest,
            gate_passed=model.gate_passed if model is not None else None,
            files=3 if code == 0 else 0,
            bytes=4096 if code == 0 else 0,
            at=stamp(now),
        )
        return code, json.dumps(report.to_wire())

    def _judge(self) -> tuple[int, str, str, str | None]:
        config, model = self.config, self.model
        assert config is not None
        if model is None or model.missing > 0:
            if model is not None:
                model.missing -= 1
            return int(ExitCode.WAITING), "ManifestMissing", f"{config.model_uri} has no manifest", None
        model.verified += 1
        if model.tampered:
            return int(ExitCode.DATA_INVALID), "ManifestTampered", "model.safetensors is not what was published", None
        if config.expected_digest not in (None, model.digest):
            return int(ExitCode.DATA_INVALID), "ManifestTampered", "the manifest has another digest", model.digest
        if config.require_gate and not model.gate_passed:
            return int(ExitCode.GATE_FAILED), "GateFailed", "the model's gate did not pass", model.digest
        return 0, "Verified", "the model is whole", model.digest


@dataclass(frozen=True)
class Checker(Program):
    seconds: float | None = 3.0
    config: ServeConfig | None = None
    model: Model | None = None

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        if how == "term":
            return 143, ""
        model, config = self.model, self.config
        assert model is not None
        assert config is not None
        assert config.check is not None, "a checker needs to know whom to ask"
        model.checked += 1
        code = int(ExitCode.GATE_FAILED) if model.check else 0
        report = CheckReport(
            exit_code=code,
            reason=model.check or "Checked",
            message=f"the candidate {'is worse' if model.check else 'answers well'}",
            prompts=len(config.check.prompts),
            at=stamp(now),
        )
        return code, json.dumps(report.to_wire())
