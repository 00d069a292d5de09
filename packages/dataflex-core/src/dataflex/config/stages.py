"""LlamaFactory's training stages."""

STAGES = ("pt", "sft", "dpo", "rm", "kto")
"""LlamaFactory stages whose loader the engine can drive."""

NO_STAGE = ""
"""The stage of a run without LlamaFactory."""
