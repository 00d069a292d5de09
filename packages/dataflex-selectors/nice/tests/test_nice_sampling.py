from __future__ import annotations

from typing import Any

import numpy as np
import torch
from embedded_pools import tiny_qwen
from nice_cases import ToyPolicy

from dataflex_selectors_nice.aiming import split
from dataflex_selectors_nice.sampling import Sampling, choose, sample

CPU = torch.device("cpu")
PROMPTS = [[3, 4, 5], [7], [9, 1, 2], [4, 4]]


def streams(count: int = 4) -> list[Any]:
    return [np.random.default_rng([5, place]) for place in range(count)]


def answered(model: Any, prompts: list[list[int]] = PROMPTS, **how: Any) -> list[list[list[int]]]:
    settings = Sampling(**{"count": 3, "most": 5, "stop": frozenset(range(40, 60)), **how})
    return sample(model, prompts, streams(len(prompts)), settings, device=CPU)


def test_tokens_are_drawn_with_the_models_probabilities() -> None:
    numbers = (torch.arange(1000).double() + 0.5) / 1000
    logits = torch.tensor([[0.5, 0.3, 0.0, 0.2]]).log().expand(1000, 4)
    counts = torch.bincount(choose(logits, numbers, 1.0, 1.0), minlength=4)
    assert counts.tolist() == [500, 300, 0, 200]
    sharper = torch.tensor([0.25, 0.09, 0, 0.04]) / 0.38  # at temperature 1/2 the squares
    counts = torch.bincount(choose(logits, numbers, 0.5, 1.0), minlength=4)
    assert (counts - 1000 * sharper).abs().max() <= 1
    assert torch.bincount(choose(logits, numbers, 1.0, 0.7), minlength=4).tolist() == [625, 375, 0, 0]
    assert torch.bincount(choose(logits, numbers, 1.0, 0.1), minlength=4).tolist() == [1000, 0, 0, 0]


def test_each_token_follows_from_the_whole_text_before_it() -> None:
    model = tiny_qwen().double()
    found, drawn = answered(model), [stream.random((3, 5)) for stream in streams()]
    for prompt, answers, numbers in zip(PROMPTS, found, drawn, strict=True):
        for answer, own in zip(answers, numbers, strict=True):
            text = list(prompt)
            for token, number in zip(answer, own, strict=False):
                logits = model.eval()(torch.tensor([text])).logits[:, -1]
                assert choose(logits, torch.tensor([number]), 1.0, 1.0).item() == token
                text.append(token)
            assert len(answer) == 5 or answer[-1] >= 40  # as long as may be, or ended
            assert all(token < 40 for token in answer[:-1])


def test_neither_the_batch_nor_the_rank_has_a_part_in_an_answer() -> None:
    model = tiny_qwen().double()
    together = answered(model)
    assert answered(model, token_budget=1) == together
    for place, prompt in enumerate(PROMPTS):
        settings = Sampling(3, 5, stop=frozenset(range(40, 60)))
        assert sample(model, [prompt], [streams()[place]], settings, device=CPU) == [together[place]]
    assert len({tuple(answer) for answers in together for answer in answers}) > 8


def test_sampling_leaves_the_model_and_the_generators_as_they_were() -> None:
    model = tiny_qwen()
    model.model.layers[0].eval()
    modes, before = [module.training for module in model.modules()], torch.get_rng_state()
    weights = [parameter.clone() for parameter in model.parameters()]
    answered(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


def test_a_model_without_a_cache_answers_too() -> None:
    found = sample(ToyPolicy(), [[1]], streams(1), Sampling(600, 1), device=CPU)
    counts = np.bincount([token for (token,) in found[0]], minlength=3)
    assert np.abs(counts - 200).max() < 60


def test_the_prompt_ends_where_the_last_span_of_targets_begins() -> None:
    row = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, 2, -100, 4, 5, -100]}
    assert split(row) == ([1, 2, 3], [4, 5])
    assert split({"input_ids": [1, 2], "labels": [-100, -100]}) == ([1, 2], [])
    assert split({"input_ids": [1, 2], "labels": [1, 2]}) == ([], [1, 2])
