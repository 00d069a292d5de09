"""The design note's CustomSelector, unchanged but for absolute imports: what a third party ships."""

NOTE_SELECTOR = '''
from dataflex.core.registry import register_selector
from dataflex.train.selector.base_selector import logger, Selector

@register_selector('custom')
class CustomSelector(Selector):
    """
    A custom data selector, as in the design note.
    """
    def __init__(
        self,
        dataset,
        accelerator,
        data_collator,
        cache_dir,
    ):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        logger.info(f"CustomSelector initialized.")

    def select(self, model, step_id: int, num_samples: int, **kwargs):
        return list(range(num_samples))
'''
