"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from dataflex import ComponentSpec, Kind, Need, Problem, hookimpl
from dataflex.paths import user_path
from dataflex.run_checks import (
    fills_a_stage,
    names_targets,
    needs_adam,
    needs_single_answers,
    needs_whole_parameters,
    packed_by,
)
from dataflex.runs import RunFacts

TARGET = "dataflex_selectors_nice.selector:NiceSelector"
_OTHER_POLICY = (
    "answers are sampled from the model in training. Those of another model say nothing of the gradient of this one's "
    "reward: good or bad, they would be imitated. Leave it out."
)
_OF_REWARD_MODELS = "a reward is a function, exact_match or a classifier: see reward"


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``nice``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="nice",
            target=TARGET,
            params="dataflex_selectors_nice.params:NiceParams",
            api=1,
            summary="Prefer samples whose gradient points where the model's answers to the eval set earn more reward.",
            needs=frozenset({Need.EVAL_SET}),
            stochastic=True,
            gives_scores=True,
            paper="NICE: ICML 2025, OpenReview 2wt8m5HUBs",
            legacy={
                "save_interval": "finished scores are written every shard_seconds",
                "max_prompt_length": "prompts are as long as cutoff_len lets rows be",
                "reward_model_backend": _OF_REWARD_MODELS,
                "reward_backend_params": _OF_REWARD_MODELS,
            },
            refused={"policy_model_path": _OTHER_POLICY},
        )
    ]


@hookimpl
def dataflex_check_run(run: RunFacts) -> list[Problem]:
    """Refuse runs whose prompts, answers, rewards, gradients or moments would not be what is meant."""
    if run.component.kind is not Kind.SELECTOR or run.component.target != TARGET:
        return []
    found = [
        *needs_single_answers(run),
        *fills_a_stage(run),
        *names_targets(run, "nice"),
        *needs_whole_parameters(run),
        *_needs_prompts(run),
        *_needs_one_model(run),
        *_finds_the_reward(run),
    ]
    return found if run.params.get("preconditioner") == "sgd" else [*found, *needs_adam(run)]


def _needs_prompts(run: RunFacts) -> Iterator[Problem]:
    said = "nice samples answers to the eval set's prompts"
    if run.stage == "pt":
        yield Problem(
            f"{said}, and rows of stage: pt (from {run.origin('stage')}) have none.", "Use component_name: less."
        )
    elif run.arguments.get("train_on_prompt"):
        yield Problem(
            f"{said}, and under train_on_prompt (from {run.origin('train_on_prompt')}) labels do not tell them from "
            "answers.",
            "Unset train_on_prompt, or use component_name: less.",
        )
    elif packs := packed_by(run):
        yield Problem(f"{said}, and packed rows hold several: {packs}.", "Set packing: false, and unset neat_packing.")


def _needs_one_model(run: RunFacts) -> Iterator[Problem]:
    if run.arguments.get("fsdp"):
        yield Problem(
            f"nice samples answers of different lengths on each rank, and under fsdp (from {run.origin('fsdp')}) every "
            "token is an exchange between ranks.",
            "Use DDP or ZeRO-2.",
        )


def _finds_the_reward(run: RunFacts) -> Iterator[Problem]:
    reward = str(run.params.get("reward", ""))
    module, colon, function = reward.partition(":")
    said = f"component_params.reward: {reward} (from {run.origin('component_params.reward')})"
    if colon and function.isidentifier():
        try:
            known = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            known = False
        if not known:
            yield Problem(
                f"{said} names a module that cannot be found.",
                "Write module:function of an installed module, or put its folder on PYTHONPATH.",
            )
    elif reward.startswith(("/", "./", "../", "~")) and not user_path(reward).is_dir():
        yield Problem(f"{said} does not exist.", "Name the folder of a classifier, module:function or exact_match.")
