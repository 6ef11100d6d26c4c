"""What a file of a teacher's answers says of itself. Preflight asks it from the small image, which has no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.exitcodes import ExitCode
from finetune_api.objective_distill import DistillSettings
from finetune_trainer.common.errors import RunError

PATTERN = "top-k-*.safetensors"
FORMAT = "finetune-top-k/1"
FIELD = "spec.objective.distill.topK"


@dataclass(frozen=True)
class Header:
    """What was asked; equal in every file of a set."""

    k: int
    vocabulary: int
    temperature: str

    def metadata(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "k": str(self.k),
            "vocabulary": str(self.vocabulary),
            "temperature": self.temperature,
        }

    @staticmethod
    def of(metadata: dict[str, str] | None) -> Header:
        """Raises ValueError for a file that `finetune teach` did not write."""
        if not metadata or metadata.get("format") != FORMAT:
            raise ValueError(f"it is no {FORMAT}")
        return Header(int(metadata["k"]), int(metadata["vocabulary"]), metadata["temperature"])


def require_alike(header: Header, vocabulary: int | None, settings: DistillSettings) -> None:
    """Raises RunError (66) when the answers are about other tokens, or were given at another temperature."""
    if header.vocabulary != vocabulary:
        raise unusable(f"its teacher tells {header.vocabulary} tokens apart, the base model {vocabulary}")
    if float(header.temperature) != float(settings.temperature):
        raise unusable(
            f"it was asked at temperature {header.temperature}, and spec.objective.distill.temperature is "
            f"{settings.temperature}; set it to the same, or make the files anew"
        )


def unusable(words: str) -> RunError:
    return RunError(ExitCode.DATA_INVALID, f"{FIELD}: {words}", reason="InvalidTopK")
