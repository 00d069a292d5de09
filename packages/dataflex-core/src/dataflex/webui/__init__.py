"""DataFlex in LlamaBoard: the section in its Train tab, as pure functions; ``bridge`` puts it into LlamaBoard's page.

the visible form ── writes ──> Choice (JSON, one hidden field) ──> keys ──> run.yaml, `dataflex-cli train run.yaml`
"""
