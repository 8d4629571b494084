"""A local hub with the few routes that downloads use: what `huggingface_hub` and `datasets` ask.

It runs in a thread of the test and serves bytes that the test gives; HF_ENDPOINT leads there.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

Files = dict[str, bytes]


class StubHub:
    """``repos`` maps ``models/a/b`` and ``datasets/a/b`` to files by name."""

    def __init__(self, repos: dict[str, Files], gated: tuple[str, ...] = ()) -> None:
        self.repos, self.gated = repos, gated
        self.url = ""
        self.fetched: list[str] = []
        """The files that were sent whole, in order."""
        self.stalls_at = ""
        """A file of which half is sent, and no more."""
        self.is_stalling = threading.Event()

    @contextmanager
    def running(self) -> Iterator[StubHub]:
        """Serve on a free port until the block ends."""
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(self._app(), shutdown_timeout=0)
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        def call(what):
            return asyncio.run_coroutine_threadsafe(what, loop).result(10)

        async def start():
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return site._server.sockets[0].getsockname()[1]

        try:
            self.url = f"http://127.0.0.1:{call(start())}"
            yield self
        finally:
            call(runner.cleanup())
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._admit])
        api = r"/api/{kind:models|datasets}/{repo:[^/]+/[^/]+}"
        app.router.add_get(api + "/revision/{revision}", self._info)
        app.router.add_get(api, self._info)
        app.router.add_get(api + r"/tree/{revision}{folder:.*}", self._tree)
        app.router.add_post(api + "/paths-info/{revision}", self._paths)
        file = r"{repo:[^/]+/[^/]+}/resolve/{revision}/{file:.+}"
        app.router.add_get(r"/{kind:datasets}/" + file, self._file)
        app.router.add_get(r"/" + file, self._file)
        return app

    @web.middleware
    async def _admit(self, request, handler):
        """Refuse what is unknown, as the hub does."""
        if self._name(request) not in self.repos:
            return _refusal(404, "RepoNotFound")
        return await handler(request)

    def _name(self, request) -> str:
        match = request.match_info
        return f"{match.get('kind', 'models')}/{match.get('repo')}"

    def _sha(self, name: str) -> str:
        files = sorted(self.repos[name].items())
        return hashlib.sha1(repr((name, files)).encode()).hexdigest()

    async def _info(self, request):
        name = self._name(request)
        siblings = [{"rfilename": file} for file in self.repos[name]]
        about = {"id": request.match_info["repo"], "sha": self._sha(name), "siblings": siblings}
        return web.json_response(about)

    async def _tree(self, request):
        name, folder = self._name(request), request.match_info["folder"].strip("/")
        entries = [one for one in _entries(self.repos[name]) if _is_in(one, folder)]
        if folder and not entries:
            return _refusal(404, "EntryNotFound")
        if request.query.get("recursive", "false").lower() != "true":
            entries = [one for one in entries if one["path"].rpartition("/")[0] == folder]
        return web.json_response(entries)

    async def _paths(self, request):
        sent = await request.post() if "form" in request.content_type else await request.json()
        paths = sent.getall("paths") if hasattr(sent, "getall") else sent["paths"]
        entries = _entries(self.repos[self._name(request)])
        return web.json_response([one for one in entries if one["path"] in paths])

    async def _file(self, request):
        name, file = self._name(request), request.match_info["file"]
        data = self.repos[name].get(file)
        if name in self.gated:
            # As on the hub: what there is may be seen by all.
            return _refusal(403, "GatedRepo")
        if data is None:
            return _refusal(404, "EntryNotFound")
        headers = {"X-Repo-Commit": self._sha(name), "ETag": f'"{_digest(data)}"'}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(data))})
        if file == self.stalls_at:
            return await self._half(request, data, headers)
        self.fetched.append(file)
        return web.Response(body=data, headers=headers)

    async def _half(self, request, data, headers):
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        self.is_stalling.set()
        while request.transport is not None:
            await asyncio.sleep(0.02)
        return response


def _entries(files: Files) -> list[dict]:
    folders = {path for file in files for path in _above(file)}
    found = [{"type": "directory", "path": path, "oid": "0", "size": 0} for path in sorted(folders)]
    found += [
        {"type": "file", "path": file, "oid": _digest(data), "size": len(data)}
        for file, data in files.items()
    ]
    return found


def _above(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _is_in(entry: dict, folder: str) -> bool:
    return not folder or entry["path"].startswith(folder + "/")


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _refusal(status: int, code: str) -> web.Response:
    return web.Response(status=status, headers={"X-Error-Code": code, "X-Error-Message": code})
