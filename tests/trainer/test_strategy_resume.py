"""Every strategy: a run stopped at each of its steps ends where the undisturbed one ends, bit for bit; what one strategy
or world size saved, another goes on with; and FSDP computes what DDP computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_trainer.checkpoint import files
from finetune_trainer.checkpoint.restore import load_trainable
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.engine import model
from tests.cells import cells
from tests.trainer import runs
from tests.trainer.ranks import Results, assert_exact, joined
from tests.trainer.strategies import METHODS, MICRO, STEPS, STRATEGIES, ZERO

RANKS = {
    "script": "strategies.py",
    "ranks": 3,
    "shown": "(FSDP|DDP|ZeRO2)-full-accumulated-(whole|lives)|(DDP-to-FSDP|ZeRO2-to-DDP|two-to-one)-full",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ACROSS = 1e-5
"""Of losses, when the world size differs: sums are taken in another order."""
MOVED = 5e-5
"""Of parameters, where sums are taken in another order: a twentieth of what one step moves at most (the learning rate).
AdamW divides a gradient near 0 by its own size, so that its last bits count as much as a large one's."""
SAME_SUMS = 1e-6
"""Of losses, relative, when only the strategy differs."""
MOVES = ("DDP-to-FSDP", "FSDP-to-DDP", "two-to-one", "one-to-two", "two-to-three", "hybrid")
ZERO_MOVES = ("ZeRO2-to-DDP", "DDP-to-ZeRO3", "zero-two-to-one", "zero-one-to-two")
ROUNDED = 2e-2
"""Of losses, relative, in bf16: FSDP computes all in it, autocast only matrix products."""


def parts(results: Results, run: str) -> list[str]:
    """Its attempts, in order."""
    return sorted((name for name in results if name.rpartition("-")[0] == run), key=lambda n: int(n.rpartition("-")[2]))


def last(results: Results, run: str) -> Path:
    """The folder of its last checkpoint, of the run's last step."""
    outcome = results[parts(results, run)[-1]]
    assert (outcome["code"], outcome["step"]) == (0, STEPS)
    return Path(outcome["folder"])


def furthest(ours: Path, theirs: Path) -> float:
    """The largest difference between two checkpoints' parameters."""
    mine, other = files.read_trainable(ours), files.read_trainable(theirs)
    assert mine.keys() == other.keys()
    return max(float((mine[name] - other[name]).abs().max()) for name in other)


@pytest.mark.parametrize("micro", cells(MICRO, ["accumulated"]))
@pytest.mark.parametrize("method", cells(METHODS, ["full"]))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stopped_at_every_step_is_bit_exact(results: Results, strategy: str, method: str, micro: str) -> None:
    run = f"{strategy}-{method}-{micro}"
    lives = parts(results, f"{run}-lives")
    assert [results[life]["step"] for life in lives] == list(range(1, STEPS + 1))
    assert_exact(results, f"{run}-whole-1", lives)


@pytest.mark.parametrize("micro", cells(MICRO, ["accumulated"]))
@pytest.mark.parametrize("method", cells(METHODS, ["full"]))
def test_fsdp_computes_what_ddp_computes(results: Results, method: str, micro: str) -> None:
    ours, theirs = (results[f"{strategy}-{method}-{micro}-whole-1"] for strategy in ("FSDP", "DDP"))
    for what in ("losses", "norms"):
        assert ours[what].keys() == theirs[what].keys()
        assert list(ours[what].values()) == pytest.approx(list(theirs[what].values()), rel=SAME_SUMS)
    assert furthest(Path(ours["folder"]), Path(theirs["folder"])) < MOVED


@pytest.mark.parametrize("run", cells([*(f"{name}-full" for name in ZERO), "ZeRO3-lora"], ["ZeRO2-full"]))
def test_zero_resumes_bit_exactly_and_computes_what_ddp_computes(results: Results, run: str) -> None:
    ours, lives = results[f"{run}-accumulated-whole-1"], parts(results, f"{run}-accumulated-lives")
    assert_exact(results, f"{run}-accumulated-whole-1", lives)
    theirs = results[f"DDP-{run.partition('-')[2]}-accumulated-whole-1"]
    assert list(ours["losses"].values()) == pytest.approx(list(theirs["losses"].values()), rel=SAME_SUMS)
    assert list(ours["norms"].values()) == pytest.approx(list(theirs["norms"].values()), rel=ACROSS)
    assert furthest(Path(ours["folder"]), Path(theirs["folder"])) < MOVED


@pytest.mark.nightly
@pytest.mark.parametrize("strategy", ["ZeRO2", "ZeRO3"])
def test_zero_offloads_without_learning_otherwise(results: Results, strategy: str) -> None:
    whole, lives = results[f"{strategy}-full-accumulated-whole-1"], parts(results, f"zero-offload-{strategy}")
    losses = joined(results, lives, "losses")
    assert list(losses.values()) == pytest.approx(list(whole["losses"].values()), rel=SAME_SUMS)
    assert furthest(last(results, f"zero-offload-{strategy}"), Path(whole["folder"])) < MOVED


@pytest.mark.nightly
@pytest.mark.parametrize("strategy", ["ZeRO2", "ZeRO3"])
def test_zero_leaves_out_steps_as_ddp_does(results: Results, strategy: str) -> None:
    """The run stops right after the first one, before the optimizer has made a step."""
    ours, theirs = (joined(results, parts(results, f"skips-{name}"), "losses") for name in (strategy, "DDP"))
    assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=SAME_SUMS)
    assert ours != results[f"{strategy}-full-accumulated-whole-1"]["losses"]
    assert furthest(last(results, f"skips-{strategy}"), last(results, "skips-DDP")) < MOVED


@pytest.mark.nightly
def test_zero_computes_activations_again_and_in_bf16(results: Results) -> None:
    again, kept = results["again-ZeRO3-full-1"], results["ZeRO3-full-accumulated-whole-1"]
    assert again["losses"] == kept["losses"]
    half, theirs = (results[f"bf16-{name}-full-1"]["losses"] for name in ("ZeRO3", "DDP"))
    assert half != kept["losses"]
    assert list(half.values()) == pytest.approx(list(theirs.values()), rel=ACROSS)


@pytest.mark.nightly
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_accumulation_does_not_change_what_is_learned(results: Results, strategy: str) -> None:
    """Of full fine-tuning; LoRA's dropout is drawn by micro-batch."""
    plain, accumulated = (results[f"{strategy}-full-{micro}-whole-1"] for micro in ("plain", "accumulated"))
    assert list(plain["losses"].values()) == pytest.approx(list(accumulated["losses"].values()), abs=ACROSS)


@pytest.mark.parametrize("method", cells(METHODS, ["full"]))
@pytest.mark.parametrize("move", cells(MOVES, ["DDP-to-FSDP", "two-to-one"]))
def test_another_strategy_or_world_size_goes_on(results: Results, move: str, method: str) -> None:
    went_on(results, f"{move}-{method}", method)


@pytest.mark.parametrize("move", cells(ZERO_MOVES, ["ZeRO2-to-DDP"]))
def test_zero_shares_checkpoints_with_the_others(results: Results, move: str) -> None:
    went_on(results, f"{move}-full", "full")


def went_on(results: Results, run: str, method: str) -> None:
    """As DDP that was never stopped."""
    reference = results[f"DDP-{method}-accumulated-whole-1"]
    losses = joined(results, parts(results, run), "losses")
    assert losses.keys() == reference["losses"].keys()
    assert max(abs(losses[step] - reference["losses"][step]) for step in losses) < ACROSS
    assert furthest(last(results, run), Path(reference["folder"])) < MOVED


@pytest.mark.nightly
def test_each_rank_saves_its_part(results: Results) -> None:
    names = {path.name for path in last(results, "FSDP-full-plain-whole").iterdir()}
    assert names == {
        "MANIFEST.json",
        "state.json",
        *(f"{kind}-0000{rank}-of-00002.safetensors" for kind in ("trainable", "optimizer") for rank in (1, 2)),
    }
    sizes = [path.stat().st_size for path in last(results, "FSDP-full-plain-whole").glob("optimizer-*")]
    assert max(sizes) < 1.1 * min(sizes), "the ranks' shares are even"


@pytest.mark.nightly
@pytest.mark.parametrize("method", METHODS)
def test_replicas_are_stored_once(results: Results, method: str) -> None:
    hybrid, single = (
        sum(path.stat().st_size for path in last(results, run).glob("*.safetensors"))
        for run in (f"hybrid-{method}", f"DDP-{method}-accumulated-whole")
    )
    assert hybrid == pytest.approx(single, rel=0.01)


@pytest.mark.nightly
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("method", METHODS)
def test_activations_computed_again_change_nothing(results: Results, strategy: str, method: str) -> None:
    again, kept = results[f"again-{strategy}-{method}-1"], results[f"{strategy}-{method}-accumulated-whole-1"]
    for what in ("digest", "optimizer", "losses", "norms"):
        assert again[what] == kept[what], what


@pytest.mark.nightly
def test_cheap_activations_computed_again_change_nothing_where_weights_are_cut(results: Results) -> None:
    again, kept = results["selective-FSDP-lora-1"], results["FSDP-lora-accumulated-whole-1"]
    for what in ("digest", "optimizer", "losses", "norms"):
        assert again[what] == kept[what], what


@pytest.mark.nightly
def test_offloading_changes_where_it_rests_not_what_it_learns(results: Results) -> None:
    reference = results["FSDP-lora-accumulated-whole-1"]
    assert results["offload-1"]["losses"] == reference["losses"]
    assert results["offload-1"]["digest"] == reference["digest"]


@pytest.mark.nightly
@pytest.mark.parametrize("method", METHODS)
def test_bf16_is_exact_too_and_close_to_ddp(results: Results, method: str) -> None:
    whole, lives = results[f"bf16-whole-{method}-1"], parts(results, f"bf16-lives-{method}")
    assert_exact(results, f"bf16-whole-{method}-1", lives)
    assert whole["losses"] != results[f"FSDP-{method}-accumulated-whole-1"]["losses"]
    theirs = results[f"bf16-DDP-{method}-1"]["losses"]
    assert list(whole["losses"].values()) == pytest.approx(list(theirs.values()), rel=ROUNDED)


@pytest.mark.nightly
@pytest.mark.parametrize("method", METHODS)
def test_one_process_reads_what_many_saved(results: Results, folder: Path, method: str) -> None:
    """As publishing does."""
    document = runs.spec(folder / "tiny" / "model", folder / "tiny" / "data" / "train.jsonl")
    document |= METHODS[method]
    built = model.build(FineTuneJobSpec.model_validate(document), folder / "tiny" / "model", torch.device("cpu"))
    saved = last(results, f"two-to-three-{method}")
    load_trainable(built, saved)
    reference = files.read_trainable(Path(results[f"DDP-{method}-accumulated-whole-1"]["folder"]))
    for name, parameter in trainable_parameters(built).items():
        assert float((parameter.detach() - reference[name]).abs().max()) < MOVED
