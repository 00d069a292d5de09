from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded_pools import tiny_qwen
from gloo import run_on_two_ranks
from quality_cases import CLASSES, rows_with_prompts, select_on_a_rank, selector

from dataflex import ComponentError, ConfigError
from dataflex.scoring.index_cache import cached_indexes
from dataflex.testing.tiny import write_model

NAMES = list(CLASSES)


def chosen(subject: Any, step: int, count: int, model: Any = None) -> list[int]:
    return np.asarray(subject.select(model or tiny_qwen(), step, count).rows).tolist()


def begun(name: str, folder: Path, model: Any, **more: Any) -> Any:
    subject = selector(name, folder, **more)
    if name != "column":
        subject.begin(model)
    return subject


def test_ifd_takes_the_rows_of_the_highest_ratios_up_to_one(tmp_path: Path) -> None:
    found = begun("ifd", tmp_path, tiny_qwen()).select(tiny_qwen(), 4, 5)
    scores, finite = found.scores, np.isfinite(found.scores)
    assert sorted(scores[found.rows]) == sorted(scores[finite])[-5:]
    assert scores[finite].max() <= 1
    short = [row for row, each in enumerate(rows_with_prompts()) if sum(np.array(each["labels"]) != -100) < 4]
    assert np.isnan(scores[short]).all()
    assert found.metrics["too_short"] == len(short)
    assert found.metrics["above_one"] == 40 - len(short) - finite.sum() > 0


def test_perplexity_draws_uniformly_from_a_band(tmp_path: Path) -> None:
    counts, model = np.zeros(40), tiny_qwen()
    losses = begun("perplexity", tmp_path, model).context.losses(model.eval(), range(40)).means
    low, high = np.quantile(np.exp(losses), (0.33, 0.66))
    inside = (np.exp(losses) > low) & (np.exp(losses) <= high)
    for seed in range(60):
        found = begun("perplexity", tmp_path, model, seed=seed, scores_dir=str(tmp_path)).select(model, 4, 4)
        counts[found.rows] += 1
    assert np.array_equal(np.isfinite(found.scores), inside)
    assert found.scores[inside] == pytest.approx(np.exp(losses)[inside])
    assert counts[~inside].sum() == 0
    expected = 240 / inside.sum()
    assert ((counts[inside] - expected) ** 2 / expected).sum() < 36.1  # chi-squared, 14 degrees: one in a thousand
    ends = {
        band: begun("perplexity", tmp_path, model, band=band).select(model, 4, 2).scores for band in ("low", "high")
    }
    assert np.nanmax(ends["low"]) <= low
    assert np.nanmin(ends["high"]) > high


def test_deita_multiplies_numbers_and_leaves_out_what_is_alike(tmp_path: Path) -> None:
    rows = rows_with_prompts()
    best = max(range(40), key=lambda row: rows[row]["complexity"] * rows[row]["quality"])
    copy = {**rows[best], "quality": rows[best]["quality"] * 0.999}
    rows[(best + 1) % 40] = copy
    found = begun("deita", tmp_path, tiny_qwen(), dataset=rows).select(tiny_qwen(), 4, 6)
    assert best in found.rows
    assert (best + 1) % 40 not in found.rows
    assert np.isnan(found.scores[(best + 1) % 40])
    assert found.scores[best] == pytest.approx(rows[best]["complexity"] * rows[best]["quality"])
    assert found.metrics["alike"] >= 1
    both = begun("deita", tmp_path, tiny_qwen(), dataset=rows, same_above=1.0).select(tiny_qwen(), 4, 2)
    assert set(both.rows) == {best, (best + 1) % 40}


def test_column_takes_the_highest_numbers_or_the_lowest(tmp_path: Path) -> None:
    numbers = np.array([row["quality"] for row in rows_with_prompts()])
    assert set(chosen(selector("column", tmp_path), 4, 5)) == set(np.argsort(-numbers)[:5])
    lowest = selector("column", tmp_path, direction="ascending").select(None, 4, 5)
    assert set(lowest.rows) == set(np.argsort(numbers)[:5])
    assert lowest.scores == pytest.approx(-numbers)
    by_length = selector("column", tmp_path, by="length").select(None, 4, 3)
    assert by_length.scores == pytest.approx([len(row["input_ids"]) for row in rows_with_prompts()])


def test_column_reads_a_raw_column_by_the_rows_marks(tmp_path: Path) -> None:
    raw = np.where(np.arange(40) % 3 == 0, np.nan, np.arange(40.0))
    asked: list[str] = []

    def columns(name: str) -> Any:
        asked.append(name)
        return raw

    found = selector("column", tmp_path, by="column:rated", columns=columns).select(None, 4, 3)
    assert asked == ["rated"]
    assert set(found.rows) == {38, 37, 35}
    assert found.metrics["without_score"] == 14
    with pytest.raises(ConfigError, match="column:rated is no column of the pool's rows"):
        selector("column", tmp_path, by="column:rated").select(None, 4, 3)
    with pytest.raises(ConfigError, match="loss is no number of a row; write length, file:PATH or column:NAME"):
        selector("column", tmp_path, by="loss").select(None, 4, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_later_boundary_chooses_others_until_none_is_left(name: str, tmp_path: Path) -> None:
    model = tiny_qwen()
    subject = begun(name, tmp_path, model)
    first, second = chosen(subject, 4, 5, model), chosen(subject, 8, 5, model)
    assert not set(first) & set(second)
    usual = begun(name, tmp_path, model, repeat_rows=True)
    again = chosen(usual, 4, 5, model)
    if name != "perplexity":
        assert set(again) == set(chosen(usual, 8, 5, model)) == set(first)
    scores = subject.select(model, 12, 1).scores
    assert scores is not None
    every = [chosen(subject, step, 5, model) for step in range(16, 30)]
    assert len({row for rows in every for row in rows}) <= np.isfinite(scores).sum()
    assert all(len(set(rows)) == 5 for rows in every)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_read_several_times_each_time_in_another_order(name: str, tmp_path: Path) -> None:
    found = chosen(begun(name, tmp_path, tiny_qwen(), passes=3), 4, 14)
    assert len(found) == 14
    assert set(found[:5]) == set(found[5:10])
    assert found[:5] != found[5:10]
    assert set(found[10:]) < set(found[:5])


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_selector_goes_on_exactly(name: str, tmp_path: Path) -> None:
    model = tiny_qwen()
    subject = begun(name, tmp_path, model)
    for step in range(4, 20, 2):
        chosen(subject, step, 4, model)
        state = subject.state_dict()
        with torch.no_grad():
            model.get_parameter("model.embed_tokens.weight")[7] += 0.5  # training goes on, and nothing is scored anew
        resumed = selector(name, tmp_path)
        resumed.load_state_dict(state)
        assert resumed.state_dict().keys() == state.keys()
        expected = subject.select(model, step + 1, 4)
        found = resumed.select(model, step + 1, 4)
        assert np.asarray(found.rows).tolist() == np.asarray(expected.rows).tolist()
        assert np.array_equal(found.scores, expected.scores, equal_nan=True)


@pytest.mark.parametrize("name", ["ifd", "perplexity"])
def test_scores_are_made_once_and_shared_between_runs(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    model, shared = tiny_qwen(), tmp_path / "shared"
    first = begun(name, tmp_path / "a", model, scores_dir=str(shared))
    made = first.select(model, 4, 4)
    (index,) = cached_indexes(tmp_path)
    assert (index.finished, index.rows, index.model) == (True, 40, "run")
    assert index.spec is not None and index.spec["score"] == name
    assert index.path.parent == shared
    monkeypatch.setattr(CLASSES[name][0], "measure", lambda *_: pytest.fail("scored again"))
    second = begun(name, tmp_path / "b", model, scores_dir=str(shared), seed=9)
    found = second.select(model, 4, 4)
    assert np.array_equal(found.scores, made.scores, equal_nan=True)
    assert found.metrics["score_seconds"] == 0
    assert found.metrics["index_seconds_saved"] == pytest.approx(index.seconds)
    assert "index_seconds_saved" not in second.select(model, 8, 4).metrics
    other = {"ifd": {"ratio": "ppl", "least_tokens": 2}, "perplexity": {"band": "high"}}[name]
    begun(name, tmp_path / "c", model, scores_dir=str(shared), **other).select(model, 4, 4)  # of the same losses


@pytest.mark.parametrize("name", ["ifd", "perplexity"])
@pytest.mark.parametrize("what", ["weight", "row", "header"])
def test_other_weights_rows_or_template_are_scored_anew(name: str, what: str, tmp_path: Path) -> None:
    model, rows, header = tiny_qwen(), rows_with_prompts(), (3, 4)
    begun(name, tmp_path, model, dataset=rows)
    if what == "weight":
        with torch.no_grad():
            model.get_parameter("model.norm.weight")[0] += 1e-3
    elif what == "row":
        rows[17]["input_ids"][0] += 1
    else:
        header = (3,)
    begun(name, tmp_path, model, dataset=rows, answer_header=header)
    assert len(cached_indexes(tmp_path)) == 2


@pytest.mark.parametrize("name", ["ifd", "perplexity"])
def test_scores_that_are_gone_or_damaged_are_told_or_made_again(name: str, tmp_path: Path) -> None:
    model = tiny_qwen()
    subject = begun(name, tmp_path, model)
    expected, state = subject.select(model, 4, 4).scores, subject.state_dict()
    (index,) = cached_indexes(tmp_path)
    (index.path / "rows.parquet").write_bytes(b"torn")
    anew = begun(name, tmp_path, model)
    assert np.array_equal(anew.select(model, 4, 4).scores, expected, equal_nan=True)
    for file in index.path.iterdir():
        file.unlink()
    resumed = selector(name, tmp_path)
    resumed.load_state_dict(state)
    with pytest.raises(ComponentError, match=r"are gone: .*row-scores-.*start anew; or set .*score_model"):
        resumed.select(model, 8, 4)


class Words:
    """Tokens as words: the run's tokenizer, as far as another model needs it."""

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        assert skip_special_tokens
        return " ".join(f"w{token}" for token in ids if token > 2)

    def get_vocab(self) -> dict[str, int]:
        return {f"w{token}": token for token in range(60)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_model(tmp_path_factory.mktemp("small"), hidden=16, layers=1)


def by_hand(small: Path, row: dict[str, Any]) -> tuple[float, float]:
    """Losses of a row's answer under the small model, from its text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer, words = AutoModelForCausalLM.from_pretrained(small), AutoTokenizer.from_pretrained(small), Words()
    start = row["labels"].count(-100)

    def encoded(ids: Any) -> list[int]:
        return list(tokenizer(words.decode(ids, skip_special_tokens=True), add_special_tokens=False)["input_ids"])

    prompt, answer = encoded(row["input_ids"][:start]), encoded(row["input_ids"][start:])

    def loss(before: list[int]) -> float:
        tokens = torch.tensor([[*before, *answer]])
        labels = torch.tensor([[-100] * len(before) + answer])
        with torch.no_grad():
            return float(model(input_ids=tokens, labels=labels).loss)

    return loss(prompt), loss(encoded([3, 4]))


def test_a_small_model_scores_the_text_of_prompt_and_answer(small: Path, tmp_path: Path) -> None:
    model, rows = tiny_qwen(), rows_with_prompts(12)
    facts: dict[str, Any] = {"dataset": rows, "tokenizer": Words(), "score_model": str(small)}
    scores = begun("ifd", tmp_path, model, **facts, least_tokens=1).select(model, 4, 1).scores
    within = begun("perplexity", tmp_path, model, **facts, quantiles=(0.0, 1.0)).select(model, 4, 1).scores
    for place, row in enumerate(rows):
        after, alone = by_hand(small, row)
        assert scores[place] == pytest.approx(after / alone if after <= alone else np.nan, abs=1e-4, nan_ok=True)
        if np.isfinite(within[place]):
            assert within[place] == pytest.approx(np.exp(after), rel=1e-4)
    assert {index.model for index in cached_indexes(tmp_path)} == {str(small)}
    assert begun("ifd", tmp_path, model, **facts).scoring_cost(model).rows == 12


def test_a_model_that_is_none_and_rows_it_cannot_read_are_told(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"component_params.score_model: no/model is neither a folder nor a model"):
        selector("ifd", tmp_path, score_model="no/model", tokenizer=Words()).select(tiny_qwen(), 4, 2)
    pictures = [{**row, "images": ["a.png"]} for row in rows_with_prompts(5)]
    with pytest.raises(ComponentError, match="scores text alone"):
        facts: dict[str, Any] = {"dataset": pictures, "score_model": str(small), "tokenizer": Words()}
        selector("perplexity", tmp_path, **facts).select(tiny_qwen(), 4, 2)
    with pytest.raises(ConfigError, match="these prompts hold pictures, films or sound"):
        selector("ifd", tmp_path, dataset=pictures).begin(tiny_qwen())
    with pytest.raises(ComponentError, match="no tokenizer"):
        selector("ifd", tmp_path, score_model=str(small)).select(tiny_qwen(), 4, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ifd", r"have a ratio above 1, \d+ fewer than least_tokens=4 answer tokens"),
        ("perplexity", r"lie outside band: medium, which quantiles widen"),
        ("deita", r"are more alike than same_above=0.3 to a better one"),
        ("column", r"0 have no number in column:quality"),
    ],
)
def test_too_few_rows_are_an_error_that_says_why(name: str, message: str, tmp_path: Path) -> None:
    subject = begun(name, tmp_path, tiny_qwen())
    with pytest.raises(ComponentError, match=rf"only \d+ of 40 rows can be chosen at step 4 and 41 .*{message}"):
        subject.select(tiny_qwen(), 4, 41)


def test_a_file_of_dataflex_score_is_read_and_one_of_another_pool_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    from dataflex.data.fingerprint import fingerprint

    numbers = np.arange(40.0)
    parquet.write_table(pyarrow.table({"row": np.arange(40), "score": numbers}), tmp_path / "scores.parquet")
    file = f"file:{tmp_path / 'scores.parquet'}"
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"pool_fingerprint": fingerprint(rows_with_prompts())}))
    assert set(chosen(selector("column", tmp_path, by=file), 4, 3)) == {39, 38, 37}
    products = begun("deita", tmp_path, tiny_qwen(), by=(file, "column:quality"), same_above=1.0).select(
        tiny_qwen(), 4, 1
    )
    assert products.scores[products.rows[0]] == np.max(numbers * [row["quality"] for row in rows_with_prompts()])
    summary.write_text(json.dumps({"pool_fingerprint": "another"}))
    with pytest.raises(ConfigError, match="scores of another pool"):
        selector("column", tmp_path, by=file).select(None, 4, 3)


def test_two_ranks_choose_what_one_does(tmp_path: Path, fresh_accelerate: None) -> None:
    run_on_two_ranks(select_on_a_rank, tmp_path)
    model = tiny_qwen()
    for name in NAMES:
        alone = begun(name, tmp_path / "alone" / name, model)
        for step in (4, 8):
            found = alone.select(model, step, 4)
            for rank in (0, 1):
                assert np.load(tmp_path / f"{name}-{step}-{rank}.npy").tolist() == list(found.rows)
                there = np.load(tmp_path / f"{name}-{step}-{rank}-scores.npy")
                assert there == pytest.approx(found.scores, abs=1e-5, nan_ok=True)
