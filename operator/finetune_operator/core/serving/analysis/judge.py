"""One rule, the totals of two revisions, one verdict in words. Stateless: the same totals give the same verdict.

Fail needs the confidence the rule asks for, and keeps it however often one looks. Pass means that there are enough
samples and no such evidence; it is no proof of equality. Between them lies *suspicion*: evidence half as long (on the
log scale) as a Fail needs. A step should not be taken in that moment, so the verdict is Inconclusive and waits for
more requests, which take a healthy canary out of suspicion again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from finetune_operator.core.serving.analysis.measures import Claim, Measured, above_limit, measured, worse_than_stable
from finetune_operator.core.serving.analysis.totals import MetricRule, Totals
from finetune_operator.core.serving.analysis.verdict import Decision, Verdict

SUSPICION = 0.5

_SEVERITY = (Decision.PASS, Decision.INCONCLUSIVE, Decision.FAIL)


@dataclass(frozen=True)
class _Finding:
    decision: Decision
    text: str


def judge(
    rule: MetricRule, stable: Totals | None, canary: Totals, min_samples: int, *, silent: str | None = None
) -> Verdict:
    """`stable` is None where no stable revision exists: only `max` can be judged then. `min_samples` requests are
    needed of each side that takes part; a stable that answers nothing, for which `silent` has the words, takes no
    part as long as it has fewer."""
    new = measured(rule, canary)
    old = None if stable is None else measured(rule, stable)
    nothing = "there is no stable revision to compare with"
    if silent is not None and old is not None and old.samples < min_samples:
        stable, nothing = None, f"stable answers nothing to compare with: {silent}"
    findings = _waiting(rule, None if stable is None else old, new, min_samples)
    findings = findings or _findings(rule, stable, canary, nothing)
    decision = max((f.decision for f in findings), key=_SEVERITY.index)
    values = f"canary {new.text}" if old is None else f"canary {new.text}, stable {old.text}"
    return Verdict(
        metric=rule.name,
        decision=decision,
        stable_value=None if old is None else old.value,
        canary_value=new.value,
        stable_samples=0 if old is None else old.samples,
        canary_samples=new.samples,
        message=f"{new.subject}: {values}: {'; '.join(f.text for f in findings if f.decision is decision)}",
    )


def _waiting(rule: MetricRule, stable: Measured | None, canary: Measured, min_samples: int) -> list[_Finding]:
    few = [f"{canary.samples} of the canary"] if canary.samples < min_samples else []
    if rule.max_regression_percent is not None and stable is not None and stable.samples < min_samples:
        few.append(f"{stable.samples} of stable")
    if not few:
        return []
    return [_Finding(Decision.INCONCLUSIVE, f"needs {min_samples} requests, has {' and '.join(few)}")]


def _findings(rule: MetricRule, stable: Totals | None, canary: Totals, nothing: str) -> list[_Finding]:
    claims = []
    if rule.max is not None:
        claims.append(above_limit(rule, rule.max, canary))
    if rule.max_regression_percent is not None and stable is not None:
        claims.append(worse_than_stable(rule, rule.max_regression_percent, stable, canary))
    if not claims:
        return [_Finding(Decision.PASS, nothing)]
    doubt = (1 - rule.confidence_percent / 100) / len(claims)
    found = [_finding(claim, -math.log(doubt), rule.confidence_percent) for claim in claims]
    compared = rule.max_regression_percent is None or stable is not None
    return found if compared else [*found, _Finding(Decision.PASS, nothing)]


def _finding(claim: Claim, needed: float, confidence: int) -> _Finding:
    if claim.log_evidence >= needed:
        return _Finding(Decision.FAIL, f"{claim.text} with {confidence} % confidence{claim.detail}")
    if claim.log_evidence >= SUSPICION * needed:
        reason = f"looks {claim.text}, with less than {confidence} % confidence: more requests will tell"
        return _Finding(Decision.INCONCLUSIVE, reason + claim.detail)
    return _Finding(Decision.PASS, f"not shown to be {claim.text}")
