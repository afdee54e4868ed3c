"""A W&B server that keeps what it is sent: as much of the protocol as logging, and publishing a report, use."""

from __future__ import annotations

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789" * 4


class Server(ThreadingHTTPServer):
    """Listens on a free port of this machine; `runs` holds what arrived, by the runs' ids."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, dict] = {}
        self.artifacts: list[dict] = []
        self.views: dict[str, dict] = {}
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.refuse = False
        self.lock = threading.Lock()

    def run(self, name: str) -> dict:
        new = {"id": name, "history": {}, "summary": {}, "config": {}, "exits": [], "files": set(), "about": {}}
        return self.runs.setdefault(name, new)

    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle is no news."""

    def answer(self, name: str, given: dict) -> dict | None:
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "team"}}
        if name in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "v", "entity": "team", "username": "u", "flags": "{}", "teams": {"edges": []}}}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "Run":
            run = self.runs[given["name"]]
            state = "finished" if run["exits"][-1:] == [0] else "running"
            about = {"createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": "2026-01-01T00:00:00Z", "sweepName": None}
            return {"project": {"run": self.bucket(run) | about | {"state": state, "projectId": "1"}}}
        if name == "UpsertBucket":
            run = self.run(given["name"])
            run["about"] |= {key: value for key, value in given.items() if value is not None}
            run["config"] |= {k: v["value"] for k, v in json.loads(given["config"] or "{}").items()}
            return {"upsertBucket": {"bucket": self.bucket(run) | {"project": project}, "inserted": True}}
        if name == "CreateRunFiles":
            self.run(given["run"])["files"] |= set(given["files"])
            files = [{"name": file, "uploadUrl": f"{self.url}/storage/{given['run']}"} for file in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        if name == "ArtifactType":
            return {"project": {"artifact": None}}
        if name == "CreateArtifact":
            self.artifacts.append(given.get("input", given))
            artifact = {"id": f"a{len(self.artifacts)}", "state": "COMMITTED"}
            sequence = {"id": "s", "latestArtifact": None}
            return {"createArtifact": {"artifact": artifact | {"artifactSequence": sequence}}}
        if name == "ProjectViews":
            page = {"hasNextPage": False, "endCursor": None}
            views = {"edges": [{"node": view, "cursor": "x"} for view in self.views.values()], "pageInfo": page}
            return {"project": None if given["project"] == "hidden" else {"allViews": views}}
        if name == "GetProjects":
            node = {"id": "1", "name": "nets", "entityName": "team", "createdAt": "2026-01-01T00:00:00Z"}
            page = {"hasNextPage": False, "endCursor": None}
            edges = [{"cursor": "x", "node": node | {"isBenchmark": False, "user": None}}]
            return {"models": {"pageInfo": page, "edges": edges}}
        if "View" in name:
            view = {key: given[key] for key in ("name", "displayName", "description", "spec")}
            view |= {"id": given.get("id") or "VmlldzoxMg==", "type": "runs", "updatedAt": "2026-01-01T00:00:00Z"}
            self.views[view["id"]] = view
            return {"upsertView": {"view": view | {"project": {"id": "1", "name": "nets", "entityName": "team"}}}}
        self.unknown.append(name)
        return None

    def bucket(self, run: dict) -> dict:
        return {
            "id": f"storage-{run['id']}",
            "name": run["id"],
            "displayName": run["about"].get("displayName"),
            "config": json.dumps({key: {"value": value} for key, value in run["config"].items()}),
            "summaryMetrics": json.dumps(run["summary"]),
        }

    def stream(self, name: str, sent: dict) -> None:
        run = self.run(name)
        files = sent.get("files") or {}
        if part := files.get("wandb-history.jsonl"):
            for number, line in enumerate(part["content"], part["offset"]):
                run["history"][number] = json.loads(line)
        if part := files.get("wandb-summary.json"):
            run["summary"] = json.loads(part["content"][-1])
        if sent.get("complete"):
            run["exits"].append(sent.get("exitcode"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            out = b""
            while size := int(self.rfile.readline().strip(), 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            out = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(out) if self.headers.get("Content-Encoding") == "gzip" else out

    def reply(self, content: object, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self.reply({})

    def do_PUT(self) -> None:
        self.body()
        self.reply({})

    def do_POST(self) -> None:
        sent = json.loads(self.body() or b"{}")
        if self.server.refuse is True or (self.server.refuse == "stream" and self.path != "/graphql"):
            self.reply({"errors": [{"message": "permission denied"}]}, 401)
        elif self.path == "/graphql":
            name = re.search(r"(?:query|mutation)\s+(\w+)", sent["query"])[1]
            with self.server.lock:
                self.server.asked.append(name)
                found = self.server.answer(name, sent.get("variables") or {})
            self.reply({"data": found} if found is not None else {"errors": [{"message": f"no {name} here"}]})
        else:
            with self.server.lock:
                self.server.stream(self.path.split("/")[4], sent)
            self.reply({"exitcode": None, "limits": {}})


def start() -> Server:
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
