"""Draw the icons anew: `python docs/icons.py`. With `--sheet FILE`, also show them at 30 pixels on light and dark."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QPainter, QPen, QPolygonF

ROOT = Path(__file__).resolve().parents[1]
ICONS = {
    ROOT / "CTSAM3D.png": 128,
    ROOT / "CTSAM3D" / "Resources" / "Icons" / "CTSAM3D.png": 128,
    ROOT / "CTSAM3D" / "SegmentEditorCTSAM3DLib" / "SegmentEditorEffect.png": 64,
}
CANVAS = 64
"""The drawing's units along each side."""

BODY, RIM = QColor("#33475b"), QColor("#d5dee8")
SEGMENT, WHITE = QColor("#2fb86b"), QColor("#ffffff")
WOOD, LEAD, PAINT, ERASER = QColor("#f3d6a4"), QColor("#22303c"), QColor("#f5a623"), QColor("#e8543f")


def icon(size: int) -> QImage:
    """A slice of a body, a segment with a positive click in it, and the Segment Editor's pencil that clicks."""
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / CANVAS, size / CANVAS)
    # The rim is light, so that the slice stands out on dark; the body is dark, so that it does on light.
    painter.setPen(QPen(RIM, 3))
    painter.setBrush(BODY)
    painter.drawEllipse(QPointF(31, 37), 28.5, 24.5)
    painter.setPen(QPen(WHITE, 2))
    painter.setBrush(SEGMENT)
    painter.drawEllipse(QPointF(24, 39), 15, 14.5)
    painter.setPen(QPen(WHITE, 4.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap))
    painter.drawLine(QPointF(16, 41), QPointF(30, 41))
    painter.drawLine(QPointF(23, 34), QPointF(23, 48))
    _pencil(painter)
    painter.end()
    return image


def _pencil(painter: QPainter) -> None:
    """A pencil whose tip is at the click, along the diagonal to the upper right."""
    painter.save()
    painter.translate(29, 35)
    painter.rotate(-45)
    painter.setPen(QPen(LEAD, 1.6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap, Qt.PenJoinStyle.RoundJoin))
    painter.setBrush(WOOD)
    painter.drawPolygon(QPolygonF([QPointF(0, 0), QPointF(11, -6.5), QPointF(11, 6.5)]))
    painter.setBrush(PAINT)
    painter.drawRect(QRectF(11, -6.5, 22, 13))
    painter.setBrush(ERASER)
    painter.drawRoundedRect(QRectF(33, -6.5, 9, 13), 2.5, 2.5)
    painter.setBrush(LEAD)
    painter.drawPolygon(QPolygonF([QPointF(0, 0), QPointF(4.5, -2.6), QPointF(4.5, 2.6)]))
    painter.restore()


def sheet(enlarged: int = 6, small: int = 30) -> QImage:
    """The icon at 30 pixels on a light and a dark button, and both again enlarged."""
    tile = small + 10
    image = QImage(2 * tile * (1 + enlarged), tile * enlarged, QImage.Format.Format_RGB32)
    image.fill(QColor("#808080"))
    painter = QPainter(image)
    reduced = icon(64).scaled(
        small, small, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
    for column, colour in enumerate(("#efefef", "#353535")):
        button = QImage(tile, tile, QImage.Format.Format_RGB32)
        button.fill(QColor(colour))
        on_button = QPainter(button)
        on_button.drawImage(5, 5, reduced)
        on_button.end()
        painter.drawImage(column * tile, 0, button)
        left = 2 * tile + column * tile * enlarged
        painter.drawImage(left, 0, button.scaled(tile * enlarged, tile * enlarged))
    painter.end()
    return image


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="a PNG that shows the icon small, on light and dark")
    options = parser.parse_args()
    application = QGuiApplication([])
    for path, size in ICONS.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        icon(size).save(str(path))
    if options.sheet:
        sheet().save(str(options.sheet))
