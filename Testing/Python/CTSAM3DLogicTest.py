"""Run by ctest inside Slicer: the module, its panel and its logic as they are installed. No torch, no network."""

import sys
import unittest

import slicer
import slicer.packaging

import CTSAM3D


class CTSAM3DLogicTest(unittest.TestCase):
    """What does not need the Segment Editor."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_nothing_heavy_was_imported_at_start(self):
        self.assertNotIn("torch", sys.modules)
        self.assertNotIn("monai", sys.modules)

    def test_modules_are_there(self):
        self.assertEqual(slicer.modules.ctsam3d.title, "CT-SAM3D")
        self.assertTrue(slicer.modules.segmenteditorctsam3d.hidden)

    def test_requirements_can_be_read(self):
        path = slicer.modules.CTSAM3DInstance.resourcePath("requirements.txt")
        names = [requirement.name for requirement in slicer.packaging.load_requirements(path)]
        self.assertIn("safetensors", names)
        self.assertNotIn("torch", names)

    def test_self_test(self):
        CTSAM3D.CTSAM3DTest().runTest()


if __name__ == "__main__":
    unittest.main()
