"""What labels cost: a training step whose backward also gives each row's inner product with a direction.

One process, a random Qwen2, batches of 8 rows of 128 tokens. Two loops take turns step by step, over the same batches
and from the same weights: a stock step (forward, Hugging Face's own loss, backward, AdamW), and the same with labels.
CPU seconds; each ratio is of the sums over one run. Set OMP_NUM_THREADS=1.

    adapters    LoRA r=8 on all linear layers: the stock product is kept and the per-row one made besides
    full        all parameters: the weights' gradients are the sums of the per-row ones
    exact       all parameters, exact_gradients: true: both products are made
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import figures

VOCABULARY, ROWS, TOKENS, WARM = 1000, 8, 128, 2


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        hidden: Width of the model.
        layers: Its layers.
        lora: Whether adapters are trained.
        summed: Whether weights' gradients are the sums of the per-row ones.
    """

    hidden: int
    layers: int
    lora: bool
    summed: bool = False


CASES: Mapping[str, Case] = {
    "adapters 256x6": Case(256, 6, lora=True),
    "adapters 1024x4": Case(1024, 4, lora=True),
    "full 256x6": Case(256, 6, lora=False, summed=True),
    "exact 256x6": Case(256, 6, lora=False),
}


def model_of(case: Case) -> Any:
    """A random Qwen2, with or without adapters."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=case.hidden,
        intermediate_size=2 * case.hidden,
        num_hidden_layers=case.layers,
        num_attention_heads=case.hidden // 64,
        num_key_value_heads=case.hidden // 64,
        tie_word_embeddings=True,
    )
    model: Any = Qwen2ForCausalLM(config)
    if case.lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"))
    return model.train()


class Loop:
    """Trains one copy of the model, with labels or without."""

    def __init__(self, case: Case, *, labelled: bool) -> None:
        import torch

        from dataflex.gradients.coverage import Scope, cover
        from dataflex.gradients.in_training import TrainingRecorder

        self.model = model_of(case)
        self.optimizer = torch.optim.AdamW([value for value in self.model.parameters() if value.requires_grad], lr=1e-4)
        self.recorder: TrainingRecorder | None = None
        if labelled:
            coverage = cover(self.model, Scope.LINEAR)
            directions = {name: torch.randn(1, value.numel()) for name, value in coverage.parameters.items()}
            self.recorder = TrainingRecorder(coverage, directions, summed=case.summed)

    def step(self, batch: Mapping[str, Any]) -> float:
        """CPU seconds of one optimizer step."""
        began = time.process_time()
        if self.recorder is None:
            self.model(**batch).loss.backward()
        else:
            with self.recorder.micro_batch(ROWS):
                self.model(**batch).loss.backward()
            self.recorder.labels()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - began


def ratio(case: Case, steps: int) -> float:
    """CPU seconds of a step with labels, as a share of a stock one, over so many of each."""
    import torch

    loops = [Loop(case, labelled=False), Loop(case, labelled=True)]
    generator, spent = torch.Generator().manual_seed(1), [0.0, 0.0]
    for number in range(WARM + steps):
        tokens = torch.randint(1, VOCABULARY, (ROWS, TOKENS), generator=generator)
        batch = {"input_ids": tokens, "labels": tokens}
        for which in (0, 1)[:: 1 if number % 2 else -1]:
            seconds = loops[which].step(batch)
            spent[which] += seconds if number >= WARM else 0.0
    return spent[1] / spent[0]


def main() -> None:
    """Measure, print tables and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--steps", type=int, default=24, help="of each loop in a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=CASES, help="measure this case alone; nothing is written")
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(CASES)
    found = {
        f"step with labels over stock, {name}": figures.figure(
            [ratio(CASES[name], options.steps) for _ in range(options.runs)]
        )
        for name in chosen
    }
    figures.show(found)
    if options.write and not options.only:
        figures.keep("labels", found, steps=options.steps, rows=ROWS, tokens=TOKENS)


if __name__ == "__main__":
    main()
