"""The exhibits (tables and figures) of the paper: their data sets, structures and numbers of clicks.

The paper does not say how many clicks Figure 3 and supplementary Figures 4 and 5 rest on; they are drawn at five here,
as Table 1. It does not say those of Table 4 either; its row of the full model equals Table 2 at three.
"""

from __future__ import annotations

from training.exhibits.queries import Query
from training.exhibits.tables import TableSpec

TOTALSEG, FLARE22, BTCV, PANCREAS, COLON = "totalsegpp", "flare22", "btcv", "msd-pancreas", "msd-colon"
DATASETS = {
    TOTALSEG: "TotalSeg++, its test split",
    FLARE22: "FLARE22",
    BTCV: "BTCV",
    PANCREAS: "MSD Pancreas, tumours",
    COLON: "MSD Colon, cancer",
}
"""Names of data sets in the results, as exhibits ask for them, and what they are called."""

FLARE22_ORGANS = (
    *("liver", "kidney_right", "spleen", "pancreas", "aorta", "inferior_vena_cava", "adrenal_gland_right"),
    *("adrenal_gland_left", "gallbladder", "esophagus", "stomach", "duodenum", "kidney_left"),
)
BTCV_ORGANS = (*(organ for organ in FLARE22_ORGANS if organ != "duodenum"), "portal_vein_and_splenic_vein")

DEFAULT_CLICKS = 5
"""Of the exhibits for which the paper gives none."""
CLICKS = (1, 3, 5, 7, 9)
TUMOUR_CLICKS = 10

TABLES = (
    TableSpec(
        "table1",
        "Table 1: organs of FLARE22 after 5 clicks",
        (
            *(Query(organ, FLARE22, (organ,), 5) for organ in FLARE22_ORGANS),
            Query("mean", FLARE22, FLARE22_ORGANS, 5, compared=True),
        ),
        by_metric=True,
        note="± is the standard deviation over cases; the mean is that of the means of the organs that a system has.",
    ),
    TableSpec(
        "table2",
        "Table 2: BTCV after 1 and 3 clicks",
        tuple(Query("mean", BTCV, BTCV_ORGANS, clicks, compared=True) for clicks in (1, 3)),
    ),
    TableSpec(
        "table3",
        "Table 3: tumours, after 10 clicks",
        (
            Query("pancreas_tumor", PANCREAS, ("cancer",), TUMOUR_CLICKS, compared=True),
            Query("colon_cancer", COLON, ("colon cancer primaries",), TUMOUR_CLICKS, compared=True),
        ),
        note="The paper says under 10 clicks. Automatic systems take none.",
    ),
    TableSpec(
        "table4",
        "Table 4: image encoders and ways to prompt, after 3 clicks",
        (
            Query("FLARE22", FLARE22, FLARE22_ORGANS, 3, compared=True),
            Query("BTCV", BTCV, BTCV_ORGANS, 3, compared=True),
        ),
    ),
    TableSpec(
        "table5",
        "Table 5: cross-patch prompts on large organs, after 1 click",
        tuple(
            Query(f"{title} {organ}", dataset, (organ,), 1, compared=True)
            for organ in ("liver", "aorta")
            for title, dataset in (("FLARE22", FLARE22), ("BTCV", BTCV))
        ),
    ),
    TableSpec(
        "supplementary2",
        "Supplementary Table 2: automatic systems on FLARE22",
        (Query("mean", FLARE22, FLARE22_ORGANS, 5, compared=True),),
        note="CT-SAM3D after 5 clicks; automatic systems take none.",
    ),
)
