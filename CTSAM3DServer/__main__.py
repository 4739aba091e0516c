"""`python -m CTSAM3DServer`: the same as `ctsam3d serve`."""

from CTSAM3DLib.run_command import run_command
from CTSAM3DServer.cli import app

run_command(lambda: app(prog_name="ctsam3d serve"))
