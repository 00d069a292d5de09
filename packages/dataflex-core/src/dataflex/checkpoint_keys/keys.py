"""Which key of a run may change at a resume, and what then happens: the one list, which docs/resume.md shows.

Keys are those of LlamaFactory's argument classes, of ``transformers.TrainingArguments`` (TRL's ``SFTConfig`` too) and
DataFlex's own. A name may be a pattern (``hub_*``); an exact name wins over a pattern.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

COMPONENT_PARAMS = "component_params"
COMPONENTS = "components"
RANKS = "ranks"
"""The number of processes, which is no key of a run file but is recorded among them."""


class Effect(StrEnum):
    """What a changed key does at a resume."""

    SILENT = "at work at once"
    NOTED = "at work at once, with one line"
    CONTENT = "compared by what comes of it"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Keys that are treated alike.

    Attributes:
        title: What they are about, for the documentation.
        effect: What happens when one of them has changed.
        keys: Their names, or patterns of names.
        decides: Whether the result of a whole run depends on them.
        model: Whether they decide which model a checkpoint's weights belong to: ``dataflex score`` compares these.
    """

    title: str
    effect: Effect
    keys: tuple[str, ...]
    decides: bool = True
    model: bool = False


OPTIMIZER = Group(
    title="numbers of the optimizer",
    effect=Effect.NOTED,
    keys=("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
)
"""Set in the optimizer once it has been loaded: see :mod:`dataflex.trainers.resume.new_values`."""

BEST_MODEL = ("metric_for_best_model", "greater_is_better", "eval_dataset", "eval_on_each_dataset")
"""Keys without which the best model so far cannot be compared with a later one."""

MODELS = (
    "model_name_or_path",
    "adapter_name_or_path",
    "ref_model",
    "ref_model_adapters",
    "reward_model",
    "reward_model_adapters",
)
"""Keys that name models, which are known by content."""

EVALUATION = Group(
    title="what is evaluated, and what follows from it: the best model, early stopping",
    effect=Effect.SILENT,
    keys=(
        "eval_*",
        "do_eval",
        "do_predict",
        "evaluation_strategy",
        "per_device_eval_batch_size",
        "per_gpu_eval_batch_size",
        "prediction_loss_only",
        "include_for_metrics",
        "include_inputs_for_metrics",
        "batch_eval_metrics",
        "bf16_full_eval",
        "fp16_full_eval",
        "compute_accuracy",
        "load_best_model_at_end",
        "metric_for_best_model",
        "greater_is_better",
        "early_stopping_steps",
        "restore_callback_states_from_checkpoint",
        "jit_mode_eval",
    ),
)
"""An eval set is told of where the component decides by it."""

DATA = Group(
    title="data, by the pool's size and content",
    effect=Effect.CONTENT,
    keys=(
        "dataset",
        "dataset_dir",
        "dataset_kwargs",
        "dataset_text_field",
        "media_dir",
        "tokenized_path",
        "template",
        "chat_template_path",
        "cutoff_len",
        "max_samples",
        "val_size",
        "mask_history",
        "train_on_prompt",
        "packing",
        "packing_strategy",
        "neat_packing",
        "tool_format",
        "default_system",
        "enable_thinking",
        "preserve_thinking",
        "eos_token",
        "pad_token",
        "split_special_tokens",
        "use_fast_tokenizer",
        "mix_strategy",
        "interleave_probs",
    ),
)
"""What rows are made from and how they are tokenised."""

MEDIA = Group(
    title="how pictures, videos and sounds are read",
    effect=Effect.REFUSED,
    keys=("image_*", "crop_to_patches", "video_*", "use_audio_in_video", "audio_sampling_rate"),
)
"""Likewise; a change is no matter of the pool's content alone, since collators read them too."""

GROUPS = (
    OPTIMIZER,
    Group(
        title="gradient clipping and noise",
        effect=Effect.NOTED,
        keys=("max_grad_norm", "neftune_noise_alpha"),
    ),
    Group(
        title="parameters of the component, and how often a domain may be read",
        effect=Effect.NOTED,
        keys=(COMPONENT_PARAMS, "mixture_max_epochs"),
    ),
    Group(
        title="the length of the run",
        effect=Effect.NOTED,
        keys=("update_times", "train_step", "max_steps", "num_train_epochs"),
    ),
    Group(
        title="how a global batch is divided",
        effect=Effect.NOTED,
        keys=(RANKS, "per_device_train_batch_size", "gradient_accumulation_steps"),
    ),
    Group(
        title="with which kernels the same numbers are computed",
        effect=Effect.NOTED,
        keys=(
            "gradient_checkpointing",
            "gradient_checkpointing_kwargs",
            "disable_gradient_checkpointing",
            "use_reentrant_gc",
            "use_unsloth_gc",
            "activation_offloading",
            "flash_attn",
            "use_unsloth",
            "enable_liger_kernel",
            "use_liger_kernel",
            "use_liger",
            "liger_kernel_config",
            "use_v1_kernels",
            "torch_compile",
            "torch_compile_*",
            "torchdynamo",
            "use_ipex",
            "full_determinism",
            "use_cpu",
            "no_cuda",
            "use_mps_device",
        ),
    ),
    Group(
        title="what a batch holds beside the tokens",
        effect=Effect.NOTED,
        keys=("remove_unused_columns", "label_names", "pad_to_multiple_of"),
    ),
    Group(
        title="what is logged and shown",
        effect=Effect.SILENT,
        decides=False,
        keys=(
            "logging_*",
            "log_*",
            "report_to",
            "run_name",
            "disable_tqdm",
            "plot_loss",
            "include_num_input_tokens_seen",
            "include_tokens_per_second",
            "include_effective_tokens_per_second",
            "print_param_status",
            "push_to_hub*",
            "hub_*",
            "*_hub_token",
            "project",
            "trackio_*",
            "use_swanlab",
            "swanlab_*",
            "badam_verbose",
            "debug",
            "skip_memory_metrics",
            "enable_torch_profiler",
            "profiler_*",
            "profile_modules",
        ),
    ),
    Group(
        title="what is saved, and where",
        effect=Effect.SILENT,
        decides=False,
        keys=(
            "save_*",
            "output_dir",
            "overwrite_output_dir",
            "resume_from_checkpoint",
            "enable_jit_checkpoint",
            "export_*",
        ),
    ),
    EVALUATION,
    Group(
        title="how text is generated",
        effect=Effect.SILENT,
        keys=(
            "predict_with_generate",
            "sortish_sampler",
            "generation_*",
            "do_sample",
            "temperature",
            "top_p",
            "top_k",
            "num_beams",
            "max_length",
            "max_new_tokens",
            "repetition_penalty",
            "length_penalty",
            "skip_special_tokens",
            "infer_backend",
            "infer_dtype",
            "use_kv_cache",
            "use_cache",
            "vllm_*",
            "sglang_*",
        ),
    ),
    Group(
        title="how rows and models are loaded, and ranks started",
        effect=Effect.SILENT,
        decides=False,
        keys=(
            "dataloader_num_workers",
            "dataloader_pin_memory",
            "dataloader_persistent_workers",
            "dataloader_prefetch_factor",
            "preprocessing_num_workers",
            "preprocessing_batch_size",
            "dataset_num_proc",
            "overwrite_cache",
            "cache_dir",
            "data_shared_file_system",
            "torch_empty_cache_steps",
            "ddp_*",
            "local_rank",
            "master_addr",
            "master_port",
            "ray_*",
            "mp_parameters",
            "tpu_*",
            "low_cpu_mem_usage",
            "offload_folder",
            "trust_remote_code",
            "component_timeout",
        ),
    ),
    DATA,
    Group(
        title="seed, and steps up to the checkpoint",
        effect=Effect.CONTENT,
        keys=("seed", "warmup_step", "update_step"),
    ),
    Group(
        title="train type and component",
        effect=Effect.CONTENT,
        keys=("train_type", "component_name", "components_cfg_file", "plugins"),
    ),
    Group(
        title="the components of a run with several: which, how often they are asked, how much is kept",
        effect=Effect.REFUSED,
        keys=(COMPONENTS,),
    ),
    Group(
        title="how domains are mixed, but for mixture_max_epochs",
        effect=Effect.CONTENT,
        keys=(
            "init_mixture_proportions",
            "mixture_on_exhausted",
            "mixture_sample_rule",
            "mixture_temperature",
            "mixture_unit",
        ),
    ),
    Group(
        title="base model and starting adapter, by the content of their files",
        effect=Effect.CONTENT,
        keys=(*MODELS[:2], "model_revision", "adapter_folder"),
        model=True,
    ),
    Group(
        title="reference and reward models, by the content of their files",
        effect=Effect.CONTENT,
        keys=MODELS[2:],
    ),
    Group(
        title="what no dynamic run may set",
        effect=Effect.CONTENT,
        keys=(
            "do_train",
            "streaming",
            "buffer_size",
            "use_ray",
            "use_mca",
            "use_hyper_parallel",
            "hyper_parallel_args",
            "auto_find_batch_size",
            "ignore_data_skip",
            "per_gpu_train_batch_size",
        ),
    ),
    Group(
        title="the learning-rate schedule",
        effect=Effect.REFUSED,
        keys=("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"),
    ),
    Group(
        title="the optimizer",
        effect=Effect.REFUSED,
        keys=(
            "optim",
            "optim_args",
            "optim_target_modules",
            "adafactor",
            "use_galore",
            "galore_*",
            "use_apollo",
            "apollo_*",
            "use_badam",
            "badam_*",
            "use_adam_mini",
            "use_muon",
            "loraplus_*",
        ),
    ),
    Group(
        title="what is trained: adapter, frozen parts, special tokens, the model's shape",
        effect=Effect.REFUSED,
        model=True,
        keys=(
            "finetuning_type",
            "lora_*",
            "use_rslora",
            "use_dora",
            "pissa_*",
            "additional_target",
            "create_new_adapter",
            "oft_*",
            "freeze_*",
            "use_llama_pro",
            "use_kt",
            "kt_*",
            "train_from_scratch",
            "model_init_kwargs",
            "mixture_of_depths",
            "rope_scaling",
            "shift_attn",
            "resize_vocab",
            "add_tokens",
            "add_special_tokens",
            "new_special_tokens_config",
            "init_special_tokens",
        ),
    ),
    Group(
        title="dropout in the adapter",
        effect=Effect.REFUSED,
        keys=("lora_dropout", "module_dropout"),
    ),
    Group(
        title="quantisation",
        effect=Effect.REFUSED,
        model=True,
        keys=("quantization_*", "double_quantization", "*_quantization_bit"),
    ),
    Group(
        title="the loss",
        effect=Effect.REFUSED,
        keys=(
            "stage",
            "label_smoothing_factor",
            "average_tokens_across_devices",
            "ignore_pad_token_for_loss",
            "completion_only_loss",
            "assistant_only_loss",
            "padding_free",
            "loss_type",
            "use_dft_loss",
            "use_asft_loss",
            "asft_alpha",
            "use_eaft_loss",
            "eaft_alpha",
            "moe_aux_loss_coef",
            "pref_*",
            "dpo_label_smoothing",
            "kto_*",
            "simpo_gamma",
            "ld_alpha",
            "ppo_*",
            "reward_model_type",
        ),
    ),
    Group(
        title="precision",
        effect=Effect.REFUSED,
        keys=("bf16", "fp16", "fp8", "fp8_*", "pure_bf16", "tf32", "upcast_*", "fp16_*", "half_precision_backend"),
    ),
    Group(
        title="how model and optimizer are spread over ranks",
        effect=Effect.REFUSED,
        keys=("deepspeed", "fsdp", "fsdp_*", "parallelism_config", "accelerator_config"),
    ),
    Group(
        title="the order of an epoch",
        effect=Effect.REFUSED,
        keys=(
            "data_seed",
            "disable_shuffling",
            "group_by_length",
            "length_column_name",
            "train_sampling_strategy",
            "dataloader_drop_last",
        ),
    ),
    MEDIA,
)
"""All keys that DataFlex, LlamaFactory and transformers have; a key that is on no list is warned of by name."""

UNORDERED = frozenset(
    {
        "lora_target",
        "oft_target",
        "additional_target",
        "optim_target_modules",
        "galore_target",
        "apollo_target",
        "freeze_trainable_modules",
        "freeze_extra_modules",
    }
)
"""Keys that list names whose order means nothing."""

FILLED_IN = frozenset({"accelerator_config", "fsdp_config"})
"""Mappings that a parser fills in with its version's defaults: of them, what both versions have is compared."""


@functools.cache
def group_of(name: str) -> Group | None:
    """The group that a key belongs to; ``None`` for a key that is on no list."""
    patterns: Group | None = None
    for group in GROUPS:
        for key in group.keys:
            if key == name:
                return group
            if patterns is None and "*" in key and fnmatchcase(name, key):
                patterns = group
    return patterns
