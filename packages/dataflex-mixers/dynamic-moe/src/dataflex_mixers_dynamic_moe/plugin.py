"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.paths import user_path
from dataflex.runs import RunFacts

TARGET = "dataflex_mixers_dynamic_moe.mixer:DynamicMoeMixer"
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names that configurations give the number of experts."""


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``dynamic_moe``."""
    eval_pass = "Rows are taken from the domains themselves; max_samples says how many."
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="dynamic_moe",
            target=TARGET,
            params="dataflex_mixers_dynamic_moe.params:DynamicMoeParams",
            api=1,
            summary="More of the domains whose tokens a mixture of experts routes unlike the others'.",
            needs=frozenset({Need.DOMAINS, Need.ROUTER_LOGITS}),
            paper="Zhu et al. 2025, arXiv 2406.11256",
            legacy={
                "collect_steps": "Loads are counted at each boundary.",
                "eval_samples": eval_pass,
                "eval_batch_size": "Batches follow token_budget.",
            },
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Look for experts in the model's configuration, where it lies in a folder."""
    return list(_problems(run)) if run.component.target == TARGET else []


def _problems(run: RunFacts) -> Iterator[Problem]:
    given = run.arguments.get("model_name_or_path")
    path = user_path(str(given)) / "config.json"
    if not given or not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # the run will say
        return
    text = config.get("text_config") or {}
    if not any(found.get(name) for found in (config, text) for name in EXPERTS):
        yield Problem(
            f"mixer 'dynamic_moe' counts the tokens that experts are sent, and model_name_or_path: {given} (from "
            f"{run.origin('model_name_or_path')}) has none.",
            "Use a mixture of experts, or another mixer.",
        )
