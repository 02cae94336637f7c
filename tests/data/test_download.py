"""Downloads: whatever the server, the network and the disk do is one clear line, and nothing half-written is left."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sweep.core.errors import ConfigError
from sweep.data import download

pytestmark = pytest.mark.usefixtures("kept_in")

CONTENT = bytes(range(256)) * 400
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Make a server whose answers are what a function writes; returns its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that give up
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def begin(request: http.server.BaseHTTPRequestHandler, length: int | None) -> None:
    request.send_response(200)
    if length is not None:
        request.send_header("Content-Length", str(length))
    request.end_headers()


def whole(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, len(CONTENT))
    request.wfile.write(CONTENT)


def cut(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, len(CONTENT))
    request.wfile.write(CONTENT[:1000])


def page(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, 30)
    request.wfile.write(b"<html>Log in to the network</ht")


def hanging(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, len(CONTENT))
    request.wfile.write(CONTENT[:1000])
    request.wfile.flush()
    time.sleep(1)


def dripping(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, len(CONTENT))
    for byte in CONTENT[:200]:
        request.wfile.write(bytes([byte]))
        request.wfile.flush()
        time.sleep(0.01)


def endless(request: http.server.BaseHTTPRequestHandler) -> None:
    begin(request, None)
    while True:
        request.wfile.write(CONTENT)


def failing(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_error(503)


def refusal(base: str, name: str = "set") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        download.fetch(name, base, {"file.npz": HASH})
    assert caught.value.where == "path"
    assert "dataset.path=FILE.npz" in caught.value.expected
    assert "\n" not in str(caught.value)
    return caught.value


def kept(kept_in: Path) -> list[Path]:
    return [path for path in kept_in.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (cut, "an answer that breaks off"),
        (page, "another file (of 30 bytes, its hash"),
        (hanging, "timed out"),
        (dripping, "bytes in"),
        (endless, "an answer of more than 1 MiB"),
        (failing, "503"),
    ],
)
def test_a_bad_answer_is_one_line_and_leaves_nothing(
    serve: Callable[[Answer], str], kept_in: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, said: str
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(download, "_GRACE_SECONDS", 0.3)
    monkeypatch.setattr(download, "_MAX_BYTES", 1 << 20)
    base = serve(answer)
    error = refusal(base)
    assert f"{base}file.npz" in error.expected
    assert said in str(error.received)
    assert kept(kept_in) == []


def test_no_network_is_one_line(kept_in: Path) -> None:
    error = refusal("http://127.0.0.1:1/")
    assert error.received == "Connection refused"
    error = refusal("http://no-such-host.invalid/")
    assert "no-such-host.invalid" in error.expected
    assert len(str(error.received)) < 100
    assert kept(kept_in) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    serve: Callable[[Answer], str], kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_receive", full)
    error = refusal(serve(whole))
    assert str(kept_in) in error.expected
    assert "SWEEP_DATA_DIR" in error.expected
    assert error.received == "No space left on device"
    assert kept(kept_in) == []


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc/sweep"), Path("~nobody-of-this-name")):
        monkeypatch.setenv("SWEEP_DATA_DIR", str(place))
        error = refusal("http://127.0.0.1:1/")
        assert "SWEEP_DATA_DIR" in error.expected
        assert str(place) in str(error)


def test_a_file_that_is_there_needs_neither_network_nor_a_folder_to_write_to(
    kept_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept_in / "set").mkdir(parents=True)
    (kept_in / "set" / "file.npz").write_bytes(CONTENT)
    monkeypatch.setattr(download, "_download", None)
    assert download.fetch("set", "http://127.0.0.1:1/", {"file.npz": HASH}).read_bytes() == CONTENT


def test_a_broken_file_is_downloaded_again_and_stays_where_that_fails(serve: Callable[[Answer], str], kept_in: Path) -> None:
    (kept_in / "set").mkdir(parents=True)
    (kept_in / "set" / "file.npz").write_bytes(CONTENT[:-1])
    refusal("http://127.0.0.1:1/")
    assert (kept_in / "set" / "file.npz").read_bytes() == CONTENT[:-1]
    assert download.fetch("set", serve(whole), {"file.npz": HASH}).read_bytes() == CONTENT


def test_what_is_no_file_at_its_place_is_one_line(kept_in: Path) -> None:
    (kept_in / "set").mkdir(parents=True)
    os.mkfifo(kept_in / "set" / "file.npz")
    with pytest.raises(ConfigError, match="a FIFO"):
        download.fetch("set", "http://127.0.0.1:1/", {"file.npz": HASH})


def test_what_a_killed_process_left_goes(serve: Callable[[Answer], str], kept_in: Path) -> None:
    (kept_in / "set").mkdir(parents=True)
    (kept_in / "set" / ".file.npz.123456.part").write_bytes(CONTENT[:100])
    download.fetch("set", serve(whole), {"file.npz": HASH})
    assert [path.name for path in kept(kept_in)] == ["file.npz"]


def test_two_at_once_download_once(serve: Callable[[Answer], str], kept_in: Path) -> None:
    answered: list[float] = []

    def slow(request: http.server.BaseHTTPRequestHandler) -> None:
        answered.append(time.monotonic())
        time.sleep(0.2)
        whole(request)

    base, found = serve(slow), list[Path]()
    both = [threading.Thread(target=lambda: found.append(download.fetch("set", base, {"file.npz": HASH}))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in found] == [True, True]
    assert len(answered) == 1
    assert [path.name for path in kept(kept_in)] == ["file.npz"]


def test_nothing_but_the_error_is_printed(serve: Callable[[Answer], str], capfd: pytest.CaptureFixture[str]) -> None:
    refusal(serve(page))
    download.fetch("set", serve(whole), {"file.npz": HASH})
    assert capfd.readouterr() == ("", "")
