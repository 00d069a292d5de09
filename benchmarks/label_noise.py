"""How the strategies of the weighter ``loss`` fare with and without label noise: a toy that takes a minute.

A next-token table is learnt from sequences of a Markov chain. In a noisy pool, a quarter of the sequences are drawn at
random instead. What counts is how far the learnt table is from the true chain, on clean data: cross entropy above the
chain's own entropy, in nats per token. The loop is that of a training step with DataFlex, without a Trainer around it.
"""

from __future__ import annotations

import statistics

import figures
import torch
from torch.nn import functional

from dataflex.components.context import RunContext
from dataflex.components.weight_context import WeightContext, WeightedStep
from dataflex.math.losses import sample_losses
from dataflex.math.weighting import token_mean_weight, weighted_loss
from dataflex.math.window import StepWindow
from dataflex_weighters_loss.params import LossWeighterParams, Strategy
from dataflex_weighters_loss.weighter import LossWeighter

WORDS, LENGTH, POOL, BATCH, STEPS, WARMUP = 24, 17, 512, 32, 400, 50
STRATEGIES: dict[str, LossWeighterParams] = {
    "uniform": LossWeighterParams(strategy=Strategy.UNIFORM),
    "linupper": LossWeighterParams(strategy=Strategy.LINUPPER),
    "quadratic": LossWeighterParams(strategy=Strategy.QUADRATIC),
    "extremes": LossWeighterParams(strategy=Strategy.EXTREMES),
    "tilted, t=-1": LossWeighterParams(strategy=Strategy.TILTED, t=-1.0),
    "tilted, t=-4": LossWeighterParams(strategy=Strategy.TILTED, t=-4.0),
    "tilted, t=1": LossWeighterParams(strategy=Strategy.TILTED, t=1.0),
    "cvar, 0.7": LossWeighterParams(strategy=Strategy.CVAR),
    "trim, 0.7": LossWeighterParams(strategy=Strategy.TRIM),
    "focal": LossWeighterParams(strategy=Strategy.FOCAL),
}


def chain(draw: torch.Generator) -> torch.Tensor:
    """Transition probabilities of a peaked Markov chain, shape [WORDS, WORDS]."""
    return torch.softmax(2 * torch.randn(WORDS, WORDS, generator=draw), dim=1)


def sequences(transitions: torch.Tensor, noise: float, draw: torch.Generator) -> torch.Tensor:
    """A pool of sequences, a share ``noise`` of them random; shape [POOL, LENGTH]."""
    steps = [torch.randint(WORDS, (POOL,), generator=draw)]
    for _ in range(LENGTH - 1):
        steps.append(torch.multinomial(transitions[steps[-1]], 1, generator=draw).squeeze(1))
    clean = torch.stack(steps, dim=1)
    noisy = torch.randint(WORDS, clean.shape, generator=draw)
    return torch.where(torch.rand(POOL, 1, generator=draw) < noise, noisy, clean)


def excess_loss(params: LossWeighterParams, noise: float, seed: int) -> float:
    """Train a table and return its cross entropy on the true chain, above the chain's entropy."""
    draw = torch.Generator().manual_seed(seed)
    transitions = chain(draw)
    pool = sequences(transitions, noise, draw)
    table = torch.zeros(WORDS, WORDS, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.05)
    weighter = LossWeighter(params, RunContext(dataset=pool, data_collator=torch.stack))
    window, normaliser = StepWindow(params.window, columns=2), 1.0
    for step in range(STEPS):
        batch = pool[torch.randint(POOL, (BATCH,), generator=draw)]
        losses = sample_losses(table[batch], batch)
        means, tokens = losses.means.detach(), losses.counts_B
        context = WeightContext(step=step, tokens_B=tokens, model=table, inputs={})
        weighs = step >= WARMUP
        weights = weighter.weights(means, context) if weighs else torch.ones_like(means)
        optimizer.zero_grad()
        weighted_loss(losses.sums_B, weights, normaliser, tokens.sum()).backward()
        optimizer.step()
        if weighs:
            numbers = [value.double().numpy() for value in (means, tokens, weights / normaliser)]
            window.add_step(torch.stack([weights, tokens], dim=1).double().numpy())
            normaliser = token_mean_weight(*window.values.T)
            weighter.on_step(WeightedStep(step=step + 1, losses=numbers[0], tokens=numbers[1], weights=numbers[2]))
    true = -(transitions * functional.log_softmax(table.detach(), dim=1)).sum(dim=1).mean()
    entropy = -(transitions * transitions.log()).sum(dim=1).mean()
    return float(true - entropy)


def main() -> None:
    """Train each strategy on both pools and print the table of docs/weighting.md."""
    parser = figures.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each cell; the table shows their means")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    print("| strategy | no noise | 25% noisy sequences |\n|---|---|---|")
    for name, params in STRATEGIES.items():
        cells = [[excess_loss(params, noise, seed) for seed in range(options.seeds)] for noise in (0.0, 0.25)]
        shown = " | ".join(f"{statistics.mean(cell):.3f} ± {statistics.stdev(cell):.3f}" for cell in cells)
        print(f"| `{name}` | {shown} |", flush=True)
        found[name] = {"clean": cells[0], "noisy": cells[1]}
    if options.write:
        figures.keep("label_noise", {}, excess_loss=found)


if __name__ == "__main__":
    main()
