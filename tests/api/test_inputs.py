"""Nothing that a job reads is forgotten where Secrets and volumes are mounted."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.inputs import inputs


def test_everything_that_is_read() -> None:
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "s3://bucket/model"},
            "data": {
                "train": [{"uri": "s3://bucket/train"}, {"uri": "s3://bucket/more"}],
                "validation": {"sources": [{"uri": "s3://bucket/validation"}]},
            },
            "method": {"type": "LoRA"},
            "objective": {"type": "Distill", "distill": {"teacher": {"uri": "s3://bucket/teacher"}}},
            "retention": {
                "replay": {"data": {"uri": "s3://bucket/replay"}, "percent": 10},
                "klToBase": {"weight": "0.1", "data": {"uri": "s3://bucket/kl"}},
                "ewc": {"lambda": "1000", "data": {"uri": "s3://bucket/ewc"}},
            },
        }
    )
    names = {"model", "train", "more", "validation", "teacher", "replay", "kl", "ewc"}
    assert sorted(stored.uri for stored in inputs(spec)) == sorted(f"s3://bucket/{name}" for name in names)


def test_answers_stand_in_a_teachers_place() -> None:
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"uri": "s3://bucket/model"},
            "data": {"train": [{"uri": "s3://bucket/train"}]},
            "method": {"type": "LoRA"},
            "objective": {"type": "Distill", "distill": {"topK": {"uri": "s3://bucket/answers"}}},
        }
    )
    assert [stored.uri for stored in inputs(spec)] == ["s3://bucket/model", "s3://bucket/answers", "s3://bucket/train"]
