"""Where `serve` listens and what it tells clients: who may reach it, which ports it refuses, what is to be exported."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from flows import serve
from flows.cli import main
from flows.serve import Serving, greeting
from flows.service.__main__ import main as api_alone
from flows.service.connections import listen
from schemas.errors import LtxFlowsError
from schemas.settings import settings
from tests.support.service import until

ROOT = Path(__file__).parents[2]


def refused(home, capsys, *options):
    """The one line with which `serve` ends."""
    assert main(["serve", *options]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_others_are_let_in_only_with_a_key(home, capsys):
    assert "set LTX_FLOWS_API_KEYS" in refused(home, capsys, "--host", "0.0.0.0")
    assert not home.exists()


@pytest.mark.parametrize("port", ["-1", "65536", "99999999999"])
def test_a_port_that_cannot_be_is_refused_before_anything_starts(home, capsys, port):
    assert f"--port {port}: ports are 1 to 65535, and --port 0 takes a free one" in refused(
        home, capsys, f"--port={port}"
    )
    assert not home.exists()


@pytest.mark.parametrize("host", ["", " "])
def test_no_host_is_not_every_host(home, capsys, host):
    assert "--host is empty" in refused(home, capsys, "--host", host)
    assert not home.exists()


@pytest.fixture
def nothing_starts(monkeypatch):
    monkeypatch.setattr(serve, "prefect_server", lambda: pytest.fail("Prefect's server was started"))


def test_a_port_that_is_taken_is_named(home, capsys, nothing_starts):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = refused(home, capsys, "--port", str(port))
    assert (
        told == f"ltx-flows: port {port} of 127.0.0.1 is taken; end what listens there, or --port 0 takes a free one\n"
    )


def test_a_port_of_the_administrators_is_named(home, capsys, nothing_starts, monkeypatch):
    monkeypatch.setattr(socket, "create_server", denied)  # whoever runs the tests may be the administrator
    assert "port 443 is the administrator's; take one from 1024 on" in refused(home, capsys, "--port", "443")


def denied(*_, **__):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "2001:db8::1"])
def test_a_host_that_is_not_this_machine_is_named(home, capsys, nothing_starts, monkeypatch, host):
    monkeypatch.setenv("LTX_FLOWS_API_KEYS", "key")
    settings.cache_clear()
    assert f"cannot listen on {host}: " in refused(home, capsys, "--host", host, "--port", "0")


def test_the_api_alone_refuses_the_same(home, capsys):
    assert api_alone(["--host", "0.0.0.0"]) == 1
    assert api_alone(["--port", "65536"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert ["set LTX_FLOWS_API_KEYS" in told[0], "--port 65536" in told[1]] == [True, True]
    assert not home.exists()


def test_the_api_alone_answers_until_it_is_ended(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "flows.service", "--port", str(port)]
    with (tmp_path / "said").open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        until(lambda: answers(port) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert (tmp_path / "said").read_text() == ""


def test_compose_runs_the_api_with_the_same_care():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["api"]["command"] == ["python", "-m", "flows.service", "--host", "0.0.0.0", "--port", "8484"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_free_port_is_taken_on_every_address_of_the_machine():
    for host in ("127.0.0.1", "0.0.0.0", "::1"):
        with listen(host, 0) as door:
            assert door.getsockname()[1] > 0
    with pytest.raises(LtxFlowsError, match="cannot listen on"):
        listen("192.0.2.1", 0)


def told(serving):
    """Where the pages are, and what is exported."""
    text = greeting(serving, Path("worker.log"))
    urls = re.findall(r"^(?:history|API) +(\S+)$", text, re.MULTILINE)
    return urls, dict(re.findall(r"^  export (\w+)=(\S+)$", text, re.MULTILINE))


@pytest.fixture
def public_url(monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_PUBLIC_URL", "https://ltx.example.org/")
    settings.cache_clear()


def test_clients_are_told_the_hosts_and_whom_to_trust(home):
    urls, exports = told(Serving(self_signed=True))
    assert urls == ["https://localhost:8484/", "https://localhost:8484/docs"]
    assert exports == {
        "FAL_RUN_HOST": "localhost:8484/run",
        "FAL_QUEUE_RUN_HOST": "localhost:8484",
        "FAL_KEY": "one-of-LTX_FLOWS_API_KEYS",
        "SSL_CERT_FILE": f"{home}/tls/authorities.pem",
        "NODE_EXTRA_CA_CERTS": f"{home}/tls/authority.pem",
    }


def test_with_a_certificate_that_clients_know_there_is_nobody_to_trust():
    _, exports = told(Serving(host="gpu.example", certificate=Path("c.pem"), key=Path("k.pem")))
    assert exports.keys() == {"FAL_RUN_HOST", "FAL_QUEUE_RUN_HOST", "FAL_KEY"}
    assert exports["FAL_QUEUE_RUN_HOST"] == "gpu.example:8484"


def test_an_address_with_colons_is_told_as_urls_have_it():
    assert told(Serving(host="2001:db8::1", self_signed=True))[0][0] == "https://[2001:db8::1]:8484/"


def test_behind_a_reverse_proxy_clients_are_told_its_name(public_url):
    urls, exports = told(Serving())
    assert urls == ["https://ltx.example.org/", "https://ltx.example.org/docs"]
    assert exports["FAL_RUN_HOST"] == "ltx.example.org/run"
    assert exports["FAL_QUEUE_RUN_HOST"] == "ltx.example.org"
    assert "SSL_CERT_FILE" not in exports


def test_without_https_clients_are_told_what_is_missing():
    urls, exports = told(Serving())
    assert (urls[0], exports) == ("http://localhost:8484/", {})
    assert "serve with --tls-self-signed" in greeting(Serving(), Path("worker.log"))


def test_random_weights_are_the_first_that_is_said(monkeypatch):
    assert greeting(Serving(), Path("worker.log")).startswith("RANDOM WEIGHTS: the base model `tiny`")
    monkeypatch.setenv("LTX_FLOWS_BASE_MODEL", "diffusers/LTX-2.3-Diffusers")
    settings.cache_clear()
    assert greeting(Serving(), Path("worker.log")).startswith("history ")


def test_its_certificate_is_for_every_name_that_it_is_served_under(public_url, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_ALLOWED_HOSTS", "gpu.lan, *.example.org")
    settings.cache_clear()
    assert [name for name in Serving(host="gpu").names if name] == ["gpu", "gpu.lan", "ltx.example.org"]


def test_deploy_without_the_address_of_a_server_says_that_it_needs_one(monkeypatch, capsys, home):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert main(["deploy"]) == 1
    assert "set PREFECT_API_URL to the server of your team" in capsys.readouterr().err
    assert not (home / "server" / "url").exists()  # none was started for it
