"""CT-SAM3D in one class (paper, Fig. 2): encode a patch once, decode it at every click, prompt its neighbours."""

from __future__ import annotations

from torch import Tensor, nn

from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.ablations.unet_encoder import UNetEncoder
from CTSAM3DLib.model.configs import NetworkConfig, config_named
from CTSAM3DLib.model.cross_patch import CrossPatchNetwork
from CTSAM3DLib.model.decoder import PromptDecoder
from CTSAM3DLib.model.encoder import ImageEncoder
from CTSAM3DLib.model.small.embedding import EmbeddingNetwork
from CTSAM3DLib.model.small.guided_decoder import GuidedDecoder
from CTSAM3DLib.model.small.walk import Walk


class CTSAM3D(nn.Module):
    """Image encoder, prompt decoder and cross-patch prompt network.

    Images are CT patches (b, 1, 64, 64, 64) with axes z, y, x towards S, P, L, their HU window scaled to [0, 1].
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config) if config.encoder == "rest" else UNetEncoder(config)
        self.decoder = _decoder(config)
        self.cross_patch = CrossPatchNetwork(config)
        width, filters = config.semantic_width, config.semantic_filters
        self.semantics = EmbeddingNetwork(width, filters, config.semantic_places) if width else None
        self.walk = Walk(config.walk_width) if config.walk_width else None

    def encode(self, image: Tensor, vectors: Tensor | None = None) -> list[Tensor]:
        """Encode patches; needed once, whatever the clicks.

        Args:
            image: (b, 1, 64, 64, 64), 0..1.
            vectors: the voxel embedding, where it is already computed; by default computed here.

        Returns:
            Levels (b, c_i, n, n, n) at 16³, 8³, 4³, 2³. With a `fine_width` the image itself and a level at 32³ come
            before them; with a `semantic_width` the voxel embedding at 32³ (`small/embedding.py`) follows the image.

        """
        levels = self.encoder(image)
        if self.semantics is not None:
            levels.insert(1, self.semantics(image) if vectors is None else vectors)
        return levels

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Decode levels with the prompt maps [previous mask, positive clicks, negative clicks] (b, 3, 64, 64, 64).

        Returns probabilities (b, 1, 64, 64, 64) and quality, the estimated Dice of each mask, (b,).
        """
        logits, quality = self.decoder(levels, prompts)
        return logits.sigmoid(), quality

    def predict_prompts(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """Predict the prompt of a neighbour from a patch and its mask (0..1); all (b, 1, 64, 64, 64).

        Returns a heat map (b, 1, 64, 64, 64) of where the masked structure continues in the neighbour.
        """
        return self.cross_patch(image, mask, neighbour)


def build(name: str) -> CTSAM3D:
    """An untrained network by name: `ctsam3d`, the paper's, or `ctsam3d-small`."""
    return CTSAM3D(config_named(name))


def _decoder(config: NetworkConfig) -> nn.Module:
    if config.prompting == "rff":
        return _fourier_decoder(config)
    return GuidedDecoder(config) if config.fine_width else PromptDecoder(config)


def _fourier_decoder(config: NetworkConfig) -> nn.Module:
    """The decoder of an ablation; imported here since only it needs MONAI. Raises ModelError where MONAI is missing."""
    try:
        from CTSAM3DLib.model.ablations.rff_decoder import FourierDecoder
    except ImportError as error:
        raise ModelError(f"Networks prompted by Fourier features need {error.name}; install it with pip.") from error
    return FourierDecoder(config)
