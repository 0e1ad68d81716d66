"""The server of the local page: a port in use is one line, a free one answers."""

import socket

import pytest
from click.testing import CliRunner

from simgpu import Catalogue
from simgpu.cli import main
from simgpu.explore.app import make_app, serve

pytest.importorskip("flask")


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["ui", "--port", str(port)])
    assert done.exit_code == 2
    assert done.stderr == f"simgpu: --port: port {port} is taken; expected a free one, or 0 for any\n"


def test_any_free_port_is_opened_and_closed_again():
    told = []

    def ready(address):
        told.append(int(address.rstrip("/").rpartition(":")[2]))
        socket.create_connection(("127.0.0.1", told[0]), timeout=20).close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(make_app({}, Catalogue()), 0, ready)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", told[0]), timeout=20)


@pytest.mark.parametrize("sent", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null", b'{"scenario": NaN}'])
def test_a_question_that_is_none_is_one_line(sent):
    client = make_app({}, Catalogue()).test_client()
    answer = client.post("/ask", data=sent, content_type="application/json", base_url="http://127.0.0.1")
    assert answer.status_code == 200 and list(answer.get_json()) == ["error"]
    assert "fault of simgpu" not in answer.get_json()["error"] and "\n" not in answer.get_json()["error"]
