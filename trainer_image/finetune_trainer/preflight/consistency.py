"""What the spec promises against what model and data can keep; mistakes that would otherwise show after hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import ALL_LINEAR, IA3, AdaLoRA, LoRA, MethodType
from finetune_api.objective import MEASURED, new_tokens, objective_of
from finetune_api.publishing import Metric
from finetune_api.runconfig import RunConfig
from finetune_trainer.data.split import DEFAULT_PERCENT, held_out, replay_count
from finetune_trainer.engine.plan import BatchPlan, plan_batches
from finetune_trainer.model.estimate.shapes import linear_modules, matches
from finetune_trainer.model.estimate.trained import LOW_RANK, trained_extents
from finetune_trainer.model.inspect import ModelInfo
from finetune_trainer.preflight.dataset import Sample
from finetune_trainer.preflight.problems import wrong
from finetune_trainer.preflight.reasons import Reason

FEW_STEPS = 50
_POSITION_TABLES = ("wpe.weight", "embed_positions.weight")


def check_gate(spec: FineTuneJobSpec) -> None:
    """A gate on something that will not be measured blocks every model. Raises Problem (64)."""
    for index, gate in enumerate(spec.evaluation.gate):
        field = f"spec.evaluation.gate[{index}]"
        if spec.data.validation.sources is None and spec.data.validation.percent == 0:
            raise wrong(
                field,
                f"{gate.metric} cannot be measured: data.validation.percent is 0 and there are no validation sources, "
                "so nothing is held out; set one of them, or remove the gate",
                Reason.GATE_NOT_MEASURED,
            )
        objective = objective_of(spec).type
        if gate.metric not in MEASURED[objective]:
            raise wrong(
                f"{field}.metric",
                f"{gate.metric} is not measured with objective.type {objective}, which measures "
                f"{', '.join(MEASURED[objective])}; name one of these, or remove the gate",
                Reason.GATE_NOT_MEASURED,
            )
        if gate.metric in (Metric.EXACT_MATCH, Metric.REWARD) and spec.evaluation.samples.count == 0:
            raise wrong(
                field,
                f"{gate.metric} cannot be measured: evaluation.samples.count is 0; raise it, or remove the gate",
                Reason.GATE_NOT_MEASURED,
            )
        if (
            gate.metric in (Metric.LOSS, Metric.PERPLEXITY)
            and Metric.PERPLEXITY in MEASURED[objective]
            and not spec.evaluation.perplexity
        ):
            raise wrong(
                field,
                f"{gate.metric} cannot be measured: evaluation.perplexity is false; set it, or remove the gate",
                Reason.GATE_NOT_MEASURED,
            )


def check_watch(spec: FineTuneJobSpec) -> None:
    """What training is to decide by a held-out loss needs held-out records. Raises Problem (64)."""
    wanted = [
        name
        for name, value in (
            ("evaluation.intervalSteps", spec.evaluation.interval_steps),
            ("training.earlyStopping", spec.training.early_stopping),
            ("checkpoint.keep.best", spec.checkpoint.keep.best),
        )
        if value is not None
    ]
    if wanted and spec.data.validation.sources is None and spec.data.validation.percent == 0:
        raise wrong(
            f"spec.{wanted[0]}",
            "the held-out loss cannot be measured: data.validation.percent is 0 and there are no validation sources, "
            f"so nothing is held out; set one of them, or remove {' and '.join(wanted)}",
            Reason.NOTHING_HELD_OUT,
        )


def check_method(spec: FineTuneJobSpec, model: ModelInfo) -> None:
    """Raises Problem (64) naming the modules that do exist."""
    method = spec.method
    if method.type in LOW_RANK:
        lora = method.lora or LoRA()
        _check_modules("spec.method.lora.targetModules", lora.target_modules, model)
        _check_modules("spec.method.lora.modulesToSave", lora.modules_to_save, model)
    if method.type is MethodType.ADA_LORA:
        targets = (method.ada_lora or AdaLoRA()).target_modules
        _check_modules("spec.method.adaLora.targetModules", targets, model)
    if method.type is MethodType.IA3:
        _check_modules("spec.method.ia3.targetModules", (method.ia3 or IA3()).target_modules, model)
    if method.type is MethodType.FREEZE and not trained_extents(model, spec):
        last = ", ".join(tensor.name for tensor in model.tensors[-3:])
        raise wrong(
            "spec.method.freeze",
            f"nothing would train: no parameter of the model is named so; it has {last:.300}, … Name some, or set "
            "freeze.lastLayers",
            Reason.NOTHING_TRAINS,
        )


def _check_modules(field: str, targets: Sequence[str], model: ModelInfo) -> None:
    linear = linear_modules(model.tensors)
    kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
    if list(targets) == [ALL_LINEAR]:
        if not linear:
            raise wrong(field, "the model has no linear layers", Reason.LORA_TARGETS_NOT_FOUND)
        return
    every = {tensor.name.rpartition(".")[0] for tensor in model.tensors}
    for wanted in targets:
        if not any(matches(module, wanted) for module in every):
            raise wrong(
                field,
                f"the model has no module {wanted!r}; its linear layers are {kinds:.300}. "
                "Name some of these" + (", or write AllLinear alone" if "lora" in field else ""),
                Reason.LORA_TARGETS_NOT_FOUND,
            )


def check_chat_template(sample: Sample, model: ModelInfo) -> None:
    if sample.conversations and not model.has_chat_template:
        raise wrong(
            "spec.model.uri",
            "the data holds chat messages, but the model's tokenizer has no chat template; add chat_template to the "
            "model directory, or write the data as Alpaca or PromptCompletion",
            Reason.NO_CHAT_TEMPLATE,
        )


def training_rows(spec: FineTuneJobSpec, sample: Sample) -> int:
    """Records of an epoch, of those in the sample: without duplicates where these go, weighted."""
    percent = DEFAULT_PERCENT if spec.data.validation.percent is None else spec.data.validation.percent
    out = frozenset() if spec.data.validation.sources else held_out(sample.train, percent)
    left = [(d, w) for d, w in zip(sample.train, sample.weights, strict=True) if d not in out]
    if spec.data.dedup and spec.data.dedup.exact:
        left = list({digest: (digest, weight) for digest, weight in reversed(left)}.values())
    rows = round(sum(weight for _, weight in left))
    replay = spec.retention.replay if spec.retention else None
    return rows + (replay_count(rows, replay.percent) if replay and sample.replayed else 0)


def world_size(config: RunConfig) -> int:
    """From the spec: preflight runs before an attempt has decided on a size."""
    resources = config.spec.resources
    return resources.nodes * (resources.processes_per_node or resources.gpus_per_node or 1)


def check_batches(config: RunConfig, sample: Sample) -> BatchPlan:
    """The plan for the records in the sample. Raises SpecError (64) when the world cannot share the global batch."""
    return plan_batches(
        config.spec.training,
        max(1, training_rows(config.spec, sample)),
        world_size(config),
        micro_override=config.micro_batch_size,
        on_gpu=config.spec.resources.gpus_per_node > 0,
    )


@dataclass(frozen=True)
class _TooLong:
    """Rows beyond the positions that a model was made for."""

    rows: int
    positions: int
    new: int
    """Of `rows`, tokens that the model writes itself."""

    def __str__(self) -> str:
        written = f" and {self.new} tokens that are written" if self.new else ""
        return (
            f"{self.rows - self.new}{written} is more than the {self.positions} positions that the model was made for "
            "(max_position_embeddings of its config.json)"
        )

    @property
    def advice(self) -> str:
        fits = self.positions - self.new
        return f"set data.maxLength to {fits} or less" if fits > 0 else "lower maxNewTokens, too"


def check_length(spec: FineTuneJobSpec, model: ModelInfo) -> None:
    """Raises Problem (64) for rows that a learned table of positions has no place for: training would break off."""
    long = _too_long(spec, model)
    if long and any(table in tensor.name for tensor in model.tensors for table in _POSITION_TABLES):
        raise wrong("spec.data.maxLength", f"{long}, each learned by itself; {long.advice}")


def _too_long(spec: FineTuneJobSpec, model: ModelInfo) -> _TooLong | None:
    positions = model.number("max_position_embeddings", "n_positions")
    rows = spec.data.max_length + new_tokens(spec)
    return None if positions is None or rows <= positions else _TooLong(rows, positions, new_tokens(spec))


def warnings(spec: FineTuneJobSpec, model: ModelInfo, sample: Sample, plan: BatchPlan) -> list[str]:
    found = []
    if long := _too_long(spec, model):
        found.append(f"LongerThanModel: data.maxLength {long}; what stands beyond is learned badly; {long.advice}")
    if not sample.complete:
        found.append(
            f"SampleOnly: {sample.records} records of the first {sample.bytes >> 20} MiB were checked; "
            "the rest is checked when training begins"
        )
    elif plan.total_steps < FEW_STEPS:
        found.append(
            f"TooFewSteps: {plan.rows} records in batches of {plan.global_batch} make {plan.total_steps} optimizer "
            f"steps in all, fewer than {FEW_STEPS}; raise training.epochs or lower training.globalBatchSize"
        )
    if sample.malformed:
        found.append(f"MalformedRecords: {sample.malformed} records are malformed and will be left out")
    if sample.same_ids:
        found.append(
            f"DuplicateIds: {len(sample.same_ids)} records have the id of another one, the first is "
            f"{sample.same_ids[0]}; leave out the one that is outdated, or give it an id of its own"
        )
    return found
