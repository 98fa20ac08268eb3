"""Tiny models of every family of the installed `transformers`, made from its config classes."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

VOCABULARY, START, PAD, EOS = 37, 0, 1, 2
LENGTH = 7

# By name, in a config or any config in it. What is None there stays None.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "decoder_vocab_size": VOCABULARY,
    "bos_token_id": START, "pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": EOS,
    "sep_token_id": EOS, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "suppress_tokens": None, "begin_suppress_tokens": None,
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "embedding_size": 32,
    "model_dim": 32, "n_embed": 32, "word_embed_proj_dim": 32, "decoder_hidden_size": 32,
    "encoder_hidden_size": 32, "attention_hidden_size": 32, "embed_dim": 32, "d_embed": 32,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4, "decoder_num_attention_heads": 4,
    "encoder_num_attention_heads": 4, "num_key_value_heads": 2, "n_kv_heads": 2,
    "num_kv_heads": 2, "decoder_num_key_value_heads": 2, "encoder_num_key_value_heads": 2,
    "head_dim": 8, "d_kv": 8, "attention_head_dim": 8, "global_head_dim": 8, "kv_channels": 8,
    "attention_head_size": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "qk_head_dim": 16, "q_lora_rank": 8, "kv_lora_rank": 8, "o_lora_rank": 8,
    "swa_head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2,
    "rotary_dim": 8, "rope_dim": 8, "rotary_embedding_dim": 8, "per_head_dim": 8,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_decoder_layers": 2, "num_encoder_layers": 2,
    "decoder_num_hidden_layers": 2, "encoder_num_hidden_layers": 2, "num_blocks": 2,
    "intermediate_size": 64, "ffn_dim": 64, "n_inner": 64, "d_ff": 64, "d_inner": 64, "dff": 64,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_hidden_size": 64, "dim_ff": 64,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "feed_forward_size": 64,
    "intermediate_size_mlp": 64, "shared_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "block_ff_dim": 64, "decoder_intermediate_size": 64, "encoder_intermediate_size": 64,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "moe_k": 2, "top_k_experts": 2, "n_group": 1, "topk_group": 1,
    "moe_topk": 2, "num_expert_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "max_position_embeddings": 64, "n_positions": 64, "max_target_positions": 64,
    "max_source_positions": 64, "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64, "block_size": 64, "max_seq_len": 64, "seq_length": 64,
    "context_length": 64, "state_size": 8, "mamba_d_state": 8, "ssm_state_size": 8,
    "conv_kernel": 4, "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_head_dim": 8,
    "mamba_d_head": 8, "mamba_n_groups": 1, "n_groups": 1, "mamba_ngroups": 1, "n_mamba_heads": 1,
    "time_step_rank": 4, "mamba_dt_rank": 4, "chunk_size": 8, "mamba_chunk_size": 8,
    "mamba_d_ssm": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "lru_width": 32,
    "attention_window_size": 16, "attention_window": 4, "sliding_window": 16,
    "window_size": 16, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
    "laurel_rank": 4, "num_kv_shared_layers": 0, "num_mem_blocks": 1, "adapter_rank": 4,
    "num_mel_bins": 8, "max_relative_position": 8, "num_buckets": 8, "ngram": 2,
    "index_n_heads": 2, "index_head_dim": 8,
    "index_topk": 64,  # of fewer tokens equal scores would choose, in either order
    "num_nextn_predict_layers": 0,
    "classifier_dropout": 0.0, "query_pre_attn_scalar": 8, "hidden_act_dim": 32,
    "is_decoder": True, "num_encoder_experts": 2, "expert_capacity": 64,
    "router_capacity": 64, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16],
    "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8,
    "encoder_sparse_step": 1, "decoder_sparse_step": 1, "num_sparse_encoder_layers": 1,
    "num_sparse_decoder_layers": 1, "bottleneck_size": 16, "projection_dim": 32, "layerdrop": 0.0,
    "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
}  # fmt: skip
# Of single families: what would not fit together, or leave out a kind of layer.
_FAMILIES: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8}, "zamba2": {"mamba_expand": 2, "n_mamba_heads": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1]}, "nemotron_h": {"mamba_num_heads": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 8},
    "nemotron": {"num_key_value_heads": 2}, "ministral": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8},
    "xmod": {"default_language": "en_XX"}, "roc_bert": {
        "pronunciation_vocab_size": 37, "shape_vocab_size": 37, "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8, "concat_input": True},
    "xlstm": {"num_heads": 4, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "embedding_dim": 32},
    "rwkv": {"attention_hidden_size": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "fsmt": {"src_vocab_size": 37, "tgt_vocab_size": 37},
}  # fmt: skip
_SPREAD = 0.35  # of the weights: untrained models at 0.02 hardly tell tokens apart
_MOST_PARAMETERS = 3_000_000


class NotBuilt(Exception):
    """Why there is no tiny model of a family."""


def families() -> list[str]:
    """Of decoders alone, then of encoders with decoders that read tokens."""
    from transformers.models.auto import modeling_auto as auto

    decoders = list(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    both = [f for f in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES if f not in decoders]
    return decoders + both


def build(family: str) -> Any:
    """A tiny model, ready to be searched. Raises NotBuilt."""
    import transformers
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    names = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if family not in names:
        names = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    try:
        config = CONFIG_MAPPING[family]()
        kind = getattr(transformers, names[family])
        if isinstance(names[family], tuple):
            kind = getattr(transformers, names[family][0])
        wanted = kind.config_class
        if wanted is not None and not isinstance(config, wanted):
            config = wanted()
        _shrink(config)
        for name, value in _FAMILIES.get(family, {}).items():
            setattr(config, name, value)
        with torch.device("meta"):
            size = sum(p.numel() for p in kind(copy_of(config)).parameters())
        if size > _MOST_PARAMETERS:
            raise NotBuilt(f"{size} parameters")
        torch.manual_seed(0)
        model = kind(config).float().eval()
    except NotBuilt:
        raise
    except Exception as error:
        raise NotBuilt(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}") from error
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, _SPREAD, generator=generator)
    with contextlib.suppress(Exception):
        model.tie_weights()
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id, settings.bos_token_id = EOS, PAD, START
    if model.config.is_encoder_decoder and settings.decoder_start_token_id is None:
        settings.decoder_start_token_id = EOS
    return model


def copy_of(config: Any) -> Any:
    import copy

    return copy.deepcopy(config)


def inputs(model: Any, padded: bool) -> tuple[Any, Any]:
    """Tokens [3, LENGTH] and their mask, padded where models of its kind are."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (3, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    if padded and model.config.is_encoder_decoder:
        mask[0, LENGTH - 2 :], mask[1, LENGTH - 3 :] = 0, 0
    elif padded:
        mask[0, :2], mask[1, :3] = 0, 0
    return ids.masked_fill(mask == 0, PAD), mask


def _shrink(config: Any) -> None:
    from transformers import PretrainedConfig

    layers = 2
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    if isinstance(kinds, (list, tuple)) and len(set(kinds)) > 2:
        layers = len(set(kinds))
    for name, value in list(vars(config).items()):
        inner = name.removeprefix("_")
        if isinstance(value, PretrainedConfig):
            _shrink(value)
        elif inner in ("layer_types", "layers_block_type", "block_types", "mlp_layer_types",
                       "attention_types", "attn_layers", "layer_type_list", "mlp_layer_types",
                       "indexer_types", "hybrid_layer_types"):  # fmt: skip
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
                distinct = list(dict.fromkeys(value))
                setattr(config, name, (distinct * layers)[:layers])
        elif inner in _SIZES and (value is not None or _SIZES[inner] is None):
            wanted = _SIZES[inner]
            if isinstance(value, (list, tuple)) and not isinstance(wanted, (list, tuple)):
                wanted = type(value)([wanted] * min(len(value), layers))
            if layers > 2 and inner in ("num_hidden_layers", "n_layer", "num_layers"):
                wanted = layers
            with contextlib.suppress(Exception):
                setattr(config, name, wanted)
    if getattr(config, "kv_lora_rank", None) and hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = config.num_attention_heads  # latent attention has no groups
    for name in ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout_prob"):
        if hasattr(config, name):
            with contextlib.suppress(Exception):
                setattr(config, name, 0.0)
