"""What segmenting on this computer needs beyond Slicer: PyTorch, by its own extension, and a few packages.

Nothing is installed before the user agreed, and the user is asked once, with the whole list. A server needs none of
this here.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

from CTSAM3DLib.errors import CTSAM3DError

TORCH_VERSIONS = ">=2.4"
REQUIREMENTS_FILE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "Resources", "requirements.txt")


class Requirements:
    """What is missing, and its installation. One per application, so that a refusal is remembered until it restarts."""

    def __init__(self, requirementsFile: str = REQUIREMENTS_FILE) -> None:
        self._requirementsFile = requirementsFile
        self._declined = False
        self._complete = False

    def missing(self) -> list[str]:
        """What has to be installed, as in requirements.txt; looks for packages without importing them."""
        packages = [
            str(requirement)
            for requirement in slicer.packaging.load_requirements(self._requirementsFile)
            if not slicer.packaging.pip_check(requirement)
        ]
        torch = [] if importlib.util.find_spec("torch") is not None else ["torch" + TORCH_VERSIONS]
        return torch + packages

    def ensure(self) -> None:
        """Return when everything is there, asking to install what is not. Raises CTSAM3DError."""
        if self._complete:  # asked at every click, and what is installed stays
            return
        missing = self.missing()
        self._complete = not missing
        if self._complete:
            return
        if self._declined:
            raise CTSAM3DError(
                _("This computer lacks packages; press Install in the CT-SAM3D module, or choose a server.")
            )
        self.install(missing)

    def install(self, missing: list[str]) -> None:
        """Ask, and install. Raises CTSAM3DError where the user refuses or an installation fails."""
        agreed = slicer.util.confirmOkCancelDisplay(
            _(
                "To segment on this computer, CT-SAM3D needs Python packages that Slicer does not bring, PyTorch among "
                "them. Download and install them now? This may take minutes and some gigabytes."
            ),
            _("CT-SAM3D: install packages"),
            detailedText="\n".join(missing),
        )
        self._declined = not agreed
        if not agreed:
            raise CTSAM3DError(_("The packages were not installed; choose a server, or press Install later."))
        if any(name.startswith("torch") for name in missing):
            self._installTorch()
        try:
            slicer.packaging.pip_ensure(
                slicer.packaging.load_requirements(self._requirementsFile),
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
