"""The commands `ctsam3d serve` and `ctsam3d serve keys`."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from CTSAM3DLib.errors import CTSAM3DError, OutputError
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DServer.keys import KeyFile
from CTSAM3DServer.settings import Settings

app = typer.Typer(
    help="Serve segmentation to Slicer and scripts, on this computer or on others.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="Make, list and revoke users' keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")

KEYS_FILE = Path(typer.get_app_dir("ctsam3d"), "keys.json")
KeysFile = Annotated[Path, typer.Option(envvar="CTSAM3D_KEYS_FILE", help="The file of keys.")]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(envvar="CTSAM3D_HOST", help="0.0.0.0 serves others too.")] = Settings.host,
    port: Annotated[int, typer.Option(envvar="CTSAM3D_PORT", min=0, max=65535, help="0: any.")] = Settings.port,
    models: Annotated[
        list[str] | None,
        typer.Option(envvar="CTSAM3D_MODELS", help="A bundled model or a file of weights. Repeatable."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(envvar="CTSAM3D_DEVICE", help="cpu, cuda, cuda:1; default the best there is.")
    ] = None,
    memory: Annotated[
        float, typer.Option(envvar="CTSAM3D_MEMORY", help="GiB to keep tiles, features and masks in.")
    ] = Settings.memory / 2**30,
    keys_file: Annotated[
        Path | None,
        typer.Option(envvar="CTSAM3D_KEYS_FILE", help="Who may use the server; needed to serve others."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(envvar="CTSAM3D_TLS_CERT", help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="CTSAM3D_TLS_KEY", help="Its key, PEM.")] = None,
    local: Annotated[bool, typer.Option("--local", hidden=True)] = False,
) -> None:
    """Serve until Ctrl-C. Without keys only this computer is served; every setting has a CTSAM3D_... variable too."""
    if context.invoked_subcommand is not None:
        return
    if keys_file is None and not is_loopback(host) and KEYS_FILE.exists():
        keys_file = KEYS_FILE
    settings = Settings(
        host=host,
        port=port,
        models=tuple(models or Settings.models),
        device=device,
        memory=int(memory * 2**30) if math.isfinite(memory) else 0,
        keys_file=keys_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    settings.check()
    level = logging.WARNING if local else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")

    try:
        # These import torch, which would slow down --help and the handling of keys.
        from CTSAM3DServer.local_child import serve_parent
        from CTSAM3DServer.run import Server, load_models
    except ModuleNotFoundError as missing:
        raise CTSAM3DError(
            f"The server needs {missing.name}, which is missing; install it by: pip install 'ctsam3d[server]'."
        ) from missing

    if local:
        serve_parent(settings)
        return
    trained = load_models(settings.models, lambda status: typer.echo(status, err=True))
    server = Server(settings, trained)
    if settings.unencrypted:
        typer.echo(
            "warning: keys and images cross the network unencrypted; give --tls-cert and --tls-key, or let a reverse "
            "proxy speak https.",
            err=True,
        )
    typer.echo(f"serving at {server.address}; Ctrl-C ends it", err=True)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
        server.serve()


@keys.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    keys_file: KeysFile = KEYS_FILE,
) -> None:
    """Make a key for a user, and print it this once."""
    try:
        keys_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {keys_file.parent} cannot be made ({error.strerror}).") from error
    typer.echo(KeyFile(keys_file).add(name))
    typer.echo(f"This is the key of {name}; it is not kept and cannot be shown again. File: {keys_file}", err=True)


@keys.command("list")
def list_keys(keys_file: KeysFile = KEYS_FILE) -> None:
    """List the users who have a key."""
    for entry in KeyFile(keys_file).entries:
        typer.echo(f"{entry.name}\t{entry.created}")


@keys.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key it was.")],
    keys_file: KeysFile = KEYS_FILE,
) -> None:
    """End a user's key at once, also for a server that is running."""
    KeyFile(keys_file).revoke(name)
    typer.echo(f"{name} is refused from now on.")
