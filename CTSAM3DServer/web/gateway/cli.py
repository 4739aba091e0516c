"""`ctsam3d web`."""

from __future__ import annotations

import logging
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from CTSAM3DLib.checkpoints.model_store import ModelStore
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DServer.settings import tls_context

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def web(
    ct: Annotated[Path | None, typer.Argument(help="A CT to open: a file, or a DICOM folder.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets others in, who need the printed address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any.")] = 8910,
    model: Annotated[str, typer.Option(help="The model to begin with; see `ctsam3d models`.")] = "ctsam3d-small",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default the best there is.")] = None,
    server: Annotated[list[str] | None, typer.Option(help="A server that the page offers, too. Repeatable.")] = None,
    server_key: Annotated[
        str | None, typer.Option(envvar="CTSAM3D_SERVER_KEY", help="The key of these servers.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, PEM, to speak https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep what pages hold in this folder, for the next run. Else it ends with this one."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Serve a page on which a CT is segmented by clicking. Ctrl-C ends it."""
    if ct is not None and not ct.exists():
        raise CTSAM3DError(f"There is no CT at {ct}; check the path.")
    models = {stored.name: stored.path for stored in ModelStore().models()}
    first = ModelStore().find(model)
    tls = tls_context(tls_cert, tls_key)
    try:
        from CTSAM3DLib.interaction.backends import KnownServer
        from CTSAM3DLib.remote.connection import complete_address
        from CTSAM3DServer.web.gateway.run import WebSettings, serve_web
    except ModuleNotFoundError as missing:
        raise CTSAM3DError(
            f"The page needs {missing.name}, which is missing; install it by: pip install 'ctsam3d[web]'."
        ) from missing
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    settings = WebSettings(
        models={first.name: first.path, **models},
        host=host,
        port=port,
        device=device,
        ct=None if ct is None else ct.resolve(),
        servers=tuple(KnownServer(complete_address(one), key=server_key) for one in server or []),
        tls=tls,
        keep=keep,
    )
    if tls is None and not is_loopback(host):
        typer.echo("warning: the page crosses the network unencrypted; give --tls-cert and --tls-key.", err=True)

    def ready(address: str) -> None:
        typer.echo(f"the page is at {address}\nCtrl-C ends it", err=True)
        if browser and is_loopback(host):
            webbrowser.open(address)

    with suppress(KeyboardInterrupt):
        serve_web(settings, ready)
