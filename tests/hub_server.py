"""A Hub on loopback: enough of its HTTP API for the real client to create, push, list and download models.

Repositories live in memory. Faults are planned by method and path, and last until they are cleared or used up:

    with LoopbackHub() as hub:
        hub.fail("POST", "/commit/", status=500)
        hub.fail("PUT", "/lfs/", cut=True, times=1)  # reads half of the body and resets the connection
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_loopback_secret_token"  # the only one that may write, or read what is private
USER = "me"


@dataclass
class Repo:
    """A repository: its branches, and every commit's files."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{branch} {len(self.messages)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.messages.append(message)
        return sha

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


@dataclass
class Fault:
    method: str
    path: str  # a part of the path
    status: int = 0
    cut: bool = False
    times: int = 1_000_000


class LoopbackHub:
    """A server in a thread of this process.

    Args:
        large: `"lfs"` has large files put one by one, `"regular"` takes everything inside the commit (what a client
            with the Xet protocol wants, whose storage is not faked here).

    Attributes:
        url: what HF_ENDPOINT wants.
        requests: "METHOD /path" of everything that was asked.
    """

    def __init__(self, large: str = "lfs") -> None:
        self.large = large
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.connections: set[socket.socket] = set()
        self.server = self._bind(0)
        self.port = self.server.server_port
        self.server.server_close()  # the port is ours to open and to close
        self.url = f"http://127.0.0.1:{self.port}"

    def _bind(self, port: int) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"hub": self}))
        server.daemon_threads, server.block_on_close = True, False
        return server

    def __enter__(self) -> LoopbackHub:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listens; after `stop`, on the same port and with the same repositories."""
        self.server = self._bind(self.port)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Closes the port and every connection."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def fail(self, method: str, path: str, status: int = 0, cut: bool = False, times: int = 1_000_000) -> None:
        self.faults.append(Fault(method, path, status, cut, times))

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None


class Refusal(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str, code: str = "", **body: object):
        self.status, self.headers = status, {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.body = {"error": message, **body}


class Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    # ---- one request

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        fault = self.hub.fault_for(self.command, path)
        if fault and fault.cut:
            self.cut()
            return
        body = self.body()
        try:
            if fault:
                raise Refusal(fault.status, f"planned {fault.status}")
            if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
                raise Refusal(401, "Invalid credentials in Authorization header")
            for method, pattern, act in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method:
                    act(self, body, *(unquote(group) for group in found.groups() if group is not None))
                    return
            raise Refusal(404, f"no route for {path}")
        except Refusal as refusal:
            self.send(refusal.body, refusal.status, refusal.headers)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def cut(self) -> None:
        """Reads half of what was announced, then resets the connection."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()
        self.close_connection = True
        self.wfile = open("/dev/null", "wb")  # the base class flushes and closes it

    def send(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # ---- who may

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def writer(self) -> None:
        if not self.allowed():
            raise Refusal(401, "Invalid username or password.")

    def repo(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.allowed()):
            raise Refusal(401, "Repository not found", "RepoNotFound")
        return repo

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit that a branch or hash names, and its files."""
        repo = self.repo(name)
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha, repo.commits[sha]

    # ---- routes

    def create(self, body: bytes) -> None:
        self.writer()
        asked = json.loads(body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        if name in self.hub.repos:
            raise Refusal(409, "You already created this model repo", url=f"{self.hub.url}/{name}")
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.repos[name] = repo = Repo(private)
        repo.commit("main", {".gitattributes": b""}, "initial commit")
        self.send({"url": f"{self.hub.url}/{name}", "name": name})

    def validate_yaml(self, body: bytes) -> None:
        card = json.loads(body)["content"]
        try:
            meta = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
            if not isinstance(meta, dict):
                raise Refusal(400, "metadata is no mapping", errors=[{"message": "no mapping"}], warnings=[])
        except yaml.YAMLError as error:
            raise Refusal(400, "bad YAML", errors=[{"message": str(error)}], warnings=[]) from error
        self.send({"errors": [], "warnings": []})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        self.writer()
        repo = self.repo(name)
        if branch in repo.branches:
            raise Refusal(409, "Reference already exists")
        repo.branches[branch] = repo.branches["main"]
        self.send({})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self.writer()
        self.files(name, revision)
        paths = [entry["path"] for entry in json.loads(body)["files"]]
        modes = [self.hub.large if path.endswith(".safetensors") else "regular" for path in paths]
        self.send(
            {
                "files": [
                    {"path": path, "uploadMode": mode, "shouldIgnore": False}
                    for path, mode in zip(paths, modes, strict=True)
                ]
            }
        )

    def lfs_batch(self, body: bytes, name: str) -> None:
        self.writer()
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}}
            for o in json.loads(body)["objects"]
        ]
        self.send({"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, "the content does not have this hash")
        self.hub.blobs[oid] = body
        self.send({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        self.writer()
        _, before = self.files(name, revision)
        files, message = dict(before), ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
                self.repo(name).descriptions.append(value.get("description", ""))
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refusal(400, f"unknown operation {entry['key']}")
        repo, opened = self.repo(name), {}
        if "create_pr=1" in urlsplit(self.path).query:
            number = 1 + sum(branch.startswith("refs/pr/") for branch in repo.branches)
            revision, opened = f"refs/pr/{number}", {"pullRequestUrl": f"{self.hub.url}/{name}/discussions/{number}"}
        sha = repo.commit(revision, files, message)
        self.send({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha, **opened})

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        sha, files = self.files(name, revision)
        self.send(
            {
                "id": name,
                "sha": sha,
                "private": self.repo(name).private,
                "siblings": [{"rfilename": path} for path in files],
            }
        )

    def tree(self, body: bytes, name: str, revision: str, folder: str = "") -> None:
        _, files = self.files(name, revision)
        inside = {path: data for path, data in files.items() if path.startswith(folder)}
        if folder and not inside:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        self.send(
            [
                {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for p, d in inside.items()
            ]
        )

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        sha, files = self.files(name, revision)
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        tag = hashlib.sha1(files[path]).hexdigest()
        self.send(files[path], headers={"ETag": f'"{tag}"', "X-Repo-Commit": sha})


REPO = r"([^/]+/[^/]+)"
ROUTES = [
    (["POST"], "/api/repos/create", Handler.create),
    (["POST"], "/api/validate-yaml", Handler.validate_yaml),
    (["POST"], rf"/api/models/{REPO}/branch/(.+)", Handler.branch),
    (["POST"], rf"/api/models/{REPO}/preupload/(.+)", Handler.preupload),
    (["POST"], rf"/api/models/{REPO}/commit/(.+)", Handler.commit),
    (["POST"], rf"/{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (["PUT"], r"/lfs/([0-9a-f]{64})", Handler.lfs_put),
    (["GET"], rf"/api/models/{REPO}/revision/(.+)", Handler.info),
    (["GET"], rf"/api/models/{REPO}/tree/([^/]+)(?:/(.*))?", Handler.tree),
    (["GET"], rf"/api/models/{REPO}", Handler.info),
    (["GET", "HEAD"], rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
]
