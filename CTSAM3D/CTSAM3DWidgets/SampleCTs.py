"""CTs for a first try, in the module Sample Data.

They are Slicer's own samples: the extension hosts and downloads nothing itself, and Slicer checks and caches them.
"""

from __future__ import annotations

import functools

import slicer

CATEGORY = "CT-SAM3D"
SAMPLES = {
    "CT-SAM3D chest": "CTChest",
    "CT-SAM3D heart": "CTACardio",
    "CT-SAM3D liver": "CTLiver",
}
"""What a sample is called here, and what Slicer calls it."""


def registerSampleCTs(thumbnail: str) -> None:
    """Offer the samples, with a picture for their buttons; call it once Slicer's modules are loaded."""
    import SampleData

    for name, slicersName in SAMPLES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=[],  # Slicer counts these, and the function below downloads all the same
            fileNames=[],
            thumbnailFileName=thumbnail,
            customDownloader=functools.partial(_download, slicersName),
        )


def _download(slicersName: str, source):
    import SampleData

    node = SampleData.downloadSample(slicersName)
    if node is not None:
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node
