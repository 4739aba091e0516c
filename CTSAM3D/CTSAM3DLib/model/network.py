"""CT-SAM3D in one class: encode a patch once, decode it at every click, propose where a structure goes on."""

from __future__ import annotations

from torch import Tensor, nn

from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.configs import NetworkConfig, config_named
from CTSAM3DLib.model.cross_patch import CrossPatchNetwork
from CTSAM3DLib.model.decoder import PromptDecoder
from CTSAM3DLib.model.encoder import ImageEncoder
from CTSAM3DLib.model.semantics import SemanticNetwork
from CTSAM3DLib.model.unet_encoder import UNetEncoder
from CTSAM3DLib.model.walk import Walk


class CTSAM3D(nn.Module):
    """The network of the paper's Fig. 2. Images are CT patches, LPS, scaled to [0, 1]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config) if config.encoder == "rest" else UNetEncoder(config)
        self.decoder = PromptDecoder(config) if config.prompting == "psap" else _fourier_decoder(config)
        self.cross_patch = CrossPatchNetwork(config)
        width, filters = config.semantic_width, config.semantic_filters
        self.semantics = SemanticNetwork(width, filters, config.semantic_places) if width else None
        self.walk = Walk(config.walk_width) if config.walk_width else None

    def encode(self, image: Tensor, vectors: Tensor | None = None) -> list[Tensor]:
        """(batch, 1, 64, 64, 64) to levels at 16³, 8³, 4³, 2³, after the image and 32³ with a `fine_width`.

        With a `semantic_width` what `semantics.py` knows at 32³ comes second; it is made here unless it is given.
        """
        levels = self.encoder(image)
        if self.semantics is not None:
            levels.insert(1, self.semantics(image) if vectors is None else vectors)
        return levels

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and prompts [previous, positive, negative] (batch, 3, 64, 64, 64) to (probability, quality)."""
        logits, quality = self.decoder(levels, prompts)
        return logits.sigmoid(), quality

    def propose(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """A heat map in the neighbour, (batch, 1, 64, 64, 64), of where the masked structure goes on."""
        return self.cross_patch(image, mask, neighbour)


def build(name: str) -> CTSAM3D:
    """An untrained network by name: `ctsam3d`, the paper's, or `ctsam3d-small`."""
    return CTSAM3D(config_named(name))


def _fourier_decoder(config: NetworkConfig) -> nn.Module:
    """Imported when it is asked for: only an ablation needs it, and MONAI with it. ModelError where that is missing."""
    try:
        from CTSAM3DLib.model.rff import FourierDecoder
    except ImportError as error:
        raise ModelError(f"Networks prompted by Fourier features need {error.name}; install it with pip.") from error
    return FourierDecoder(config)
