"""The door: who is let in, and what is said where something is missing. No browser; a real site over a socket."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from Testing.web.site import Site

CTSAM3D = Path(sys.executable).with_name("ctsam3d")


@pytest.fixture
def bare(site):
    """The site's address without its key."""
    parts = urlsplit(site.address)
    return f"{parts.scheme}://{parts.netloc}"


@pytest.fixture
def known(site):
    """A client that has come by the printed address, and the page it was given."""
    session = requests.Session()
    page = session.get(site.address, timeout=90)
    assert page.status_code == 200
    return session, page.url


@pytest.mark.parametrize("path", ["/", "/alive", "/w/0123456789abcdef/", "/?key=wrong"])
def test_nobody_gets_in_without_the_key(bare, path):
    answer = requests.get(bare + path, timeout=10, allow_redirects=False)
    assert answer.status_code == 403
    assert "Open the address that ctsam3d web has printed" in answer.text


def test_the_key_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(site):
    answer = requests.get(site.address, timeout=10, allow_redirects=False)
    assert answer.status_code == 302
    assert "key=" not in answer.headers["Location"]
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_every_page_has_an_address_of_its_own(site, known):
    session, first = known
    second = session.get(site.address, timeout=90).url
    assert re.search(r"/w/[0-9a-f]{16}/", first)
    assert second != first


def test_a_page_that_is_not_there_says_so_to_people_and_to_programs(known):
    session, page = known
    gone = re.sub("/w/[0-9a-f]+/.*", "/w/0000000000000000/", page)
    for_people = session.get(gone, timeout=10, headers={"Accept": "text/html"})
    assert for_people.status_code == 404
    assert "no longer there" in for_people.text
    assert "<html" in for_people.text or "<!doctype" in for_people.text
    assert session.get(gone + "alive", timeout=10).text.startswith("This page is no longer there")


def test_the_process_behind_a_page_answers_its_front_only(site, known):
    """Another user of the computer who finds the port is refused."""
    children = subprocess.run(["pgrep", "-f", "CTSAM3DServer.web"], capture_output=True, text=True, check=True)
    ports = set()
    for child in children.stdout.split():
        listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=False).stdout
        ports |= {int(line.split()[3].rsplit(":", 1)[1]) for line in listening.splitlines() if f"pid={child}," in line}
    if not ports:
        pytest.skip("`ss` does not tell which process has which port here")
    for port in ports:
        assert requests.get(f"http://127.0.0.1:{port}/index.html", timeout=10).status_code == 403


def test_a_page_takes_no_code_from_the_current_folder(tmp_path):
    executed = tmp_path / "EXECUTED"
    for module in ("aiohttp", "random", "torch", "trame"):
        (tmp_path / f"{module}.py").write_text(f"open({str(executed)!r}, 'a').write({module!r})\n")
    site = Site(log=tmp_path / "log", folder=tmp_path)
    try:
        page = requests.get(site.address, timeout=90)
    finally:
        site.stop()
    assert not executed.exists(), executed.read_text()
    assert page.status_code == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["missing.nii.gz"], "There is no CT at missing.nii.gz"),
        (["--model", "unknown"], "There is no model called 'unknown'"),
        (["--tls-cert", "cert.pem"], "TLS needs both the certificate and its key"),
        (["--server", "http://a b"], "is not a server's address"),
        (["--host", "203.0.113.1", "--port", "0"], "cannot be listened on"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, sentence, tmp_path):
    done = subprocess.run(
        [CTSAM3D, "web", "--no-browser", *options],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert sentence in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_sentence(bare):
    port = str(urlsplit(bare).port)
    done = subprocess.run(
        [CTSAM3D, "web", "--no-browser", "--port", port], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "choose another" in done.stderr
