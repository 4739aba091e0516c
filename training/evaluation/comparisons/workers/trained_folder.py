"""A folder such as nnU-Net's training leaves, with a small random network in it.

It stands in for weights that cannot be had, so that a system reads it and works by its own code from end to end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

CONFIGURATION = "3d_fullres"
_NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
_STAGES = 4
_ARGUMENTS = {
    "n_stages": _STAGES,
    "features_per_stage": [8, 16, 32, 32],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * _STAGES,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * (_STAGES - 1)],
    "n_conv_per_stage": [1] * _STAGES,
    "n_conv_per_stage_decoder": [1] * (_STAGES - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_IMPORTS = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def write_random_training(
    folder: Path, labels: Sequence[str], spacing_mm: float, trainer: str, channels: int = 1, patch: int = 64
) -> None:
    """Write plans, the data set's description and a checkpoint of fold 0 for CTs.

    `labels` are the names of 1, 2, ...; `channels` those that go into the network.
    """
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    statistics = {"mean": 0, "std": 300, "min": -1024, "max": 2000, "median": 0}
    plans = {
        "dataset_name": folder.parent.name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": [patch] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {**statistics, "percentile_00_5": -1000, "percentile_99_5": 1000}
        },
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [patch] * 3,
                "median_image_size_in_voxels": [patch] * 3,
                "spacing": [spacing_mm] * 3,
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": False,
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": resampling,
                "architecture": {
                    "network_class_name": _NETWORK,
                    "arch_kwargs": _ARGUMENTS,
                    "_kw_requires_import": _IMPORTS,
                },
            }
        },
    }
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: value for value, name in enumerate(labels, 1)}},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    network = get_network_from_plans(_NETWORK, _ARGUMENTS, _IMPORTS, channels, len(labels) + 1, deep_supervision=False)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": trainer,
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": None,
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
