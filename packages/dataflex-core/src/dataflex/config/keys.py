"""The keys DataFlex adds to a run file, and those of a ``components.yaml``: what the reference is made from."""

from __future__ import annotations

from dataclasses import dataclass

from dataflex.kinds import KINDS, Kind, StepKeys, TrainType, enumerated, in_turn, train_types

_ALL = frozenset(TrainType)
_DYNAMIC = train_types(StepKeys.BOUNDARIES, StepKeys.EVERY_STEP, StepKeys.PASSES)
_OF_ONE = _DYNAMIC - {TrainType.COMPOSED}
_STAGED = train_types(StepKeys.BOUNDARIES, StepKeys.ONE_STAGE, StepKeys.PASSES)
_MIXING = train_types(mixes=True)
_KINDS = in_turn(Kind)
_KEEPING = [kind for kind in Kind if KINDS[kind].keeps]
_AT_BOUNDARIES = [kind for kind in _KINDS if set(KINDS[kind].train_types.values()) != {StepKeys.EVERY_STEP}]
_ONE_STAGE, _PASSES = (enumerated(sorted(train_types(keys)), "and") for keys in (StepKeys.ONE_STAGE, StepKeys.PASSES))
_WITHOUT_WARMUP = enumerated(sorted(train_types(StepKeys.EVERY_STEP, StepKeys.ONE_STAGE, StepKeys.PASSES)), "and")
REQUIRED = "required"

COMPONENTS = "components"
"""The key that holds the components of ``train_type: dynamic``."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key.

    Attributes:
        name: As it is written.
        type: What its value is, in words.
        default: What holds when it is left out; :data:`REQUIRED` if it may not be.
        help: One sentence.
        used_by: The train types that read it.
    """

    name: str
    type: str
    default: str
    help: str
    used_by: frozenset[TrainType] = _ALL


RUN_KEYS = (
    Key(
        name="train_type",
        type=" | ".join(TrainType),
        default=TrainType.STATIC,
        help="Which trainer runs; static is LlamaFactory itself.",
    ),
    Key(
        name="component_name",
        type="str",
        default=REQUIRED,
        help="The component that decides: its name, DIST/NAME, or a preset of components_cfg_file.",
        used_by=_OF_ONE,
    ),
    Key(
        name="components",
        type=f"mapping of {' | '.join(_KINDS)}",
        default=REQUIRED,
        help="The components that decide together: at most one of a kind, each a name or a mapping.",
        used_by=frozenset({TrainType.COMPOSED}),
    ),
    Key(
        name="components_cfg_file",
        type="path",
        default="none",
        help="Your file of presets.",
        used_by=_DYNAMIC,
    ),
    Key(
        name="component_params",
        type="mapping",
        default="none",
        help="Parameters of the component, by name.",
        used_by=_OF_ONE,
    ),
    Key(
        name="component_timeout",
        type="float > 0",
        default="none",
        help="Most seconds a call of the component may take; then the run ends as if the component had failed.",
        used_by=_DYNAMIC,
    ),
    Key(
        name="plugins",
        type="list of FILE | no:DIST",
        default="none",
        help="Files with components, and installed plugins to switch off: what -p takes.",
        used_by=_ALL - {TrainType.STATIC},
    ),
    Key(
        name="warmup_step",
        type="int >= 0",
        default=f"required; 0 under {_WITHOUT_WARMUP}",
        help="Optimizer steps before the first boundary, or before samples are weighted.",
        used_by=_ALL - {TrainType.STATIC},
    ),
    Key(
        name="update_step",
        type="int >= 1",
        default=f"required; none under {_ONE_STAGE}; under {_PASSES} required by `by: loss`, else without effect",
        help="Optimizer steps from one boundary to the next.",
        used_by=_STAGED,
    ),
    Key(
        name="update_times",
        type="int >= 1 | -1",
        default=f"required, unless train_step is given; none under {_ONE_STAGE}; -1 under {_PASSES}",
        help="Number of boundaries; -1: as many as num_train_epochs holds (dynamic_order: as the run holds).",
        used_by=_STAGED,
    ),
    Key(
        name="train_step",
        type="int >= 0",
        default="0: not given",
        help="Total optimizer steps, in place of the sum of the other step keys.",
        used_by=_ALL - {TrainType.STATIC},
    ),
    Key(
        name="mixture_sample_rule",
        type="mixture | stratified | uniform | temperature | unimax",
        default="mixture",
        help="Where the proportions of the domains come from; all but mixture belong to static_mix.",
        used_by=_MIXING,
    ),
    Key(
        name="init_mixture_proportions",
        type="list of float | mapping of float | from:PATH",
        default="required by the rule mixture",
        help="First proportions: in the order of dataset, by name, or from the weights.json of a DoReMi run.",
        used_by=_MIXING,
    ),
    Key(
        name="mixture_unit",
        type="samples | tokens",
        default="tokens under stage: pt, else samples",
        help="What the proportions are shares of.",
        used_by=_MIXING,
    ),
    Key(
        name="mixture_temperature",
        type="float > 0",
        default="1",
        help="tau of the rule temperature: proportions are size^(1/tau).",
        used_by=_MIXING,
    ),
    Key(
        name="mixture_max_epochs",
        type="float > 0 | mapping of float > 0",
        default="none",
        help="How often a domain may be read: for all, or by name.",
        used_by=_MIXING,
    ),
    Key(
        name="mixture_on_exhausted",
        type="redistribute | stop",
        default="redistribute",
        help="What happens when a domain is due that has been read mixture_max_epochs times.",
        used_by=_MIXING,
    ),
)
"""Keys of a run file that DataFlex reads and LlamaFactory never sees."""

COMPONENT_KEYS = (
    Key(
        name="name",
        type="str",
        default=REQUIRED,
        help="The component: its name, DIST/NAME, or a preset of components_cfg_file.",
    ),
    Key(
        name="params",
        type="mapping",
        default="none",
        help="Its parameters, by name.",
    ),
    Key(
        name="every",
        type="int >= 1",
        default="1",
        help=f"Asked at the first boundary and every nth after it. Of {enumerated(_AT_BOUNDARIES, 'and')}.",
    ),
    Key(
        name="keep",
        type="stage | float in (0, 1]",
        default="stage",
        help="How many rows it chooses: as many as are trained on until it is asked again, or this share of each "
        f"domain, read in passes. Of {enumerated(_KEEPING, 'and')}.",
    ),
)
"""Keys of one component under ``components``."""

PRESET_KEYS = (
    Key(
        name="name",
        type="str",
        default="the key above it",
        help="The component the preset stands for.",
    ),
    Key(
        name="params",
        type="mapping",
        default="none",
        help="Its parameters, by name.",
    ),
)
"""Keys of one preset of a ``components.yaml``; presets stand under the plural of their kind."""
