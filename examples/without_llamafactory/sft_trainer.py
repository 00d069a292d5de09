"""Mix two data sets under TRL's SFTTrainer: python sft_trainer.py MODEL WEB_FILE CODE_FILE OUTPUT_DIR."""

import sys

from datasets import concatenate_datasets, load_dataset
from trl import SFTConfig, SFTTrainer

from dataflex.trainers import dynamic_trainer

model_path, web_file, code_file, output_dir = sys.argv[1:]
web, code = (load_dataset("text", data_files=path, split="train") for path in (web_file, code_file))

config = {
    "train_type": "dynamic_mix",
    "component_name": "random",
    "init_mixture_proportions": {"web": 0.7, "code": 0.3},
    "warmup_step": 2,
    "update_step": 3,
    "update_times": 2,
}
MixTrainer = dynamic_trainer(SFTTrainer, config, domains={"web": len(web), "code": len(code)})
trainer = MixTrainer(
    model=model_path,
    args=SFTConfig(output_dir, per_device_train_batch_size=4, save_steps=4, bf16=False, report_to="none"),
    train_dataset=concatenate_datasets([web, code]),
)
trainer.train(resume_from_checkpoint=True)
trainer.save_model()
