"""A selector in a single file: ``dataflex -p examples/custom_selector.py train RUN.yaml component_name=custom``."""

from dataflex.core.registry import register_selector
from dataflex.train.selector.base_selector import Selector, logger


@register_selector("custom")
class CustomSelector(Selector):
    """An example: takes the first rows of the pool, whatever the model."""

    def __init__(
        self,
        dataset,
        accelerator,
        data_collator,
        cache_dir,
    ):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        logger.info("CustomSelector initialized.")

    def select(self, model, step_id: int, num_samples: int, **kwargs):
        """Choose the samples of the next stage.

        Args:
            model: The current model.
            step_id: Optimizer steps done so far.
            num_samples: How many rows to return.

        Returns:
            Row indices into the pool.
        """
        # Put an algorithm of yours here.
        return list(range(num_samples))
