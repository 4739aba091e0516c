"""`ctsam3d web` from its start to its end."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.interaction.backends import KnownServer
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DServer.settings import SettingsError
from CTSAM3DServer.web.gateway.front import Front
from CTSAM3DServer.web.gateway.model_servers import Networks
from CTSAM3DServer.web.gateway.processes import Workspaces
from CTSAM3DServer.web.handover import Start


@dataclass(frozen=True)
class WebSettings:
    """What `ctsam3d web` is told."""

    models: Mapping[str, Path]
    """Weights on this computer by the models' names; the first is chosen at the beginning."""
    host: str = "127.0.0.1"
    port: int = 8910
    """0: any free one."""
    device: str | None = None
    ct: Path | None = None
    servers: tuple[KnownServer, ...] = ()
    tls: ssl.SSLContext | None = None
    keep: Path | None = None
    """A folder in which workspaces are kept from one run to the next; else they end with this one."""


def serve_web(settings: WebSettings, ready: Callable[[str], None]) -> None:
    """Serve pages until Ctrl-C. `ready` gets the address with its key. Raises CTSAM3DError."""
    asyncio.run(_serve(settings, ready))


async def _serve(settings: WebSettings, ready: Callable[[str], None]) -> None:
    secret = secrets.token_urlsafe(32)
    networks = Networks(settings.models, settings.device)
    with _folder(settings.keep) as folder:
        key = _key(folder)
        control = web.AppRunner(_control(networks, secret))
        await control.setup()
        await web.TCPSite(control, "127.0.0.1", 0).start()
        start = Start(
            folder=folder,
            front=f"http://127.0.0.1:{control.addresses[0][1]}",
            secret=secret,
            models=tuple(settings.models),
            servers=settings.servers,
            ct=settings.ct,
        )
        workspaces = Workspaces(start)
        front = Front(workspaces, key)
        door = web.AppRunner(front.app(), access_log=None)
        await door.setup()
        try:
            try:
                await web.TCPSite(door, settings.host, settings.port, ssl_context=settings.tls).start()
            except OSError as error:
                raise SettingsError(
                    f"{settings.host}, port {settings.port}, cannot be listened on ({error.strerror}); choose another."
                ) from error
            workspaces.prepare()
            warm = asyncio.create_task(asyncio.to_thread(networks.endpoint, next(iter(settings.models))))
            idle = asyncio.create_task(workspaces.end_idle())
            ready(_address(settings, door.addresses[0][1], key))
            await _told_to_end()
            idle.cancel()
            warm.cancel()
        finally:
            await workspaces.end()
            await front.close()
            await door.cleanup()
            await control.cleanup()
            networks.stop()


def _control(networks: Networks, secret: str) -> web.Application:
    """What workspaces ask of the front: where the network is."""

    async def network(request: web.Request) -> web.Response:
        if not secrets.compare_digest(request.headers.get("Authorization", ""), f"Bearer {secret}"):
            return web.json_response({"error": "This is not for you."}, status=403)
        try:
            endpoint = await asyncio.to_thread(networks.endpoint, (await request.json())["model"])
        except CTSAM3DError as error:
            return web.json_response({"error": str(error)})
        return web.json_response({"address": endpoint.address, "key": endpoint.key})

    app = web.Application()
    app.router.add_post("/network", network)
    return app


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where workspaces are, for their owner alone. Raises SettingsError."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ctsam3d-web-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"The folder {keep} cannot be made ({error.strerror}); choose another.") from error
    yield keep.resolve()


def _key(folder: Path) -> str:
    """The key of this folder, so that pages which are open find their way back. Raises OutputError."""
    file = folder / "key"
    if not file.exists():
        with atomic_write(file) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_urlsafe(16), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


async def _told_to_end() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, told.set)
        except NotImplementedError:  # Windows: Ctrl-C ends the loop by KeyboardInterrupt
            break
    await told.wait()


def _address(settings: WebSettings, port: int, key: str) -> str:
    scheme = "http" if settings.tls is None else "https"
    host = settings.host
    if not is_loopback(host) and ipaddress.ip_address(host).is_unspecified:
        host = "THIS-COMPUTER"
    return f"{scheme}://{host}:{port}/?key={key}"
