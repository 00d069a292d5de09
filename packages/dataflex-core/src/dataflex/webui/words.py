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
    "total": {"en": "{total} optimizer steps in all", "zh": "共 {total} 个优化步"},
    "total_later": {"en": "The number of steps is known when the data is loaded", "zh": "步数在加载数据后确定"},
    "broken": {
        "en": "Not offered, since it cannot be loaded: {name} ({reason})",
        "zh": "无法加载，未列出：{name}（{reason}）",
    },
    "further": {"en": "Further keys", "zh": "其他参数"},
    "every": {"en": "Asked at every nth boundary", "zh": "每隔几个决策点询问一次"},
    "problems": {"en": "This run cannot start:", "zh": "无法启动训练："},
    "download": {"en": "Download the run file", "zh": "下载运行文件"},
    "follow": {"en": "Follow the run", "zh": "跟随训练"},
    "report": {"en": "Download the report", "zh": "下载报告"},
    "no_run": {
        "en": "What a run decides is shown here once one was started with DataFlex.",
        "zh": "使用 DataFlex 启动训练后，此处显示训练中的决策。",
    },
    "waiting": {"en": "{folder} has written nothing yet.", "zh": "{folder} 尚无内容。"},
}


def word(name: str, language: str, /, **values: object) -> str:
    """A word or sentence in a language.

    Args:
        name: Which.
        language: As LlamaBoard calls it.
        values: What stands in it.
    """
    spelt = WORDS[name]
    return spelt.get(language, spelt[ENGLISH]).format(**values)
