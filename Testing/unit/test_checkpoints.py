"""Models on disk: what is saved comes back, and what is no model is refused in one sentence without running it."""

import dataclasses
import hashlib
import json
import os
import pickle
import re
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DLib.errors import ModelError, OutputError
from CTSAM3DLib.model import build
from CTSAM3DLib.model.configs import PAPER, SMALL, config_named
from Testing.relative import off
from Testing.unit.golden import HERE

INFO = ModelInfo(
    name="ctsam3d-small",
    window=(-500.0, 700.5),
    labels=("liver", "kidney_left"),
    data_hash="0123abcd",
    licence="CC BY 4.0",
    card="# A card\nwith two lines, and a sign: ≤",
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("ctsam3d-small").eval()


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, network, INFO)
    return path


@pytest.fixture
def published():
    """The published checkpoint's tensors, all zero, which take no room."""
    shapes = json.loads((HERE / "published_tensors.json").read_text())
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def refused(path, pattern, window=(-500, 700)):
    """The message of the ModelError that `load` raises: one sentence about this file."""
    with pytest.raises(ModelError, match=pattern) as raised:
        load(path, window)
    message = str(raised.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


def resave(file, change_tensors=lambda tensors: None, **metadata):
    """Write the file again with changed tensors or metadata (None takes an entry away)."""
    with safe_open(file, framework="pt") as opened:
        kept = {**opened.metadata(), **metadata}
    tensors = load_file(file)
    change_tensors(tensors)
    save_file(tensors, file, {key: value for key, value in kept.items() if value is not None})


# What is saved comes back.


def test_round_trip(network, file):
    loaded = load(file)
    assert loaded.info == INFO
    assert loaded.network.config == SMALL
    assert not loaded.network.training
    ours, theirs = network.state_dict(), loaded.network.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert theirs[name].dtype == tensor.dtype
        torch.testing.assert_close(theirs[name], tensor, rtol=2**-10, atol=2**-24, msg=name)


def test_the_same_answer_comes_back(network, file):
    rng = torch.Generator().manual_seed(1)
    image, prompts = torch.rand((1, 1, 64, 64, 64), generator=rng), torch.rand((1, 3, 64, 64, 64), generator=rng)
    with torch.inference_mode():
        expected, _ = network.decode(network.encode(image), prompts)
        again = load(file).network
        answer, _ = again.decode(again.encode(image), prompts)
    assert off(answer, expected) < 0.02


def test_the_hash_is_the_files(file):
    before = load(file).file_hash
    assert before == hashlib.sha256(file.read_bytes()).hexdigest()
    resave(file, lambda tensors: tensors["decoder.quality_head.4.bias"].add_(1))
    assert load(file).file_hash != before


def test_the_same_model_is_the_same_file(file, tmp_path):
    model = load(file)
    for number in range(6):
        again = tmp_path / f"again-{number}.safetensors"
        save(again, model.network, model.info)
        assert again.read_bytes() == file.read_bytes()


def test_a_given_window_replaces_the_files(file):
    assert load(file, (-160, 240)).info == ModelInfo(**{**vars(INFO), "window": (-160, 240)})


def test_others_may_read_the_file(network, tmp_path):
    before = os.umask(0o022)
    try:
        save(tmp_path / "model.safetensors", network, INFO)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o644


# Nothing is half-written.


def test_no_such_folder(network, tmp_path):
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(OutputError, match="does not exist"):
            save(tmp_path / folder / "model.safetensors", network, INFO)
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_model(network, file, monkeypatch):
    old = file.read_bytes()

    def fill_the_disk(path, content):
        with open(path, "wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fill_the_disk)
    with pytest.raises(OutputError, match="the disk is full"):
        save(file, network, INFO)
    assert file.read_bytes() == old
    assert os.listdir(file.parent) == [file.name]


# What is no model is refused.


def test_missing_file(tmp_path):
    for path in (tmp_path / "model.safetensors", tmp_path / "params.pth", tmp_path):
        refused(path, "There is no model file")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(range(256)) * 64, b"PK\x03\x04 and then nothing"])
@pytest.mark.parametrize("name", ["model.safetensors", "params.pth"])
def test_file_of_another_kind(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    refused(path, "not a readable safetensors file|neither a safetensors model nor a checkpoint")


def test_truncated_download(file):
    file.write_bytes(file.read_bytes()[:-1000])
    refused(file, "not a readable safetensors file .* download it again")


def test_truncated_published_download(tmp_path):
    path = tmp_path / "params.pth"
    torch.save({"model_state_dict": {"a": torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[:10000])
    refused(path, "neither a safetensors model nor a checkpoint")


def test_safetensors_of_another_program(tmp_path):
    path = tmp_path / "unet.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, path, metadata)
        refused(path, "not a CT-SAM3D model")


@pytest.mark.parametrize(
    "info", [None, "{}", "[]", "no JSON", '{"name": "x", "window": [0, 1], "labels": [], "new": 1}']
)
def test_metadata_that_says_too_little(info, file):
    resave(file, info=info)
    refused(file, "does not say what it is")


def test_network_of_another_version(file):
    resave(file, network=json.dumps({**SMALL.to_dict(), "depth": 3}))
    with pytest.raises(ModelError, match=r"does not fit this version .*depth"):
        load(file)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return os.mkdir, (self.witness,)


@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_a_pickle_is_not_executed(writer, tmp_path):
    path, witness = tmp_path / "params.pth", tmp_path / "witness"
    content = {"model_state_dict": {"weight": Malicious(witness)}}
    writer(content, path)
    refused(path, "neither a safetensors model nor a checkpoint that torch can read safely")
    assert not witness.exists()
    pickle.loads(pickle.dumps(content))
    assert witness.exists(), "this file would not have done any harm"


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"model_state_dict": [1]}, torch.zeros(3)])
def test_torch_files_of_another_kind(content, tmp_path):
    path = tmp_path / "params.pth"
    torch.save(content, path)
    refused(path, "not the published CT-SAM3D checkpoint")


# A tensor missing, too many, or misshapen is named.


@pytest.mark.parametrize("version", ["2.4.0", "2.6.0+cpu", "2.9.1+cu128", "2.10.0a0+git1"])
def test_a_torch_that_executes_files_reads_none(version, published, tmp_path, monkeypatch):
    path = tmp_path / "params.pth"
    torch.save({"model_state_dict": published}, path)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("the file was opened"))
    assert version in refused(path, "install PyTorch 2.10 or later")


@pytest.mark.parametrize("version", ["2.4.0", torch.__version__])
def test_safetensors_are_read_by_any_torch(version, network, file, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert load(file).info == INFO


@pytest.mark.parametrize("version", ["2.10.0", "2.10.0+cpu", "2.13.0", "3.0.0", torch.__version__])
def test_a_newer_torch_reads_the_published_file(version, published, tmp_path, monkeypatch):
    path = tmp_path / "params.pth"
    torch.save({"model_state_dict": published}, path)
    monkeypatch.setattr(torch, "__version__", version)
    assert load(path, (-500, 700)).info.window == (-500, 700)


def test_tensors_of_ours(file):
    original = file.read_bytes()
    for change, pattern in (
        (lambda t: t.pop("decoder.quality_head.4.bias"), r"lacks tensors \(decoder.quality_head.4.bias\)"),
        (lambda t: t.update(extra=torch.zeros(1)), r"has unknown tensors \(extra\)"),
        (
            lambda t: t.update({"decoder.quality_head.4.bias": torch.zeros(3)}),
            r"misshapen tensors \(decoder.quality_head.4.bias\)",
        ),
    ):
        file.write_bytes(original)
        resave(file, change)
        assert "ctsam3d-small" in refused(file, pattern)


def test_many_missing_tensors_are_counted(file):
    def lose_the_encoder(tensors):
        for name in [name for name in tensors if name.startswith("encoder.")]:
            del tensors[name]

    resave(file, lose_the_encoder)
    message = refused(file, r"lacks tensors .* and \d+ more")
    assert len(message) < 400


HEAD, GAMMA = "mask_decoder.mask_prediction_head.0.bias", "mask_decoder.spade1.norm_0.mlp_gamma.bias"
BETA = GAMMA.replace("gamma", "beta")


@pytest.mark.parametrize(
    ("name", "tensor", "pattern"),
    [
        (HEAD, None, "lacks tensors .*decoder.mask_head.bias"),
        (HEAD, torch.zeros(3), "misshapen tensors .*decoder.mask_head.bias"),
        (GAMMA, None, "lacks tensors .*decoder.blocks.0.norm0.scale_and_shift.bias"),
        (BETA, None, f"lacks the tensor '{BETA}'"),
        (BETA, torch.zeros(2, 2), f"lacks the tensor '{BETA}' in the right shape"),
        ("unheard_of.weight", torch.zeros(1), "unknown tensors .*unheard_of.weight"),
    ],
)
def test_tensors_of_the_published_checkpoint(name, tensor, pattern, published, tmp_path):
    if tensor is None:
        del published[name]
    else:
        published[name] = tensor
    path = tmp_path / "params.pth"
    torch.save({"model_state_dict": published}, path)
    with pytest.raises(ModelError, match=pattern):
        load(path, window=(-500, 700))


def test_unknown_network():
    assert config_named("ctsam3d") is PAPER
    for find in (config_named, load_model):
        with pytest.raises(ModelError, match=r"no (network|model) called 'ctsam4d'; choose one of: .*ctsam3d-small"):
            find("ctsam4d")
    with pytest.raises(ModelError, match=r"give its downloaded params\.pth"):
        load_model("ctsam3d")


# The bundled model.


@pytest.mark.skipif("ctsam3d-small" not in bundled_models(), reason="this checkout has no bundled model")
def test_bundled_model():
    path = bundled_models()["ctsam3d-small"]
    assert path.stat().st_size <= 16 * 2**20
    model = load_model()
    assert dataclasses.replace(model.network.config, walk_width=0) == SMALL
    assert model.network.config.walk_width == 16
    assert all(torch.isfinite(tensor).all() for tensor in model.network.state_dict().values())
    info = model.info
    low, high = info.window
    assert -1100 <= low < high <= 3100
    assert info.name == "ctsam3d-small"
    assert len(info.labels) >= 10
    assert info.licence
    assert len(info.card) > 500
    assert re.fullmatch("[0-9a-f]{8,64}", info.data_hash)
