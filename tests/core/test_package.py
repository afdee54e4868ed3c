"""What the built package holds and says of itself; nothing is downloaded or installed. CI installs it: .ci/wheel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.wheel import WheelBuilder
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from load_file import load_file

from lightning_regs import __version__
from lightning_regs.cli.parser import main
from lightning_regs.study.paper import config

ROOT = Path(__file__).parents[2]
URL = "https://github.com/somebody/lightning-regs"


@pytest.fixture(scope="module")
def wheel() -> dict[str, str]:
    """What a wheel of this checkout holds: path in it -> path here."""
    return {file.distribution_path: file.path for file in WheelBuilder(str(ROOT)).recurse_included_files()}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "GITHUB_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    return load_file(ROOT / "hatch_build.py")


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder_lists_its_papers_with_their_results(
    wheel: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried = {path: here for path, here in wheel.items() if path.startswith("lightning_regs/_bundled/")}
    for path, here in carried.items():
        (tmp_path / "site" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, tmp_path / "site" / path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.delenv(config.PAPERS_ENV, raising=False)
    monkeypatch.setattr(config, "_PACKAGE", tmp_path / "site" / "lightning_regs")
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    papers = {path.parent.name for path in ROOT.glob("reproductions/*/paper.py")}
    assert {line.split()[0] for line in said.splitlines() if not line.startswith(" ")} == papers
    assert all(word in said for word in ("quick ", "standard ", "rethinking generalization", "minutes on two cores"))
    assert said.count(" reproduced") >= len(papers)
    assert main(["reproduce", "zhang2017", "--commit-results"]) == 2
    assert "zhang2017 came with the installed package" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_wheel_holds_every_file_of_the_package_and_nothing_of_the_checkout(wheel: dict[str, str]) -> None:
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "lightning_regs", "reproductions", "configs"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    there = {str(Path(here).relative_to(ROOT)) for here in wheel.values()}
    assert set(tracked) <= there
    assert {path.split("/")[0] for path in there} == {"lightning_regs", "reproductions", "configs"}


def test_links_of_the_readme_lead_to_the_repository_that_builds(hook, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[a](docs/a.md) ![b](x/b.svg) [c](#c) [d](https://d.org/e) <img src="f.png" width="9">'
    assert hook.absolute(text, URL, "v1") == (
        f"[a]({URL}/blob/v1/docs/a.md) ![b]({URL}/raw/v1/x/b.svg) [c](#c) [d](https://d.org/e) "
        f'<img src="{URL}/raw/v1/f.png" width="9">'
    )
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/lightning-regs")
    monkeypatch.setenv("GITHUB_REF_NAME", f"v{__version__}")
    core = ProjectMetadata(str(ROOT), PluginManager()).core
    assert core.urls["Repository"] == URL
    assert not [
        link for link in hook._LINK.findall(core.readme) if not link[2].startswith(("http", "#")) and not link[3]
    ]


def test_without_a_repository_nothing_is_made_up(hook: ModuleType, tmp_path: Path) -> None:
    assert hook.repository(tmp_path) == ""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for remote in (f"{URL}.git", "git@github.com:somebody/lightning-regs.git"):
        subprocess.run(["git", "-C", str(tmp_path), "config", "remote.origin.url", remote], check=True)
        assert hook.repository(tmp_path) == URL
    subprocess.run(["git", "-C", str(tmp_path), "config", "remote.origin.url", "/somewhere/here"], check=True)
    assert hook.repository(tmp_path) == ""
