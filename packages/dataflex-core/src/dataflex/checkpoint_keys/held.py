"""Keys that a resumed run is held to: refused, or compared by what comes of them."""

from __future__ import annotations

from dataflex.checkpoint_keys.groups import Effect, Group

COMPONENTS = "components"

MODELS = (
    "model_name_or_path",
    "adapter_name_or_path",
    "ref_model",
    "ref_model_adapters",
    "reward_model",
    "reward_model_adapters",
)
"""Keys that name models, which are known by content."""

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

HELD = (
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
"""In the order in which docs/resume.md shows them."""
