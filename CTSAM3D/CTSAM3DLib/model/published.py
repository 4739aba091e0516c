"""The tensor names of the published checkpoint, `params.pth`, translated to ours."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import torch
from torch import Tensor

from CTSAM3DLib.errors import ModelError

_UNUSED = ("prompt_encoder.",)
"""The published file carries the Fourier features of an ablation that its network never reads."""


def translate(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the published one; γ and β, two convolutions there, become one convolution here."""
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
    """`image_encoder.stage3.0.attn.q.weight` is our `encoder.stages.2.blocks.0.attention.query.weight`, and so on."""
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


def read_window(config_file: Path) -> tuple[float, float]:
    """The HU window from the published `config.py`, read as text and never executed.

    Looks for the two numbers `min_value` and `max_value`, given as keywords, dictionary entries or assignments.
    """
    try:
        tree = ast.parse(config_file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The model's HU window cannot be read from {config_file}; give it, for example --window -1000 1000."
        ) from error
    found: dict[str, float] = {}
    for node in ast.walk(tree):
        for name, value in _named_values(node):
            if name in ("min_value", "max_value"):
                number = _number(value)
                if number is not None:
                    found[name] = number
    if len(found) < 2 or found["min_value"] >= found["max_value"]:
        raise ModelError(f"{config_file} holds no HU window (min_value, max_value); give it, e.g. --window -1000 1000.")
    return found["min_value"], found["max_value"]


def _named_values(node: ast.AST) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.keyword) and node.arg:
        return [(node.arg, node.value)]
    if isinstance(node, ast.Dict):
        return [
            (key.value, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Attribute):
            return [(target.attr, node.value)]
        if isinstance(target, ast.Name):
            return [(target.id, node.value)]
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            return [(str(target.slice.value), node.value)]
    return []


def _number(value: ast.expr) -> float | None:
    try:
        number = ast.literal_eval(value)
    except ValueError:
        return None
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None
