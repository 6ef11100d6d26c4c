"""The end of every plan, of both kinds: a decision that must be stored first goes alone, all else together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from finetune_operator.core.draft import BaseDraft, StatusT
from finetune_operator.core.serving.types import Scrape
from finetune_operator.core.types import EventNote, Plan, Probe


def answer(
    d: BaseDraft[StatusT],
    before: StatusT,
    events: Callable[[StatusT, StatusT], tuple[EventNote, ...]],
    *,
    probe: Probe | None = None,
    scrape: Scrape | None = None,
) -> Plan:
    """What `d` became. Engines are looked at in a pass that stores a decision too, or a window would end with it."""
    d.update(observed_generation=d.generation)
    status = d.status.to_wire()
    changed = status != before.to_wire()
    plan = Plan(
        status=status if changed else None,
        events=events(before, d.status),
        scrape=scrape,
        requeue_after=min(d.requeues, default=None),
    )
    if d.intent and changed:
        return plan
    return replace(plan, probe=probe, creates=tuple(d.creates), patches=tuple(d.patches), deletes=tuple(d.deletes))
