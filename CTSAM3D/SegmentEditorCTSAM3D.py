"""Hidden module that gives the Segment Editor its effect CT-SAM3D."""

from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class SegmentEditorCTSAM3D(ScriptedLoadableModule):
    """Registers the effect once Slicer has loaded its modules; it has no panel of its own."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "SegmentEditorCTSAM3D"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Markups"]
        self.parent.contributors = ["The CT-SAM3D extension developers"]
        self.parent.hidden = True
        self.parent.helpText = _("Registers the Segment Editor effect CT-SAM3D, which segments a structure by clicks.")
        self.parent.acknowledgementText = _(
            "The network is that of H. Guo et al., Towards a Comprehensive, Efficient and Promptable Anatomic "
            "Structure Segmentation Model using 3D Whole-body CT Scans."
        )
        slicer.app.connect("startupCompleted()", self.registerEditorEffect)

    def registerEditorEffect(self):
        """Make the effect's prototype, which every Segment Editor clones."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        # The package has to be in sys.modules first: setPythonSource would otherwise load the file as a plain module of
        # the folder's name, in which the effect's relative imports fail.
        import SegmentEditorCTSAM3DLib

        source = Path(SegmentEditorCTSAM3DLib.__file__).with_name("SegmentEditorEffect.py")
        effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        effect.setPythonSource(source.as_posix())
        effect.self().register()
