"""Looking ahead over a step leaves no trace in the model."""

from __future__ import annotations

import torch
from doubles import OneRank, SecondRank

from dataflex.math.losses import SampleLosses
from dataflex.trainers.losses.step_samples import AheadOfStep, samples_of_all_ranks


class Stretching(torch.nn.Module):
    """Replaces a buffer, moves another and counts, as RoPE of growing length and batch normalisation do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.BatchNorm1d(2)
        self.register_buffer("frequencies", torch.ones(3), persistent=False)
        self.longest = 0

    def forward(self, values: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        assert labels is None and not torch.is_grad_enabled()
        self.longest = max(self.longest, len(values))
        self.seen_first = 1
        self.register_buffer("frequencies", torch.full((3,), float(self.longest)), persistent=False)
        return torch.nn.functional.dropout(self.layer(values), 0.5)


def test_buffers_numbers_and_random_state_are_as_they_were() -> None:
    model = Stretching().train()
    accelerator = OneRank()
    losses = lambda model, outputs, inputs: SampleLosses(outputs.sum(dim=1), inputs["labels"])  # noqa: E731
    ahead = AheadOfStep(accelerator, losses)
    batches = [{"values": torch.randn(rows, 2), "labels": torch.ones(rows)} for rows in (2, 4)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    ahead.begin(batches)
    assert ahead.looks_ahead
    parts = ahead.look_ahead(model, lambda batch: batch)
    assert torch.equal(state, torch.get_rng_state())
    assert [len(units.sums_B) for units, _ in parts] == [2, 4]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.longest == 0 and not hasattr(model, "seen_first") and model.frequencies.tolist() == [1, 1, 1]
    again = ahead.look_ahead(model, lambda batch: batch)
    assert all(torch.equal(one.sums_B, two.sums_B) for (one, _), (two, _) in zip(parts, again, strict=True))


def test_samples_of_ranks_with_unequal_numbers_are_joined_without_padding() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    other = torch.tensor([[9.0, 0.0], [5.0, -1.0]])  # one sample and padding
    assert samples_of_all_ranks(table, SecondRank(other)).tolist() == [[1, 2, 9], [3, 4, 5]]
