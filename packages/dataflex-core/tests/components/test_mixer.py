"""The Mixer base class serves native classes and those in the design note's style, and shows a moving mixture."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dataflex import Mixer, Selector, Weighter, register_mixer
from dataflex.components.build import build_component
from dataflex.components.context import RunContext
from dataflex.components.mix_context import DomainLosses, MixContext, MixtureManager, MixtureView, StepStats
from dataflex.errors import ComponentError


def view() -> MixtureView:
    return MixtureView(["web", "code"], [30, 10], [0.7, 0.3], tokens=[900, 500])


def context(**more) -> MixContext:
    more.setdefault("mixture", view())
    return MixContext(dataset=range(40), data_collator=list, seed=7, **more)


def build(cls, values=None, run_values=None, params=None, **more):
    return build_component(cls, params, values or {}, run_values or {}, context(**more))


class Native(Mixer):
    def mix(self, model, step_id, **kwargs):
        return np.asarray(self.context.domain_sizes) / sum(self.context.domain_sizes)


@register_mixer("random")
class NoteMixer(Mixer):
    """The design note's RandomMixer."""

    def __init__(self, mixture_manager, seed):
        super().__init__(mixture_manager)
        self.seed = seed

    def mix(self, model, step_id: int, **kwargs) -> np.ndarray:
        k = len(self.mixture_manager.names)
        np.random.seed(self.seed)
        raw = np.random.random(k)
        return raw / raw.sum()


class Unrelated:
    def __init__(self, mixture_manager, tokenizer=None):
        self.given = (mixture_manager.names, tokenizer)


def test_a_native_class_gets_params_and_context():
    native = build(Native, params="the params")
    assert native.params == "the params" and native.context.seed == 7
    assert native.mix(None, 5).tolist() == [0.75, 0.25]
    assert native.mixture_manager.names == ["web", "code"]


def test_the_mixer_of_the_design_note_runs_unchanged():
    mixer = build(NoteMixer, {"seed": 42})
    assert mixer.params is None and mixer.context is None
    shares = mixer.mix(None, 5)
    assert shares.shape == (2,) and shares.sum() == pytest.approx(1)
    assert build(NoteMixer).seed == 7  # the run's own unless the user gives one


def test_a_class_without_our_base_gets_what_it_names():
    assert build(Unrelated).given == (["web", "code"], None)


def test_the_mixture_manager_is_only_offered_where_there_is_a_mixture():
    class Any:
        def __init__(self, **kwargs):
            self.given = kwargs

    assert isinstance(build(Any).given["mixture_manager"], MixtureManager)
    run = RunContext(dataset=range(10), data_collator=list)
    assert "mixture_manager" not in build_component(Any, None, {}, {}, run).given


@pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, 3)])
def test_wrong_arguments_to_the_base_are_refused(arguments):
    with pytest.raises(TypeError, match=r"Mixer takes \(params, context\) or \(mixture_manager\)"):
        Mixer(*arguments)


def test_a_mixer_sees_the_mixture_move_through_its_context():
    mixer, note = build(Native, mixture=(shown := view())), NoteMixer(MixtureManager(shown), 1)
    assert mixer.context.proportions.tolist() == [0.7, 0.3] and mixer.context.step == 0
    losses = DomainLosses(np.array([6.0, 0.0]), np.array([3, 0]), np.array([1, 0]))
    shown.update(step=20, proportions=[0.5, 0.5], losses=losses)
    assert mixer.context.step == 20
    assert mixer.context.proportions.tolist() == note.mixture_manager.proportions.tolist() == [0.5, 0.5]
    assert mixer.context.losses.mean()[0] == 2.0
    shown.update(step=21)
    assert mixer.context.proportions.tolist() == [0.5, 0.5]  # what is left out stays


def test_the_user_seed_keeps_the_live_mixture():
    mixer = build(Native, run_values={"seed": 11}, mixture=(shown := view()))
    shown.update(proportions=[0.1, 0.9])
    assert mixer.context.seed == 11 and mixer.context.proportions.tolist() == [0.1, 0.9]


def test_a_mixer_cannot_change_what_it_is_shown():
    mixer = build(Native)
    for shown in (mixer.context.proportions, mixer.context.domain_sizes, mixer.mixture_manager.proportions):
        with pytest.raises(ValueError, match="read-only"):
            shown[0] = 1
    with pytest.raises(AttributeError):
        mixer.context.proportions = np.ones(2)
    mixer.mixture_manager.names.append("mine")
    assert mixer.mixture_manager.names == ["web", "code"]


def test_the_context_names_domains_sizes_and_tokens():
    run = context()
    assert run.domain_names == ("web", "code")
    assert run.domain_sizes.tolist() == [30, 10] and run.domain_tokens.tolist() == [900, 500]
    assert MixtureView(["a"], [1], [1.0]).tokens is None
    assert build(Native).mixture_manager.sizes == [30, 10]


def test_losses_of_an_absent_domain_are_nan_and_sums_add_up():
    step = DomainLosses(np.array([6.0, 0.0]), np.array([4, 0]), np.array([2, 0]))
    total = DomainLosses.zeros(2) + step + step
    assert total.mean()[0] == 1.5 and np.isnan(total.mean()[1])
    assert total.tokens.tolist() == [8, 0] and total.samples.tolist() == [4, 0]


def test_a_domain_is_evaluated_when_asked_for_and_not_before():
    asked = []
    run = context(evaluator=lambda domain, most, rows: asked.append((domain, most, rows)) or 2.5)
    assert asked == []
    assert run.evaluate("code", 8) == 2.5 and run.evaluate("web") == 2.5 and run.evaluate("web", 8, rows="fixed") == 2.5
    assert asked == [("code", 8, "step"), ("web", None, "step"), ("web", 8, "fixed")]
    with pytest.raises(ComponentError, match="no domain 'books' to evaluate; there are web, code"):
        run.evaluate("books")


def test_a_run_that_cannot_evaluate_says_so():
    with pytest.raises(ComponentError, match="loss of domain 'web' was asked for"):
        context().evaluate("web")


def test_fixed_rows_are_the_domains_own_and_the_same_each_time():
    run = context(mixture=MixtureView(["web", "code"], [5, 3], [0.5, 0.5]))
    assert run.fixed_rows("web").tolist() == [0, 1, 2, 3, 4] and run.fixed_rows("code", 9).tolist() == [5, 6, 7]
    some = run.fixed_rows("web", 3).tolist()
    assert some == sorted(set(some)) and len(some) == 3 and max(some) < 5
    turned = context(mixture=MixtureView(["code", "web"], [3, 5], [0.5, 0.5]))
    assert turned.fixed_rows("web", 3).tolist() == [row + 3 for row in some]
    with pytest.raises(ComponentError, match="no domain 'books'"):
        run.fixed_rows("books")


def test_a_domains_generator_depends_on_seed_step_and_name_alone():
    run, other = context(), context(mixture=MixtureView(["code", "books", "web"], [1, 1, 1], [0, 0, 1]))
    assert run.domain_rng(3, "web").random() == other.domain_rng(3, "web").random()
    draws = {run.domain_rng(step, name).random() for step in (3, 4) for name in ("web", "code")}
    assert len(draws) == 4


def test_by_default_a_mixer_ignores_steps_and_leaves_the_loss_alone():
    mixer = build(Native)
    assert mixer.on_step(StepStats(1, DomainLosses.zeros(2), np.zeros(2))) is None
    assert mixer.objective_weights(np.ones(2, np.int64)) is None
    assert mixer.metrics() == {} and mixer.finished(1) is None
    with pytest.raises(NotImplementedError, match=r"Mixer must define mix\(\)"):
        build(Mixer).mix(None, 1)


@pytest.mark.parametrize("base", [Selector, Mixer, Weighter])
def test_a_component_without_state_needs_no_code(base):
    component = base.__new__(base)
    assert component.state_dict() == {}
    component.load_state_dict({})


@pytest.mark.parametrize("base", [Selector, Mixer, Weighter])
def test_a_state_that_is_saved_but_never_taken_back_is_an_error(base):
    class Forgetful(base):
        def state_dict(self):
            return {"alpha": 1.0}

    component = Forgetful.__new__(Forgetful)
    with pytest.raises(ComponentError, match=r"Forgetful gave a state \(alpha\) but cannot take it back"):
        component.load_state_dict(component.state_dict())


def test_mixer_and_context_import_without_torch():
    code = "import sys, dataflex.train.mixer.base_mixer, dataflex.mixing.proportions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
