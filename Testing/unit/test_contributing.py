"""What contributors, package indexes and hosts read: files that no program of the project would miss."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml

from CTSAM3DLib import __version__
from CTSAM3DLib.atomic import check_output, describe_os_error
from CTSAM3DLib.errors import OutputError
from CTSAM3DServer.web.handover import Start

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
MARKDOWN = sorted(
    path for folder in (".", "docs", "docs/log", ".github") for path in (ROOT / folder).glob("*.md") if path.is_file()
)


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def project():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml itself")
    return tomllib.loads(text("pyproject.toml"))


def supported_versions():
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", name) for name in classifiers()]
    return [match[1] for match in found if match]


def classifiers():
    return project()["project"]["classifiers"]


def workflow(name):
    return yaml.safe_load(text(f".github/workflows/{name}"))


def commands(content):
    return "\n".join(step.get("run", "") for job in content["jobs"].values() for step in job["steps"])


def test_citation_names_the_software_with_its_version_and_prefers_the_paper():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["license"] == project()["project"]["license"]
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("Towards a Comprehensive, Efficient and Promptable Anatomic Structure")
    assert [author["family-names"] for author in paper["authors"]][::8] == ["Guo", "Xu"]
    for title in (paper["title"], paper["authors"][3]["family-names"]):
        assert title.split()[-1] in text("README.md")


def test_every_make_target_that_documents_name_is_there():
    targets = set(re.findall(r"^([a-z][a-z-]*):", text("Makefile"), re.MULTILINE))
    for path in MARKDOWN:
        named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, path.name
    assert {"lint", "test-fast", "test", "docs"} <= targets


def test_targets_that_are_no_files_are_phony():
    makefile = text("Makefile")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert targets == set(" ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)).split())


def test_a_user_begins_with_three_thousand_words():
    assert sum(len(text(name).split()) for name in ("README.md", "docs/tutorial.md")) <= 3000


def test_there_is_one_floor_plan():
    plans = [path.relative_to(ROOT).as_posix() for path in MARKDOWN if "floor-plan.svg" in path.read_text("utf-8")]
    assert plans == ["docs/ARCHITECTURE.md"]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_files_and_modules_that_a_page_names_are_there(path):
    """The lab book and the change log also tell of what is gone."""
    if path.parent.name == "log" or path.name == "CHANGELOG.md":
        return
    page = path.read_text(encoding="utf-8")
    for file in re.findall(
        r"(?<![\w/.-])((?:CTSAM3D|CTSAM3DServer|Testing|training|docs|deploy|\.ci)/[\w./-]*\w)", page
    ):
        assert (ROOT / file).exists(), file
    for module in re.findall(r" -m ((?:Testing|training|CTSAM3DServer)(?:\.\w+)*)", page):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), module


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if urlparse(link).scheme:
            continue
        file, _, heading = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_workflows_test_every_python_that_the_package_supports():
    versions = supported_versions()
    assert project()["project"]["requires-python"] == f">={versions[0]}"
    strategy = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert strategy["python"] == versions
    assert strategy["system"] == ["ubuntu-latest", "windows-latest", "macos-latest"]
    assert workflow("nightly.yml")["jobs"]["everything"]["strategy"]["matrix"]["python"] == versions
    assert f"Python {versions[0]} to {versions[-1]}" in text("CONTRIBUTING.md")


def test_workflows_run_what_contributors_run():
    (fast,) = re.findall(r'pytest -n auto (-m "not \(.+\)")', text("Makefile"))
    for content in (*(commands(workflow(name)) for name in ("ci.yml", "nightly.yml")), text("CONTRIBUTING.md")):
        assert f"pytest -n auto {fast}" in content
    assert "make lint" in commands(workflow("ci.yml"))
    assert ".ci/run" in commands(workflow("nightly.yml"))
    for requirement in project()["project"]["optional-dependencies"]["docs"]:
        assert f'"{requirement}"' in commands(workflow("ci.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_no_rights_and_an_end(path):
    content = workflow(path.name)
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert "@v" in step.get("uses", "@v")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_forms_are_whole(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert all({"name", "url", "about"} == set(link) for link in form["contact_links"])
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))


def test_templates_ask_for_no_data_of_patients():
    for name in ("bug.yml", "segmentation.yml"):
        assert "Never attach patients' images" in text(f".github/ISSUE_TEMPLATE/{name}")
    assert "data of patients" in text(".github/pull_request_template.md")


def test_hooks_use_the_tools_of_make_lint():
    hooks = {
        hook["id"]: hook for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]
    }
    development = project()["project"]["optional-dependencies"]["dev"]
    for name in ("ruff-check", "ruff-format"):
        assert set(hooks[name]["additional_dependencies"]) <= set(development)


def test_the_wheel_says_that_it_has_types():
    assert (ROOT / "CTSAM3D" / "CTSAM3DLib" / "py.typed").read_bytes() == b""
    assert "py.typed" in project()["tool"]["setuptools"]["package-data"]["CTSAM3DLib"]
    assert "Typing :: Typed" in classifiers()


def test_the_address_is_the_same_everywhere():
    """It is a placeholder (RELEASING.md), which is replaced in one step only where there is one."""
    (address,) = re.findall(r'^set\(EXTENSION_HOMEPAGE "([^"]+)"\)$', text("CMakeLists.txt"), re.MULTILINE)
    urls = project()["project"]["urls"]
    assert urls["Source"] == address
    assert all(url.startswith(address) for name, url in urls.items() if name != "Documentation")
    assert yaml.safe_load(text("CITATION.cff"))["repository-code"] == address
    pages = yaml.safe_load(text("mkdocs.yml"))
    assert pages["repo_url"] == address
    assert pages["site_url"] == urls["Documentation"]
    owner, repository = urlparse(address).path.strip("/").split("/")
    assert pages["site_url"] == f"https://{owner.lower()}.github.io/{repository}/"
    for name in ("CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "CHANGELOG.md"):
        assert address in text(name)


def test_every_page_of_the_documentation_is_in_its_menu():
    def pages(menu):
        for entry in menu:
            for content in [entry] if isinstance(entry, str) else entry.values():
                yield from [content] if isinstance(content, str) else pages(content)

    menu = list(pages(yaml.safe_load(text("mkdocs.yml"))["nav"]))
    assert sorted(menu) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def test_the_change_log_has_the_form_of_keep_a_changelog():
    headings = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading) for heading in headings[1:])
    parts = set(re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.MULTILINE))
    assert parts <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# What other systems do otherwise


def test_a_mask_never_replaces_its_ct_under_another_name(tmp_path):
    ct, other = tmp_path / "ct.nii.gz", tmp_path / "CT.nii.gz"
    ct.write_bytes(b"voxels")
    if not other.exists():  # a file system that tells them apart: two names of one file all the same
        os.link(ct, other)
    with pytest.raises(OutputError, match="is the CT itself"):
        check_output(other, (".nii.gz",), instead_of=ct)
    check_output(tmp_path / "mask.nii.gz", (".nii.gz",), instead_of=ct)


def test_a_file_that_another_program_has_open_on_windows_is_said_to_be_so():
    error = PermissionError(13, "The process cannot access the file because it is being used by another process")
    assert "permission" in describe_os_error(error)
    error.winerror = 32
    assert "another program has it open" in describe_os_error(error)


def test_text_that_a_code_page_lacks_does_not_end_a_command():
    code = "from CTSAM3DLib.commands import cli; cli.app = lambda: print('64\\u00b3 voxels'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1251", "PYTHONUTF8": "0"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    assert ran.stdout.split() == [b"64?", b"voxels"]


def test_a_workspace_reads_its_start_as_utf8_whatever_the_code_page():
    code = (
        "from CTSAM3DLib.remote.child_process import first_line; from CTSAM3DServer.web.handover import Start;"
        "print(ascii(str(Start.model_validate_json(first_line()).folder)))"
    )
    start = Start(folder=Path("J\u00fcrgen"), front="http://127.0.0.1:1", secret="s", models=("m",))
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    line = start.model_dump_json().encode() + b"\n"
    ran = subprocess.run([sys.executable, "-c", code], input=line, env=environment, capture_output=True, check=True)
    assert ran.stdout.split() == [b"'J\\xfcrgen'"]
