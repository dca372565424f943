"""Tiny models of random weights, an architecture each, with windows and chunks that a test's prompts go beyond."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY, CONTEXT, WINDOW = 320, 512, 16
BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "eos_token_id": 1,
    "bos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
MOE: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "shared_expert_intermediate_size": 32,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}

SHARED: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "phi3": {}, "phi": {}, "granite": {}, "olmo2": {}, "smollm3": {}, "glm4": {},
    "gemma": {}, "cohere": {}, "stablelm": {}, "starcoder2": {}, "gpt_neox": {}, "nemotron": {}, "seed_oss": {},
    "opt": {}, "hunyuan_v1_dense": {}, "ernie4_5": {}, "persimmon": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
    "mistral": {"sliding_window": WINDOW},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "num_hidden_layers": 6},
    "olmo3": {"sliding_window": WINDOW, "num_hidden_layers": 4},
    "cohere2": {"sliding_window": WINDOW, "num_hidden_layers": 4},
    "exaone4": {"sliding_window": WINDOW, "num_hidden_layers": 4},
    "gpt_oss": {"sliding_window": WINDOW, **MOE},
    "qwen3_moe": MOE, "mixtral": MOE,
    "qwen2_moe": {"sliding_window": 0, **MOE},
}  # fmt: skip
"""Those whose prompts are shared: by config, what they have beside `BASE`."""
PLAIN: dict[str, dict[str, Any]] = {
    "llama4_text": {"attention_chunk_size": WINDOW, "intermediate_size_mlp": 48, "num_hidden_layers": 4,
                    "interleave_moe_layer_step": 2, "num_local_experts": 2, "num_experts_per_tok": 1},
    "deepseek_v3": {**LATENT, "first_k_dense_replace": 1, "num_key_value_heads": 4, **MOE},
    "diffllama": {}, "bloom": {},
    "jetmoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 8},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT},
    "mamba": {}, "mamba2": {"num_heads": 8, "n_groups": 1, "expand": 2},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False,
              **MOE},
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [1], **MAMBA},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    "qwen3_next": {"num_hidden_layers": 4, **LINEAR, **MOE},
    "qwen3_5_text": {"num_hidden_layers": 4, **LINEAR},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": ["mamba", "attention"] * 2, "num_local_experts": 0,
                         "shared_intermediate_size": 48, **MAMBA},
}  # fmt: skip
"""Those that are sampled by their own cache."""
MIXTURES = [name for name, config in (SHARED | PLAIN).items() if config.get("num_experts_per_tok")]
"""Mixtures of experts."""


def made(name: str, dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    """A model whose replies differ from one another: its matrices are three times as large as usual."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **BASE | (SHARED | PLAIN)[name] | settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval().to(dtype)
    if dtype == torch.float64 and name in MIXTURES:
        model.set_experts_implementation("eager")  # the default knows no float64
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)
    return model
