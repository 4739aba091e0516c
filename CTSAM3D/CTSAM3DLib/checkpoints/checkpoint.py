"""Checkpoints: read and write our safetensors with metadata, and read the published `params.pth`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor
from torch.torch_version import TorchVersion

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.checkpoints.released_config import read_window
from CTSAM3DLib.checkpoints.released_weights import translate
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.model.configs import PAPER, NetworkConfig
from CTSAM3DLib.model.network import CTSAM3D

FORMAT = "ctsam3d-1"
SAFE_TORCH = "2.10"
"""First version in which `torch.load` with `weights_only` cannot be made to execute code (CVE-2025-32434 before 2.6,
CVE-2026-24747 before 2.10)."""


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode with its metadata."""

    network: CTSAM3D
    info: ModelInfo
    file_hash: str
    """SHA-256 of the file, hexadecimal."""


def save(path: Path, network: CTSAM3D, info: ModelInfo) -> None:
    """Write weights (float16) and metadata as safetensors, atomically. Raises OutputError.

    The same model gives the same bytes.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "network": json.dumps(network.config.to_dict()),
        "info": json.dumps(dataclasses.asdict(info)),
    }
    with atomic_write(path) as temporary:
        # Not safetensors' own save_file, whose files only their owner may read.
        temporary.write_bytes(_in_order(serialize(tensors, metadata)))


def _in_order(content: bytes) -> bytes:
    """The same safetensors with sorted metadata; the package writes metadata in another order each time."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


def load(path: Path | str, window: tuple[float, float] | None = None) -> TrainedModel:
    """Read our safetensors, or the published `params.pth` with its `config.py` beside it.

    Args:
        path: the file of weights.
        window: HU window in place of the file's; the published weights need it where `config.py` is absent.

    Raises:
        ModelError: a missing file, a file of another kind, missing, unknown or misshapen tensors, or the published
            file where PyTorch is older than `SAFE_TORCH`.

    """
    if window is not None and not -math.inf < window[0] < window[1] < math.inf:
        raise ModelError(f"The HU window {window[0]:g} to {window[1]:g} is none; give two numbers, the lower first.")
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no model file {path}; check the path.")
    if path.suffix == ".safetensors":
        network, info = _read_ours(path)
    else:
        network, info = _read_published(path, window)
    if window is not None:
        info = dataclasses.replace(info, window=window)
    return TrainedModel(network.eval(), info, hashlib.sha256(path.read_bytes()).hexdigest())


def _read_ours(path: Path) -> tuple[CTSAM3D, ModelInfo]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); download it again.") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file but not a CT-SAM3D model; choose another file.")
    try:
        fields = json.loads(metadata["info"])
        info = ModelInfo(**{**fields, "window": tuple(fields["window"]), "labels": tuple(fields["labels"])})
        config = NetworkConfig.from_dict(json.loads(metadata["network"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not say what it is ({error}); download it again.") from error
    return _filled(config, tensors, path), info


def _read_published(path: Path, window: tuple[float, float] | None) -> tuple[CTSAM3D, ModelInfo]:
    if TorchVersion(torch.__version__) < SAFE_TORCH:
        raise ModelError(
            f"{path} is no safetensors file, and PyTorch {torch.__version__} may execute code in other files; "
            f"install PyTorch {SAFE_TORCH} or later, or give a model in a .safetensors file."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path} is neither a safetensors model nor a checkpoint that torch can read safely; choose another file."
        ) from error
    tensors = content.get("model_state_dict") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise ModelError(f"{path} is a torch file but not the published CT-SAM3D checkpoint (no 'model_state_dict').")
    if window is None:
        window = read_window(path.with_name("config.py"))
    return _filled(PAPER, translate(dict(tensors)), path), ModelInfo(name=PAPER.name, window=window)


def _filled(config: NetworkConfig, tensors: dict[str, Tensor], path: Path) -> CTSAM3D:
    """The network with these tensors. Raises ModelError unless names and shapes are exactly those of the network."""
    with torch.device("meta"):  # without memory: every tensor is about to be replaced
        network = CTSAM3D(config)
    expected = network.state_dict()
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    misshapen = sorted(k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape)
    for names, fault in ((missing, "lacks"), (unknown, "has unknown"), (misshapen, "has misshapen")):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelError(f"{path} does not fit the network {config.name}: it {fault} tensors ({shown}).")
    network.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}, assign=True)
    return network
