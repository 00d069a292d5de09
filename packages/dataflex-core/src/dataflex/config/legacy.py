"""Names of PyPI dataflex 1.x that mean something else here, or nothing: what messages say of them.

``docs/from_dataflex_1x.md`` is checked against these tables. Compared with version 1.1.0. A name that is no longer
foreign, because a package provides it, needs no change here: what is installed is found first.
"""

from __future__ import annotations

from collections.abc import Mapping

from dataflex.spec import Kind

RIVAL = "dataflex 1.x"
PAGE = "docs/from_dataflex_1x.md"

STATIC_MIX = "static_mix"
"""A key there, a train type here."""

TRAIN_TYPES: Mapping[str, str] = {
    "dynamic_lego": "Write train_type: dynamic, and what its pipeline names under components, at most one of a kind: "
    "see docs/composing.md.",
}
"""Train types of 1.x, and what to do about each."""

KEYS: Mapping[str, str] = {
    STATIC_MIX: "Write train_type: static_mix in its place, and leave component_name out.",
    "mixer_eval_dataset": "Leave it out: a mixer here reads eval_dataset.",
    "freeze_gate": "Leave it out: there is no key here that freezes the gates of a mixture of experts.",
    "early_stopping_min_delta": "Leave it out: early stopping counts every gain of metric_for_best_model.",
}
"""Keys of 1.x that are unknown here."""

PARAMETERS = frozenset(
    {
        *("gradient_type", "save_interval", "score_batch_size", "score_num_workers", "proj_dim", "delta"),
        *("reference_model_path", "reweight_eta", "reweight_eps"),
    }
)
"""Parameters of 1.x: ignored with a warning by a component that does not have them.

One that means the same as a parameter of ours is an alias of it instead (``param(aliases=...)``), as ``gradient_type``
is in the selector ``less``.
"""

COMPONENTS: Mapping[Kind, Mapping[str, str]] = {
    Kind.SELECTOR: dict.fromkeys(("nice", "icons", "cluster_less", "coincide", "delta_loss", "tsds", "near"), "")
    | {"custom": "custom"},
    Kind.MIXER: {
        "static": "Write train_type: static_mix and leave component_name out; its parameter proportions is "
        "init_mixture_proportions.",
        "odm": "",
    },
    Kind.WEIGHTER: {"joint_update_aware": "", "custom": "custom"},
}
"""Components of 1.x that core and its packages do not provide; ``""`` where there is no like."""

_OWN = {
    "": "A class you have of it can be brought along: -p ./file.py.",
    "custom": "It was the example to put your own class in: give its file with -p ./file.py.",
}


def train_type(name: str) -> str:
    """A sentence about a train type of 1.x, with a blank in front; ``""`` for any other name."""
    advice = TRAIN_TYPES.get(name)
    return "" if advice is None else f" It is a train type of {RIVAL}. {advice}"


def key(name: str, value: object = None) -> str:
    """A sentence about a key of 1.x with its value, with a blank in front; ``""`` for any other name."""
    advice = "Leave it out: train_type says it." if (name, value) == (STATIC_MIX, False) else KEYS.get(name)
    return "" if advice is None else f" It is a key of {RIVAL}. {advice}"


def component(kind: Kind, name: str) -> str:
    """A sentence about a component of 1.x, with a blank in front; ``""`` for any other name."""
    advice = COMPONENTS.get(kind, {}).get(name)
    if advice is None:
        return ""
    return (
        f" It is {kind.with_article} of {RIVAL} that does not come with DataFlex ({PAGE}). {_OWN.get(advice, advice)}"
    )
