"""Sizes of the networks: the paper's, and the smaller bundled one for computers without a GPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from CTSAM3DLib.errors import ModelError


@dataclass(frozen=True)
class NetworkConfig:
    """Every size of a network, in channels; patches are always 64³ voxels. Saved with the weights."""

    name: str
    encoder: Literal["rest", "unet"]
    """The image encoder: ResT (`encoder.py`), or the U-Net's of the paper's Table 4 (`ablations/unet_encoder.py`)."""
    prompting: Literal["psap", "rff"]
    """PSAP (`decoder.py`), or SAM's tokens of random Fourier features, as in Table 4 (`ablations/rff_decoder.py`)."""
    stem_width: int
    encoder_widths: tuple[int, int, int, int]
    encoder_blocks: tuple[int, int, int, int]
    encoder_heads: tuple[int, int, int, int]
    key_reductions: tuple[int, int, int, int]
    """Stride of the convolution that reduces keys and values before the attention, for each stage."""
    level_widths: tuple[int, int, int, int]
    """Channels handed to the decoder at 16³, 8³, 4³ and 2³."""
    upscaled_widths: tuple[int, int, int, int, int]
    """Channels after each doubling of the decoder: at 4³, 8³, 16³, 32³ and 64³."""
    prompt_widths: tuple[int, int, int, int, int]
    """Hidden channels of the prompt convolutions at 2³, 4³, 8³, 16³ and 32³."""
    prompt_resize: Literal["trilinear", "pooled"]
    """How the prompt maps are resized to coarser grids. The published network interpolates them, which loses a click
    between the samples of the coarsest grids; pooling keeps it on every grid."""
    fine_width: int
    """Channels handed to the decoder at 32³; 0 in the published network, whose decoder gets image features at 16³ and
    coarser only. Above 0 the decoder also gets guidance maps (`small/guidance.py`)."""
    semantic_width: int
    """Length of the voxel embedding (`small/embedding.py`); 0 in the published network. The embedding reaches the
    decoder as guidance maps, so it needs a `fine_width` and `psap`."""
    semantic_filters: tuple[int, ...]
    """Channels of the embedding's U-Net at 32³, 16³, ..."""
    quality_width: int
    cross_patch_widths: tuple[int, int, int, int, int]
    semantic_places: bool = False
    """Whether the embedding's U-Net also predicts instance places and borders."""
    walk_width: int = 0
    """Hidden units of the network that weighs the evidence for a random walk around the clicks (`small/walk.py`). The
    walk then makes the mask; 0: no walk. A walk needs a `semantic_width`."""

    def __post_init__(self) -> None:
        if self.semantic_width and not (self.fine_width and self.prompting == "psap"):
            raise ModelError(f"The network {self.name} has semantics without fine_width and psap; give both.")
        if self.walk_width and not self.semantic_width:
            raise ModelError(f"The network {self.name} has a walk_width without a semantic_width; give both.")

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Channels of the decoder's blocks at 2³, 4³, 8³, 16³ and 32³: upscaled channels and those of the skip."""
        *skips, deepest = self.level_widths
        joined = zip(self.upscaled_widths[:4], (*reversed(skips), self.fine_width), strict=True)
        return deepest, *(upscaled + skip for upscaled, skip in joined)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """The inverse of `to_dict`; sizes with a default may be missing.

        Raises ModelError for missing or unknown sizes.
        """
        fields = dataclasses.fields(cls)
        required = {field.name for field in fields if field.default is dataclasses.MISSING}
        odd = ", ".join(sorted((required - values.keys()) | (values.keys() - {field.name for field in fields})))
        if odd:
            raise ModelError(f"The model's configuration does not fit this version of CT-SAM3D (differs in: {odd}).")
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**sizes)


PAPER = NetworkConfig(
    name="ctsam3d",
    encoder="rest",
    prompting="psap",
    stem_width=48,
    encoder_widths=(96, 192, 384, 768),
    encoder_blocks=(1, 2, 6, 2),
    encoder_heads=(1, 2, 4, 8),
    key_reductions=(8, 4, 2, 1),
    level_widths=(128, 128, 128, 256),
    upscaled_widths=(128, 128, 128, 128, 64),
    prompt_widths=(128, 128, 128, 128, 128),
    prompt_resize="trilinear",
    fine_width=0,
    semantic_width=0,
    semantic_filters=(),
    quality_width=256,
    cross_patch_widths=(16, 32, 64, 128, 256),
)

SMALL = NetworkConfig(
    name="ctsam3d-small",
    encoder="rest",
    prompting="psap",
    stem_width=24,
    encoder_widths=(48, 80, 128, 128),
    encoder_blocks=(1, 2, 2, 1),
    encoder_heads=(1, 2, 4, 4),
    key_reductions=(8, 4, 2, 1),
    level_widths=(48, 48, 32, 32),
    upscaled_widths=(32, 32, 32, 10, 16),
    prompt_widths=(16, 16, 16, 16, 12),
    prompt_resize="pooled",
    fine_width=6,
    semantic_width=16,
    semantic_filters=(16, 48, 96, 128),
    quality_width=32,
    cross_patch_widths=(8, 16, 24, 32, 48),
)


def config_named(name: str) -> NetworkConfig:
    """The sizes of `ctsam3d` or `ctsam3d-small`; raises ModelError for any other name."""
    configs = {config.name: config for config in (PAPER, SMALL)}
    if name not in configs:
        raise ModelError(f"There is no network called '{name}'; choose one of: {', '.join(configs)}.")
    return configs[name]
