"""A SAM 2 of random weights, small enough for tests."""

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 128
"""Of the square that it looks at; its masks have 32 x 32 positions."""


def tiny_sam(folder: Path, seed: int = 0, video: bool = False) -> Path:
    """Write a SAM 2 of random weights; Meta's own files are of networks for ``video``, with more weights."""
    import transformers  # noqa: PLC0415  (of the extra `sam`)

    stages = {
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "window_size_per_stage": [4, 4, 4, 4],
        "window_positional_embedding_background_size": [4, 4],
    }
    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE], **stages}
    settings: dict[str, Any] = {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 16,
        },
        "prompt_encoder_config": {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "iou_head_hidden_dim": 16,
        },
    }
    torch.manual_seed(seed)
    transformers.Sam2Model(transformers.Sam2Config(**settings)).save_pretrained(folder)
    if video:
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]}
        (folder / "config.json").write_text(json.dumps(config))
    return folder
