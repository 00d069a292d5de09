"""DataFlex in LlamaBoard: the section in its Train tab, and the tab to watch a run; ``bridge`` puts them into its page.

the visible form ── writes ──> Choice (JSON, one hidden field) ──> keys ──> run.yaml, `dataflex-cli train run.yaml`

May use gradio, and of LlamaBoard what ``bridge`` hands in.
"""
