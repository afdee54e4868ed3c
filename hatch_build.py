"""What the package's metadata say of the repository that it is built in: its links, here and in the README."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r'(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s]+)\)|<img src="(?P<source>[^"]+)"')


class CustomMetadataHook(MetadataHookInterface):
    """Fills in ``readme`` and ``urls``: an index page is no checkout, so relative links lead nowhere there.

    Without a repository (no GitHub workflow, no remote) the README stays as it is and there are no links.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        root = Path(self.root)
        text, url = (root / "README.md").read_text(encoding="utf-8"), repository(root)
        ref = os.environ.get("GITHUB_REF_NAME") or "HEAD"
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, url, ref) if url else text}
        metadata["urls"] = {}
        if url:
            pages = {"Repository": "", "Issues": "/issues", "Changelog": f"/blob/{ref}/CHANGELOG.md"}
            metadata["urls"] = {name: f"{url}{path}" for name, path in pages.items()}


def repository(root: Path) -> str:
    """Return the address of the repository: of the workflow that builds, else of the remote ``origin``; else empty."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    command = ["git", "-C", str(root), "config", "--get", "remote.origin.url"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    except OSError:
        return ""
    address = re.fullmatch(r"(?:https://|git@|ssh://git@)(github\.com)[/:](.+?)(?:\.git)?", found)
    return f"https://{address[1]}/{address[2]}" if address else ""


def absolute(text: str, url: str, ref: str) -> str:
    """Make the relative links of a README absolute, images as files and all others as pages of the repository."""

    def link(found: re.Match[str]) -> str:
        path = found["path"] or found["source"]
        if re.match(r"[a-z]+:|#", path):
            return found[0]
        kind = "raw" if found["image"] or found["source"] else "blob"
        return found[0].replace(path, f"{url}/{kind}/{ref}/{path}")

    return _LINK.sub(link, text)
