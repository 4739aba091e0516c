"""`python -m CTSAM3DServer` is `ctsam3d serve`."""

import sys

from CTSAM3DLib.cli import app, run_command

run_command(lambda: app(["serve", *sys.argv[1:]], prog_name="ctsam3d"))
