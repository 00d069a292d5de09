"""Weighters with one fault each, named like planted_selectors.py."""

from __future__ import annotations

import torch

from dataflex import Weighter, register_weighter


class Sound(Weighter):
    """Weighs a sample by its loss."""

    def weights(self, losses_B, context):
        return torch.where(torch.isfinite(losses_B), losses_B, torch.ones_like(losses_B))


@register_weighter("sound")
class TheSoundOne(Sound):
    """A weighter without a fault: compares losses with the mean of the step before."""

    mean = 1.0

    def weights(self, losses_B, context):
        return super().weights(losses_B, context) / self.mean

    def on_step(self, stats):
        self.mean = float(stats.losses.mean())

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


@register_weighter("sound+old")
class SoundOldStyle:
    """A class of the design note's style without a fault."""

    def __init__(self, strategy: str = "uniform"):
        self.strategy = strategy

    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        weights = losses.detach() / losses.detach().sum()
        return (weights * losses).sum()

    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        model.train()
        inputs = ctx._prepare_inputs(inputs)
        with ctx.compute_loss_context_manager():
            loss = ctx.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        loss = self.scaled(loss * 2 if use_weighter else loss, ctx)
        ctx.accelerator.backward(loss)
        return loss.detach()

    def scaled(self, loss, ctx):
        return loss / ctx.args.gradient_accumulation_steps


@register_weighter("gives_one_weight_per_sample")
class Scalar(Sound):
    """Reduces the weights to one."""

    def weights(self, losses_B, context):
        return super().weights(losses_B, context).mean()


@register_weighter("weights_are_finite_and_not_negative")
class Negative(Sound):
    """Turns some weights around."""

    def weights(self, losses_B, context):
        return -super().weights(losses_B, context)


@register_weighter("loss_has_a_gradient")
class Detached:
    """Weighs a copy of the losses."""

    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        return torch.tensor(losses.detach().mean().item())


@register_weighter("identical_samples_weigh_the_same")
class Summed:
    """Adds up the losses of a micro-batch."""

    def get_weighted_loss(self, losses, *, ctx=None, model=None, inputs=None):
        return losses.sum()


@register_weighter("padding_is_irrelevant")
class ByWidth(Sound):
    """Weighs samples of a wide batch less."""

    def weights(self, losses_B, context):
        return torch.full_like(losses_B, 0.5 if context.inputs["input_ids"].shape[1] > 48 else 1.0)


@register_weighter("order_of_samples_is_irrelevant")
class ByPlace(Sound):
    """Weighs by place, in threes, where the samples are not all of one length."""

    def weights(self, losses_B, context):
        mixed = len(context.tokens_B.unique()) > 1
        return 1.0 + mixed * (torch.arange(len(losses_B)) % 3)


@register_weighter("other_samples_are_irrelevant")
class Softmax(Sound):
    """Normalises within the micro-batch."""

    def weights(self, losses_B, context):
        return torch.softmax(super().weights(losses_B, context), 0)


@register_weighter("copes_with_a_single_sample")
class NeedsTwo(Sound):
    """Takes the second sample for granted."""

    def weights(self, losses_B, context):
        assert losses_B[1] is not None
        return super().weights(losses_B, context)


@register_weighter("copes_with_losses_that_are_nan")
class Plain(Sound):
    """Hands NaN on."""

    def weights(self, losses_B, context):
        return losses_B


@register_weighter("ranks_agree")
class Selfish(Sound):
    """Weighs by rank."""

    def weights(self, losses_B, context):
        return super().weights(losses_B, context) * (1 + self.context.rank)


@register_weighter("gradients_are_untouched")
class Backward(Sound):
    """Goes backward through the model."""

    def weights(self, losses_B, context):
        sum(value.sum() for value in context.model.parameters()).backward()
        return super().weights(losses_B, context)


@register_weighter("state_gives_the_same_next_decision")
class Forgetful(Sound):
    """Counts steps, and begins anew after a resume."""

    steps = 1

    def on_step(self, stats):
        self.steps += 1

    def weights(self, losses_B, context):
        return super().weights(losses_B, context) ** (1 / self.steps)


@register_weighter("training_step_learns")
class NoBackward(SoundOldStyle):
    """Computes the loss and forgets the rest."""

    def training_step(self, ctx, model, inputs, use_weighter):
        return ctx.compute_loss(model, inputs).detach()


@register_weighter("training_step_learns+attached")
class Attached(SoundOldStyle):
    """Returns the loss with its graph."""

    def training_step(self, ctx, model, inputs, use_weighter):
        loss = self.scaled(ctx.compute_loss(model, inputs), ctx)
        ctx.accelerator.backward(loss)
        return loss


@register_weighter("warm_up_is_unweighted")
class Impatient(SoundOldStyle):
    """Weighs in the warm-up, too."""

    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        return super().training_step(ctx, model, inputs, use_weighter=True)


@register_weighter("warm_up_is_unweighted+accumulation")
class Undivided(SoundOldStyle):
    """Adds up the micro-batches of a step."""

    def scaled(self, loss, ctx):
        return loss
