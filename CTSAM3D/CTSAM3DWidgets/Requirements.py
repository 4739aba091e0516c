"""What segmenting on this computer needs beyond Slicer: PyTorch, by its own extension, and a few packages.

Nothing is installed before the user agreed, and the user is asked once, with the whole list. Where a server predicts,
one small package is all that is needed here.
"""

from __future__ import annotations

import logging
import os
from subprocess import CalledProcessError

import slicer
import slicer.packaging
from slicer.i18n import tr as _

from CTSAM3DLib.errors import CTSAM3DError

TORCH_VERSIONS = ">=2.4"
TORCH = "torch" + TORCH_VERSIONS
SERVER_PACKAGES = ("zstandard",)
"""All that is needed where a server predicts; what is sent is compressed with it."""
REQUIREMENTS_FILE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "Resources", "requirements.txt")


class Requirements:
    """What is missing, and its installation. One per application, so that a refusal is remembered until it restarts."""

    def __init__(self, requirementsFile: str = REQUIREMENTS_FILE) -> None:
        self._requirementsFile = requirementsFile
        self._declined = False
        self._complete: set[bool] = set()

    def missing(self, forServers: bool = False) -> list[str]:
        """What has to be installed, for this computer or only for servers; nothing is imported to find out."""
        from packaging.requirements import Requirement

        packages = slicer.packaging.load_requirements(self._requirementsFile)
        if forServers:
            needed = [package for package in packages if package.name in SERVER_PACKAGES]
        else:
            needed = [Requirement(TORCH), *packages]
        return [str(package) for package in needed if not slicer.packaging.pip_check(package)]

    def ensure(self, forServers: bool = False) -> None:
        """Return when everything is there, asking to install what is not. Raises CTSAM3DError."""
        if forServers in self._complete:  # asked at every click, and what is installed stays
            return
        missing = self.missing(forServers)
        if missing and self._declined:
            raise CTSAM3DError(
                _("Packages are missing ({packages}); press Install in the CT-SAM3D module.").format(
                    packages=", ".join(missing)
                )
            )
        if missing:
            self.install(missing)
        self._complete.add(forServers)

    def install(self, missing: list[str]) -> None:
        """Ask, and install. Raises CTSAM3DError where the user refuses or an installation fails."""
        agreed = slicer.util.confirmOkCancelDisplay(
            _(
                "CT-SAM3D needs Python packages that Slicer does not bring. Download and install them now? "
                "If PyTorch is among them, this may take minutes and some gigabytes."
            ),
            _("CT-SAM3D: install packages"),
            detailedText="\n".join(missing),
        )
        self._declined = not agreed
        if not agreed:
            raise CTSAM3DError(_("The packages were not installed; press Install in the CT-SAM3D module later."))
        if TORCH in missing:
            self._installTorch()
        requirements = slicer.packaging.load_requirements(self._requirementsFile)
        try:
            slicer.packaging.pip_ensure(
                [requirement for requirement in requirements if str(requirement) in missing],
                skip_packages=["torch"],
                prompt_install=False,
                requester="CT-SAM3D",
            )
        except (RuntimeError, CalledProcessError) as error:
            logging.exception("CT-SAM3D packages could not be installed")
            raise CTSAM3DError(
                _("The packages could not be installed ({error}); see the application's log.").format(error=error)
            ) from error

    def _installTorch(self) -> None:
        try:
            import PyTorchUtils
        except ModuleNotFoundError as error:
            raise CTSAM3DError(
                _("The PyTorch extension is missing; install it with the Extensions Manager and restart Slicer.")
            ) from error
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=False, torchVersionRequirement=TORCH_VERSIONS
        )
        if torch is None:
            raise CTSAM3DError(_("PyTorch could not be installed; try it in the PyTorch module, which shows why."))
