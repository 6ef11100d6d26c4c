"""Which rows are trained on and held out: duplicates, near duplicates, weights, balance, parts of long texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from finetune_trainer.data.dataset import Splits, load_splits
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.minhash import clusters, rows_per_band, signature
from finetune_trainer.data.read import DataError
from tests.trainer import small

RNG = Random(5)
WORDS = [f"word{n}" for n in range(400)]


def load(root: Path, **data: Any) -> Splits:
    config = small.config(root, {"data": {"maxLength": 256, **data}})
    return load_splits(config, fetch_data(config, root / "scratch", lambda _bytes: None), small.tokenizer())


def texts(examples: Any) -> list[str]:
    return [small.tokenizer().decode(ids) for ids, _ in examples]


def pairs(names: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"prompt": name, "completion": "ok", **more} for name in names]


def source(root: Path, name: str, documents: list[Any], **fields: Any) -> dict[str, Any]:
    small.write_jsonl(root / f"{name}.jsonl", documents)
    return {"uri": f"file://{root}/{name}.jsonl", **fields}


def test_exact_duplicates_go_only_when_asked_and_the_first_stays(tmp_path: Path) -> None:
    names = [f"p{n % 20}" for n in range(60)]
    train = [source(tmp_path, "train", pairs(names))]
    kept, once = load(tmp_path, train=train), load(tmp_path, train=train, dedup={})
    assert len(kept.train) + len(kept.validation) == 60
    assert len(once.train) + len(once.validation) == 20
    assert once.counts.duplicates == 40
    assert set(texts(once.validation)) == set(texts(kept.validation))
    assert sorted(set(texts(kept.train))) == sorted(texts(once.train))


def essay(words: int = 60) -> list[str]:
    return RNG.choices(WORDS, k=words)


def test_near_duplicates_go_and_never_straddle(tmp_path: Path) -> None:
    originals = [essay() for _ in range(30)]
    copies = [[*words[:58], "other", "end"] for words in originals]
    far = [[*words[:20], *essay(40)] for words in originals]
    documents = [{"text": " ".join(words)} for words in (*originals, *copies, *far)]
    RNG.shuffle(documents)
    found = load(
        tmp_path,
        train=[source(tmp_path, "train", documents)],
        dedup={"near": {}},
        validation={"percent": 30},
        maxLength=1024,
    )
    assert found.counts.near_duplicates == 30
    assert len(found.train) + len(found.validation) == 60
    assert not {t[:40] for t in texts(found.train)} & {t[:40] for t in texts(found.validation)} - {
        " ".join(w)[:40] for w in far
    }


def test_a_training_record_close_to_a_held_out_one_goes(tmp_path: Path) -> None:
    words = essay()
    train = [source(tmp_path, "train", [{"text": " ".join([*words[:58], "x", "y"])}, {"text": " ".join(essay())}])]
    held = [source(tmp_path, "held", [{"text": " ".join(words)}] * 2)]
    found = load(tmp_path, train=train, validation={"sources": held}, dedup={"near": {}}, maxLength=1024)
    assert (len(found.train), len(found.validation), found.counts.near_duplicates) == (1, 2, 1)


def test_signatures_estimate_the_share_of_common_runs() -> None:
    first = essay(400)
    for changed in (10, 40, 120):
        second = [*essay(changed), *first[changed:]]
        runs = [{tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (first, second)]
        share = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
        estimate = float(np.mean(signature(" ".join(first)) == signature(" ".join(second))))
        assert estimate == pytest.approx(share, abs=4 * (share * (1 - share) / 128) ** 0.5)


def test_case_punctuation_and_short_texts() -> None:
    assert np.array_equal(signature("Hello, World!"), signature("hello world"))
    assert not np.array_equal(signature("!!"), signature("??"))
    assert [rows_per_band(t) for t in (0.5, 0.8, 0.95)] == [4, 8, 16]
    same = np.stack([signature(t) for t in ("a b c", "d e f", "A b. c", "g h i")])
    assert clusters(same, 0.8).tolist() == [0, 1, 0, 3]


def test_weights_repeat_and_thin_out_training_records_and_leave_the_split_alone(tmp_path: Path) -> None:
    a, b, c = ([f"{letter}{n}" for n in range(200)] for letter in "abc")
    plain = [source(tmp_path, n, pairs(names)) for n, names in (("a", a), ("b", b), ("c", c))]
    weighted = [s | {"weight": w} for s, w in zip(plain, ("2", "0.5", "1.25"), strict=True)]
    before, after = load(tmp_path, train=plain), load(tmp_path, train=weighted)
    assert texts(after.validation) == texts(before.validation)
    count, times = Counter(texts(before.train)), Counter(texts(after.train))
    assert {times[t] for t in count if t[0] == "a"} == {2}
    assert {times[t] for t in count if t[0] == "b"} == {0, 1}
    assert {times[t] for t in count if t[0] == "c"} == {1, 2}
    sizes = Counter(t[0] for t in times.elements())
    assert sizes["b"] == pytest.approx(95, abs=20)
    assert sizes["c"] == pytest.approx(237, abs=20)
    assert texts(load(tmp_path, train=weighted).train) == texts(after.train)


@pytest.mark.parametrize(("strategy", "sizes"), [("Upsample", (100, 100)), ("Downsample", (7, 7))])
def test_balance_makes_the_values_of_a_column_equally_frequent(
    tmp_path: Path, strategy: str, sizes: tuple[int, int]
) -> None:
    many, few = pairs([f"m{n}" for n in range(100)], topic="m"), pairs([f"f{n}" for n in range(7)], topic=3)
    found = load(
        tmp_path,
        train=[source(tmp_path, "train", many + few)],
        validation={"percent": 0},
        balance={"column": "topic", "strategy": strategy},
    )
    counted = Counter(t[0] for t in texts(found.train))
    assert (counted["m"], counted["f"]) == sizes
    assert max(Counter(texts(found.train)).values()) <= 15


def test_a_record_without_the_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.jsonl line 1: topic is missing, which data.balance.column names"):
        load(tmp_path, train=[source(tmp_path, "train", pairs(["a"]))], balance={"column": "topic"})


def test_split_makes_rows_of_a_long_text_that_stay_together(tmp_path: Path) -> None:
    long = [{"text": " ".join(essay(40))} for _ in range(20)]
    found = load(
        tmp_path,
        train=[source(tmp_path, "train", long * 2)],
        maxLength=32,
        onOverflow="Split",
        dedup={},
        validation={"percent": 30},
    )
    assert max(found.train.lengths) <= 32
    assert (found.counts.records, found.counts.truncated, found.counts.dropped) == (40, 0, 0)
    whole = texts(
        load(tmp_path, train=[source(tmp_path, "train", long)], maxLength=4096, validation={"percent": 0}).train
    )
    for side in (found.train, found.validation):
        joined = "".join(texts(side))
        assert sum(text in joined for text in whole) > 0
    cut = sum(len(ids) for side in (found.train, found.validation) for ids, _ in side)
    expected = sum(len(small.tokenizer()(text, add_special_tokens=False)["input_ids"]) for text in whole)
    assert 0 <= expected - cut <= len(long), "no more than a last single token each, which is no row"


def test_train_on_all_learns_the_prompt_too(tmp_path: Path) -> None:
    train = [
        source(
            tmp_path,
            "train",
            [
                *small.conversations(3),
            ],
        )
    ]
    for ids, targets in load(tmp_path, train=train, trainOn="All", validation={"percent": 0}).train:
        assert targets[:-1].all() or len(ids) == 256
    usual = load(tmp_path, train=train, validation={"percent": 0})
    assert not any(targets.all() for _, targets in usual.train)


def test_filters_leave_out_before_the_limit_and_are_counted(tmp_path: Path) -> None:
    documents = pairs(["<b>x</b>", *[f"p{n}" for n in range(9)]])
    found = load(
        tmp_path,
        train=[source(tmp_path, "train", documents, limit=4)],
        filters=[{"type": "HTML"}],
        validation={"percent": 0},
    )
    assert texts(found.train) == [f"p{n}ok<|end|>" for n in range(4)]
    assert found.counts.filtered == 1
