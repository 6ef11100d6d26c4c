"""Check: is the candidate good enough to get traffic? Asked directly, at weight 0, beside stable.

In the order of cost: does it serve the model's name, does it answer, does it compute what was trained, does it answer
as well as stable. What may pass is waited for inside the deadline; a verdict on the candidate ends the check at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from finetune_api.data import DataSource
from finetune_api.exitcodes import ExitCode
from finetune_api.reports import clip, termination_message
from finetune_api.runconfig import TERMINATION_LOG_MAX
from finetune_api.serveconfig import CheckReport, CheckTargets, QualityResult, ServeConfig
from finetune_api.served import ServedReference
from finetune_artifacts import Unreachable
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.stores import open_for
from finetune_trainer.preflight.problems import storage_in_words
from finetune_trainer.serve import manifest as manifests
from finetune_trainer.serve import quality
from finetune_trainer.serve.answers import Model
from finetune_trainer.serve.asking import Asking
from finetune_trainer.serve.engine import Engine, Refused
from finetune_trainer.serve.patience import Patience
from finetune_trainer.serve.prompts import failed, require_answers
from finetune_trainer.serve.questions import Question, read_questions
from finetune_trainer.serve.reasons import Reason
from finetune_trainer.serve.reference import fitting, measure, read_reference, require_close

T = TypeVar("T")
_LENGTHS = (300, 100, 30)


def check(config: ServeConfig, patience: Patience | None = None) -> int:
    """The exit code: 0, 64 (config), 66 (the quality's data), 69 (may pass), 74, 76 (the candidate is no good)."""
    work = _Check(config, patience or Patience(config.deadline_seconds))
    try:
        report = work.run()
    except RunError as error:
        report = work.report(error.code, error.reason, error.message)
        log.error(error.message, reason=error.reason, exit_code=report.exit_code)
    write_termination(shortened(report))
    return report.exit_code


def shortened(report: CheckReport) -> CheckReport:
    """Such that all of it fits a termination message: letters beyond ASCII take six bytes each there."""
    for length in _LENGTHS:
        rows = [
            row.model_copy(update={"message": clip(row.message, length), "data": clip(row.data, length)})
            for row in report.quality
        ]
        report = report.model_copy(update={"quality": rows})
        if len(termination_message(report)) < TERMINATION_LOG_MAX:
            break
    return report


class _Check:
    def __init__(self, config: ServeConfig, patience: Patience) -> None:
        self.config, self.patience = config, patience
        self.prompts, self.tokens = 0, 0
        self.logprob_delta: float | None = None
        self.quality: list[QualityResult] = []

    def run(self) -> CheckReport:
        """Raises RunError at the first thing that decides."""
        targets = self.config.check
        if targets is None:
            raise RunError(
                ExitCode.INVALID_SPEC, "the serving config has no `check`: whom to ask?", reason=Reason.INVALID_CONFIG
            )
        candidate, stable = self._engines(targets)
        trainers = self._patiently(self.config.secret, self._reference)
        questions = [self._questions(index, asked.data) for index, asked in enumerate(targets.quality)]
        model = served_model(candidate)
        self.prompts = require_answers(candidate, targets.prompts)
        words = [f"{self.prompts} prompts answered"]
        if trainers is not None:
            found = measure(candidate, fitting(trainers, model.max_model_len))
            self.logprob_delta, self.tokens = found.mean, found.tokens
            words.append(require_close(found, targets.max_logprob_delta))
            log.event(words[-1])
        for asked, rows in zip(targets.quality, questions, strict=True):
            scores = quality.score(rows, candidate, stable, asked.max_tokens)
            result = quality.judge(asked, *scores)
            log.event(result.message, passed=result.passed, data=result.data)
            self.quality.append(result)
            if not result.passed:
                quality.show_wrong(scores[0])
        bad = [result.message for result in self.quality if not result.passed]
        if bad:
            raise failed("; ".join(bad), Reason.QUALITY_FAILED)
        message = "; ".join(words + [result.message for result in self.quality])
        log.event(message)
        return self.report(ExitCode.DONE, Reason.CHECKED, message)

    def report(self, code: ExitCode, reason: str, message: str) -> CheckReport:
        """With what was found out, also of a candidate that failed."""
        return CheckReport(
            exit_code=int(code),
            reason=reason,
            message=message,
            prompts=self.prompts,
            logprob_delta=self.logprob_delta,
            tokens=self.tokens,
            quality=self.quality,
            at=timestamp(),
        )

    def _engines(self, targets: CheckTargets) -> tuple[Asking, Asking | None]:
        candidate = Asking(Engine(targets.candidate_url, targets.candidate_name), self.patience, candidate=True)
        if targets.stable_url is None:
            return candidate, None
        engine = Engine(targets.stable_url, targets.stable_name or targets.candidate_name)
        return candidate, Asking(engine, self.patience, candidate=False)

    def _reference(self) -> ServedReference | None:
        config = self.config
        store = open_for(config, config.model_uri, config.secret)
        manifest = manifests.read_manifest(store)
        manifests.require_intact(store, manifest, config.expected_digest)
        return read_reference(store, manifest)

    def _questions(self, index: int, data: DataSource) -> list[Question]:
        field = f"spec.rollout.analysis.quality[{index}].data"
        secret = data.secret_ref.name if data.secret_ref else None
        return self._patiently(secret, lambda: read_questions(self.config, field, data))

    def _patiently(self, secret: str | None, read: Callable[[], T]) -> T:
        """Storage that does not answer is asked again. Raises RunError."""
        attempt = 0
        while True:
            with storage_in_words(None, secret):
                try:
                    return read()
                except Unreachable as error:
                    if not self.patience.pause(attempt):
                        raise
                    log.warning("storage does not answer; trying again", cause=str(error))
            attempt += 1


def served_model(candidate: Asking) -> Model:
    """Raises RunError (76) when the engine serves other names than clients send."""
    name = candidate.engine.name
    try:
        models = candidate(lambda engine, timeout: engine.models(timeout)).data
    except Refused as error:
        raise failed(f"{candidate.who} {error}") from None
    found = next((model for model in models if model.id == name), None)
    if found is None:
        names = ", ".join(clip(model.id, 60) for model in models[:4])
        raise failed(f"{candidate.who} does not serve the model {name!r}; it serves {names or 'none'}")
    return found
