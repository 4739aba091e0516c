"""A network link of a given rate and delay, as a TCP relay on loopback that counts bytes."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK = 16 * 1024


class SlowLink:
    """A relay to the server at `address`: all connections share `rate` bit/s each way, and each way takes `delay` s.

    Opening a connection takes a round trip, as TCP's handshake does. TCP's slow start is not imitated.
    """

    def __init__(self, address: str, rate: float, delay: float) -> None:
        target = urlsplit(address)
        self._host, self._port = target.hostname, target.port
        self._delay = delay
        self.up, self.down = _Direction(rate, delay), _Direction(rate, delay)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> SlowLink:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _run(self) -> None:
        """Relay until the end, which cancels what is still underway."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # the link's end, of which asyncio would complain
            await asyncio.sleep(2 * self._delay)
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            await asyncio.gather(self.up.carry(reader, server_writer), self.down.carry(server_reader, writer))


class _Direction:
    """One way of the link."""

    def __init__(self, rate: float, delay: float) -> None:
        self._bytes_a_second = rate / 8
        self._delay = delay
        self._free_at = 0.0
        self.carried = 0
        """Bytes so far."""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry everything from one end to the other, and close that one after it."""
        underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(underway, writer))
        now = asyncio.get_running_loop().time
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                self.carried += len(chunk)
                self._free_at = max(self._free_at, now()) + len(chunk) / self._bytes_a_second
                underway.put_nowait((self._free_at + self._delay, chunk))
                await asyncio.sleep(self._free_at - now())
        underway.put_nowait((now() + self._delay, b""))
        await delivery

    async def _deliver(self, underway: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, chunk = await underway.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
        writer.close()
