"""The words of the section, in LlamaBoard's languages as far as we have them: English stands in for the others."""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH = "en"

WORDS: Mapping[str, Mapping[str, str]] = {
    "title": {
        "en": "DataFlex: choose, mix or weigh the data while training",
        "zh": "DataFlex：训练中选择、混合或加权数据",
    },
    "on": {"en": "Train with DataFlex", "zh": "使用 DataFlex 训练"},
    "train_type": {"en": "Train type", "zh": "训练类型"},
    "component": {"en": "Component", "zh": "组件"},
    "params": {"en": "Parameters", "zh": "参数"},
    "steps": {"en": "Steps", "zh": "步数"},
    "total": {"en": "{total} optimizer steps in all", "zh": "共 {total} 个优化步"},
    "total_later": {"en": "The number of steps is known when the data is loaded", "zh": "步数在加载数据后确定"},
    "broken": {
        "en": "Not offered, since it cannot be loaded: {name} ({reason})",
        "zh": "无法加载，未列出：{name}（{reason}）",
    },
    "paper": {"en": "Paper", "zh": "论文"},
    "problems": {"en": "This run cannot start:", "zh": "无法启动训练："},
    "required": {"en": "required", "zh": "必填"},
    "nothing": {"en": "It has no parameters.", "zh": "没有参数。"},
    "watch": {"en": "What the run decides", "zh": "训练中的决策"},
    "download": {"en": "Run file", "zh": "运行文件"},
}


def word(name: str, language: str, **values: object) -> str:
    """A word or sentence in a language.

    Args:
        name: Which.
        language: As LlamaBoard calls it.
        values: What stands in it.
    """
    spelt = WORDS[name]
    return spelt.get(language, spelt[ENGLISH]).format(**values)
