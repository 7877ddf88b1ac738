"""Cut-down models of each kind that open_clip knows, drawn at random, and tokenizers trained on the spot."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from models.bundle import Bundle

SENTENCES = [
    "a red truck at the gate",
    "a person riding a bicycle on the street",
    "two dogs are running in the yard at night",
    "the café's front door is open & it's raining",
]
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_VISION = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}


def _timm(name: str, pool: str, proj: str | None) -> dict[str, Any]:
    return {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": proj,
        "image_size": 64,
    }


CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {"embed_dim": 32, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": _TEXT,
    },
    "coca": {
        "embed_dim": 32,
        "vision_cfg": {**_VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**_TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**_TEXT, "context_length": 76, "layers": 1, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "mobileclip2": {
        "embed_dim": 32,
        # Random convolutions of a smaller picture answer to every last bit of it, as trained ones do not.
        "vision_cfg": {**_timm("small_fastvit", "avg", None), "image_size": 128},
        "text_cfg": {**_TEXT, "no_causal_mask": True},
        "custom_text": True,
    },
    "pe": {
        "embed_dim": 32,
        "vision_cfg": _timm("small_pe", "map", None),
        "text_cfg": {**_TEXT, "context_length": 32},
        "custom_text": True,
    },
    "eva02": {
        "embed_dim": 32,
        "vision_cfg": _timm("small_eva02", "token", None),
        "text_cfg": _TEXT,
        "custom_text": True,
    },
    "siglip2": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": _timm("small_siglip", "map", "none"),
        "text_cfg": {
            **_TEXT,
            "context_length": 64,
            "vocab_size": 200,
            "width": 64,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
}


def register_small_towers() -> None:
    """Make timm know the cut-down image towers that the configurations name."""
    from timm.layers.norm import LayerNorm
    from timm.models import register_model
    from timm.models.eva import Eva
    from timm.models.fastvit import FastVit, RepConditionalPosEnc
    from timm.models.vision_transformer import VisionTransformer

    def small_siglip(**options: Any) -> Any:
        return _named(
            VisionTransformer(64, 16, embed_dim=64, depth=2, num_heads=2, class_token=False, **_head(options))
        )

    def small_pe(**options: Any) -> Any:
        return _named(
            Eva(
                64, 16, embed_dim=48, depth=2, num_heads=2, attn_type="rope", use_pre_transformer_norm=True,
                use_rot_pos_emb=True, ref_feat_shape=(4, 4), rope_grid_offset=1.0, rope_grid_indexing="xy",
                attn_pool_num_heads=2, attn_pool_mlp_ratio=4.0, norm_layer=partial(LayerNorm, eps=1e-5),
                **_head(options),
            )
        )  # fmt: skip

    def small_eva02(**options: Any) -> Any:
        return _named(
            Eva(
                64, 16, embed_dim=48, depth=2, num_heads=2, qkv_fused=False, mlp_ratio=4 * 2 / 3, swiglu_mlp=True,
                scale_mlp=True, scale_attn_inner=True, use_rot_pos_emb=True, ref_feat_shape=(4, 4), **_head(options),
            )
        )  # fmt: skip

    places: Any = partial(RepConditionalPosEnc, spatial_shape=(7, 7))  # timm's annotation asks for a built module

    def small_fastvit(**options: Any) -> Any:
        return _named(
            FastVit(
                layers=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), mlp_ratios=(3, 3, 3, 3),
                lkc_use_act=True, se_downsamples=(False, False, True, True),
                token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
                pos_embs=(None, None, None, places), **_head(options),
            )
        )  # fmt: skip

    for tower in (small_siglip, small_pe, small_eva02, small_fastvit):
        tower.__module__ = __name__
        register_model(tower)


def _head(options: dict[str, Any]) -> dict[str, Any]:
    """What open_clip asks of a tower, without what timm adds for loading weights."""
    return {name: options[name] for name in ("num_classes", "global_pool") if name in options}


def _named(tower: Any) -> Any:
    tower.default_cfg = tower.pretrained_cfg = {}
    return tower


def write_source(folder: Path, config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> Path:
    """A folder as open_clip keeps a local model, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder


def export(folder: Path, config: dict[str, Any], *, seed: int = 7) -> Bundle:
    """The model with weights at random as a bundle, those for torch with it."""
    from models.making.export import export_bundle, find_source

    def no_hub(repository: str, *_: object) -> None:
        raise AssertionError(f"asked the hub for {repository}")

    model = str(write_source(folder / "model", config))
    source = find_source(model, weights=None, seed=seed, cache=folder, fetch=no_hub)
    return export_bundle(
        source, folder / "bundle", licence="none", cache=folder, fetch=no_hub, say=lambda _: None, with_torch=True
    )


def write_sentencepiece(folder: Path) -> Path:
    """A tokenizer of SigLIP's kind: pieces of words, closed by one token, padded with another."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(
        SENTENCES * 20,
        trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return _write_tokenizer(folder, tokenizer)


def write_wordpiece(folder: Path) -> Path:
    """A tokenizer of BERT's kind."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["<pad>", "<unk>", "<bos>", "<eos>"]
    tokenizer.train_from_iterator(
        SENTENCES * 20, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
    )
    return _write_tokenizer(folder, tokenizer)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "sep_token": "<eos>",
        "unk_token": "<unk>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder
