"""Select samples by their loss under a plain transformers.Trainer: python trainer.py MODEL TEXT_FILE OUTPUT_DIR."""

import sys

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from dataflex.trainers import dynamic_trainer

model_path, text_file, output_dir = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model_path)
pool = load_dataset("text", data_files=text_file, split="train")
pool = pool.map(lambda row: tokenizer(row["text"]), remove_columns="text")

config = {
    "train_type": "dynamic_select",
    "component_name": "loss",
    "warmup_step": 2,
    "update_step": 3,
    "update_times": 2,
}
trainer = dynamic_trainer(Trainer, config)(
    model=AutoModelForCausalLM.from_pretrained(model_path),
    args=TrainingArguments(output_dir, per_device_train_batch_size=4, save_steps=4, report_to="none"),
    train_dataset=pool,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train(resume_from_checkpoint=True)
trainer.save_model()
