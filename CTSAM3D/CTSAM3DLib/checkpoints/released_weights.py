"""Translate the published checkpoint, `params.pth`, to the tensor names of this implementation."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from CTSAM3DLib.errors import ModelError

_UNUSED = ("prompt_encoder.",)
"""Prefixes of tensors that the published network never reads: the Fourier features of an ablation."""


def translate(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the published state dict. SPADE's γ and β, two convolutions there, are one here.

    Raises ModelError where a tensor is missing.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if name.startswith(_UNUSED) or ".mlp_beta." in name:
            continue
        if ".mlp_gamma." in name:
            beta = name.replace(".mlp_gamma.", ".mlp_beta.")
            if beta not in published or published[beta].shape != tensor.shape:
                raise ModelError(f"The checkpoint lacks the tensor '{beta}' in the right shape; download it again.")
            tensor = torch.cat([tensor, published[beta]])
        ours[our_name(name)] = tensor
    return ours


def our_name(published_name: str) -> str:
    """Our name of a published tensor.

    `image_encoder.stage3.0.attn.q.weight` becomes `encoder.stages.2.blocks.0.attention.query.weight`, and so on.
    """
    name = published_name
    for pattern, replacement in (
        (r"^image_encoder\.stem\.", "image_encoder.patch_1."),
        (r"\.pos\.pa_conv\.", ".gate.conv."),
        (r"^image_encoder\.patch_(\d)\.proj\.", r"image_encoder.patch_\1.project."),
        (r"\.attn\.q\.", ".attention.query."),
        (r"\.attn\.kv\.", ".attention.key_value."),
        (r"\.attn\.sr\.", ".attention.reduce."),
        (r"\.attn\.sr_norm\.", ".attention.reduce_norm."),
        (r"\.attn\.up_norm\.", ".attention.value_norm."),
        (r"\.attn\.proj\.", ".attention.project."),
        (r"(stage\d\.\d+)\.norm1\.", r"\1.attention_norm."),
        (r"(stage\d\.\d+)\.norm2\.", r"\1.mlp_norm."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.2."),
        (r"^mask_decoder\.mask_prediction_head\.0\.", "decoder.mask_head."),
        (r"\.conv_(\d)\.", r".conv\1."),
        (r"\.norm_(\d)\.", r".norm\1."),
        (r"\.mlp_shared\.0\.", ".shared."),
        (r"\.mlp_gamma\.", ".scale_and_shift."),
        (r"\.cna\.", "."),
        (r"^cpp_predictor\.", "cross_patch.unet."),
    ):
        name = re.sub(pattern, replacement, name)
    for pattern, part in (
        (r"^image_encoder\.patch_(\d)\.", "encoder.stages.{}.embed."),
        (r"^image_encoder\.stage(\d)\.", "encoder.stages.{}.blocks."),
        (r"^image_encoder\.channel_mapper(\d)\.", "encoder.stages.{}.to_level."),
        (r"^mask_decoder\.spade(\d)\.", "decoder.blocks.{}."),
        (r"^mask_decoder\.upscale(\d)\.", "decoder.upscales.{}."),
    ):
        if match := re.match(pattern, name):  # the published code counts from 1
            name = part.format(int(match[1]) - 1) + name[match.end() :]
    if match := re.match(r"^mask_decoder\.iou_prediction_head\.layers\.(\d)\.", name):  # ReLUs are layers of ours
        name = f"decoder.quality_head.{2 * int(match[1])}." + name[match.end() :]
    return name
