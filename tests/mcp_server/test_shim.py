"""The shim as a process: the pipe, the static answers, a daemon that dies, comes back, stalls, lies, or never comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server import static
from mcp_server.repeats import idempotency_key
from mcp_server.stdio import COPIES
from mcp_server.stdio.lines import MAX_LINE
from mcp_server.stdio.table import Table
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.daemon import in_home
from parlerd.settings import Era
from parlerd.wire.messages import HOST_PROTOCOL, Note
from tests.support.mcp_lines import ENVELOPE, heard_in
from tests.support.shim_process import (
    PATIENCE,
    SHIM,
    DaemonByHand,
    DaemonEnd,
    HostSide,
    Json,
    bare_python,
    shim,
)

DEEP = b"[" * 500 + b"]" * 500
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.fixture
def daemon(home: Path) -> Iterator[DaemonByHand]:
    with DaemonByHand(home) as fake:
        yield fake


def attach(host: HostSide, daemon: DaemonByHand) -> DaemonEnd:
    """A window whose handshake went through the daemon."""
    end = daemon.accept().welcome()
    host.initialize()
    request = end.line()
    assert request["method"] == "initialize"
    end.answer(request, {"protocolVersion": "2025-11-25"})
    host.hear()
    host.tell("notifications/initialized")
    assert end.line()["method"] == "notifications/initialized"
    return end


def reattach(daemon: DaemonByHand) -> DaemonEnd:
    """The same window again after a loss: its replayed handshake is answered."""
    end = daemon.accept().welcome()
    end.answer(end.line())
    assert end.line()["method"] == "notifications/initialized"
    return end


def hear_answer(host: HostSide, id: int) -> Json:
    """The result of request `id`; notifications before it are passed over."""
    while True:
        message = host.hear()
        if message.get("id") == id:
            result: Json = message["result"]
            return result


# -- the pipe --------------------------------------------------------------------------------------------------------


def test_the_hello_says_who_this_is_and_takes_three_things_from_the_environment(
    home: Path, daemon: DaemonByHand
) -> None:
    given = {"PARLER_SESSION_KEY": "A3KE7DJR", "PARLER_AGENT": "bob", "CLAUDE_PROJECT_DIR": "/srv/repo", "SECRET": "x"}
    with shim(home, **given) as host:
        hello = daemon.accept().hello
    assert (hello.protocol, hello.version) == (
        HOST_PROTOCOL,
        json.loads(static.raw()["initialize"])["serverInfo"]["version"],
    )
    assert (hello.role, hello.host, hello.reconnect, hello.unanswered) == ("stdio", "test", False, ())
    assert (hello.session_key, hello.as_name, hello.project_dir) == ("A3KE7DJR", "bob", "/srv/repo")
    assert (hello.pid, hello.ppid) == (host.process.pid, os.getpid())
    assert hello.cwd == str(home.parent)
    assert len(hello.window) == 32


def test_each_window_has_an_id_of_its_own(home: Path, daemon: DaemonByHand) -> None:
    with shim(home):
        first = daemon.accept().hello.window
    with shim(home):
        assert daemon.accept().hello.window != first


def test_lines_pass_in_both_directions_as_they_are(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.write('{"jsonrpc": "2.0",  "id":"é☃", "method":"tools/call", "params":{"name":"x"}}\n'.encode())
        assert end.line()["id"] == "é☃"
        end.say('{"jsonrpc":"2.0","id":"é☃","result":{"text":"日本"}}'.encode())
        assert host.line() == '{"jsonrpc":"2.0","id":"é☃","result":{"text":"日本"}}'.encode()
        end.say({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "parler://rooms"}})
        assert host.hear()["method"] == "notifications/resources/updated"


def test_a_line_may_come_in_pieces_and_several_in_one_piece(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        for byte in b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}\n':
            host.write(bytes((byte,)))
        assert end.line()["id"] == 7
        host.write(b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"tools/call"}\n\n' % id for id in range(20, 40)))
        assert [end.line()["id"] for _ in range(20)] == list(range(20, 40))


def test_a_line_of_several_megabytes_passes_both_ways(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        text = "x" * 5_000_000
        host.call("parler_send", text=text)
        request = end.line()
        assert request["params"]["arguments"]["text"] == text
        end.answer(request, {"text": text})
        assert host.hear()["result"]["text"] == text


def test_a_line_beyond_the_limit_is_refused_by_name_and_the_next_one_works(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.write(b'{"x":"' + b"x" * (MAX_LINE + 100_000) + b'"}\n')
        error = host.hear()
        assert (error["id"], error["error"]["code"]) == (None, -32600)
        assert str(MAX_LINE) in error["error"]["message"]
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", -32700),
        (b'{"a":NaN}', -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0"} extra', -32700),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'"text"', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        (b'{"jsonrpc":"2.0","id":%s}' % DEEP, -32600),
        (b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % DEEP, -32600),
        (b'{"jsonrpc":"2.0","id":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b',"result":{}}', -32600),
        (b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}' % DEEP, -32600),
    ],
)
def test_what_is_no_request_is_refused_here_and_never_reaches_the_daemon(
    home: Path, daemon: DaemonByHand, line: bytes, code: int
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.write(line + b"\n")
        error = host.hear()
        assert (error["id"], error["error"]["code"]) == (None, code)
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"


def test_a_request_whose_parameters_are_too_deep_is_refused_under_its_id(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        for method in (b"tools/call", b"initialize", b"resources/subscribe"):
            host.write(b'{"jsonrpc":"2.0","id":"deep","method":"%s","params":{"a":%s}}\n' % (method, DEEP))
            error = host.hear()
            assert (error["id"], error["error"]["code"]) == ("deep", -32600)
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"


def test_discovery_is_declined_and_pings_are_answered_whatever_the_daemon_does(
    home: Path, daemon: DaemonByHand
) -> None:
    with shim(home) as host:
        host.ask("server/discover")
        assert host.hear()["error"]["code"] == -32601
        host.ask("ping")
        assert host.hear()["result"] == {}


def test_a_host_that_reads_slowly_loses_nothing(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)

        def send() -> None:
            for number in range(1000):
                end.say({"jsonrpc": "2.0", "method": "notifications/x", "params": {"n": number, "fill": "x" * 5000}})

        # In a thread: the shim stops reading when the host does, and then this waits.
        sending = threading.Thread(target=send)
        sending.start()
        assert [host.hear()["params"]["n"] for _ in range(1000)] == list(range(1000))
        sending.join()


def test_it_runs_on_what_every_interpreter_has_loaded_and_three_c_modules(home: Path) -> None:
    # The program ends with an error that it can only tell of once everything is loaded, and then says what is loaded.
    script = (
        "import posix, sys; before = set(sys.modules); posix._exit = lambda status: None; "
        f"sys.argv = [{str(SHIM)!r}, '--wrong']; "
        f"exec(compile(open({str(SHIM)!r}).read(), 'shim', 'exec'), {{'__file__': {str(SHIM)!r}}}); "
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, check=True, text=True)
    loaded = set(ran.stdout.split())
    assert {name for name in loaded if not name.startswith("mcp_server.stdio.")} <= {"_json", "_socket", "select"}
    assert "mcp_server.stdio.pipe" in loaded


def test_a_start_in_the_middle_of_an_upgrade_reads_the_files_again(home: Path, tmp_path: Path) -> None:
    """The first time one module is of another version; loading it puts the right one there, as the daemon would."""
    run = tmp_path / "run"
    (run / "stdio").mkdir(parents=True)
    for name in COPIES:
        (run / name).write_bytes((SHIM.parent / name).read_bytes())
    table = run / "stdio" / "table.py"
    (run / "right.py").write_bytes(table.read_bytes())
    table.write_text(f"import posix\nposix.rename({str(run / 'right.py')!r}, {str(table)!r})\n")
    with shim(home, program=str(run / "shim.py")) as host:
        host.initialize()
        assert host.hear()["result"] == json.loads(static.initialize_result("2025-11-25"))


# -- without a daemon ------------------------------------------------------------------------------------------------


def test_the_handshake_is_answered_from_the_table_while_no_daemon_is_there(home: Path) -> None:
    with shim(home) as host:
        host.initialize("2025-06-18")
        assert host.line() == b'{"jsonrpc":"2.0","id":1,"result":' + static.initialize_result("2025-06-18") + b"}"
        for method in static.METHODS[1:]:
            id = host.ask(method)
            assert host.line() == b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (id, static.raw()[method])


def test_a_call_says_that_the_daemon_could_not_start_why_and_what_to_do(home: Path) -> None:
    with shim(home) as host:
        host.call("parler_send", text="hello")
        result = host.hear()["result"]
        assert result["isError"] is True
        assert heard_in(result).error == "unreachable"
        text = result["content"][0]["text"]
        assert "The Parler daemon could not start" in text
        assert "No module named _parler" in text
        assert "parler doctor" in text


def test_after_an_uninstall_an_open_window_says_so_and_promises_nothing(home: Path, tmp_path: Path) -> None:
    # Started by a link that is taken away, as the installer's is.
    python = tmp_path / "python"
    python.symlink_to(bare_python())
    with shim(home, python=str(python)) as host:
        host.initialize()
        host.hear()
        python.unlink()
        for _ in range(2):
            host.call("parler_recv")
            result = host.hear()["result"]
            assert result["isError"] is True
            assert heard_in(result).error == "unreachable"
            assert "Parler was uninstalled" in result["content"][0]["text"]
            assert "as soon as the daemon answers" not in result["content"][0]["text"]
        host.ask("resources/read", {"uri": "parler://x"})
        assert "uninstalled" in host.hear()["error"]["message"]
        # The same path leads to an install again: the window goes on there.
        python.symlink_to(bare_python())
        host.call("parler_recv")
        assert "No module named _parler" in host.hear()["result"]["content"][0]["text"]


def test_a_home_that_others_can_enter_is_named_as_the_reason(home: Path) -> None:
    home.chmod(0o755)
    with shim(home) as host:
        host.call("parler_recv")
        assert "chmod 700" in host.hear()["result"]["content"][0]["text"]
        host.call("parler_recv")
        assert "chmod 700" in host.hear()["result"]["content"][0]["text"]
    assert list(home.iterdir()) == []


def test_what_is_no_tool_call_gets_an_error_of_the_protocol(home: Path) -> None:
    with shim(home) as host:
        host.ask("resources/read", {"uri": "parler://rooms"})
        error = host.hear()["error"]
        assert error["code"] == -32000
        assert "parler doctor" in error["message"]


def test_a_daemon_that_comes_later_serves_the_same_window(home: Path) -> None:
    with shim(home) as host:
        host.initialize()
        host.hear()
        host.tell("notifications/initialized")
        host.call("parler_recv")
        assert host.hear()["result"]["isError"] is True
        with DaemonByHand(home) as late:
            end = late.accept().welcome()
            replayed = end.line()
            assert replayed["method"] == "initialize"
            assert replayed["params"]["clientInfo"]["name"] == "test-host"
            end.answer(replayed)
            assert end.line()["method"] == "notifications/initialized"
            id = host.call("parler_recv")
            end.answer(end.line(), {"content": []})
            assert host.hear() == {"jsonrpc": "2.0", "id": id, "result": {"content": []}}


def test_a_call_waits_for_a_daemon_that_is_on_its_way(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        id = host.call("parler_recv")
        end = daemon.accept().welcome()
        end.answer(end.line(), {"content": []})
        assert host.hear()["id"] == id


def test_a_call_that_is_withdrawn_while_it_waits_is_neither_sent_nor_answered(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        id = host.call("parler_send", text="never mind")
        host.tell("notifications/cancelled", {"requestId": id})
        host.ask("ping")
        host.hear()
        end = daemon.accept().welcome()
        host.call("parler_recv")
        assert end.line()["params"]["name"] == "parler_recv"


def test_the_home_is_found_in_the_environment_and_else_below_home(home: Path, daemon: DaemonByHand) -> None:
    with shim(home, "--host", "x", PARLER_HOME=str(home)):
        daemon.accept()
    standard = home.parent / ".parler"
    standard.mkdir(mode=0o700)
    with DaemonByHand(standard) as other, shim(home, "--host=x"):
        other.accept()


def test_a_wrong_argument_says_how_to_start_it(home: Path) -> None:
    command = [sys.executable, "-I", "-S", str(static.PATH.with_name("shim.py")), "--bogus"]
    ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    assert ran.returncode == 2
    assert ran.stdout == b""
    assert b"usage" in ran.stderr


# -- a daemon that dies ----------------------------------------------------------------------------------------------


def test_calls_in_flight_get_an_error_that_says_how_to_try_again(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        sent = host.call("parler_send", text="hello")
        waiting = host.call("parler_recv", wait_secs=50)
        read = host.ask("resources/read", {"uri": "parler://rooms"})
        for _ in range(3):
            end.line()
        window = end.hello.window
        end.close()
        answers = {answer["id"]: answer for answer in (host.hear() for _ in range(3))}
        lost = heard_in(answers[sent]["result"])
        assert lost.error == "connection_lost"
        assert lost.retry_key == idempotency_key(window, sent)
        assert heard_in(answers[waiting]["result"]).retry_key == ""
        refused = answers[read]["error"]
        assert (refused["code"], refused["message"]) == (-32000, f"{ERRORS['connection_lost'].message} Try again.")


def test_a_key_that_the_call_named_is_returned_with_the_failure(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_send", text="hello", key="mine-1")
        end.line()
        end.close()
        assert heard_in(host.hear()["result"]).retry_key == "mine-1"


def test_it_comes_back_as_the_same_window_with_what_the_daemon_must_know(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        for uri in ("parler://rooms", "parler://room/a/messages"):
            host.ask("resources/subscribe", {"uri": uri})
            end.answer(end.line())
            host.hear()
        host.ask("resources/unsubscribe", {"uri": "parler://rooms"})
        end.answer(end.line())
        host.hear()
        host.call("parler_send", text="lost")
        lost = end.line()
        window = end.hello.window
        end.close()
        host.hear()

        end = daemon.accept()
        assert (end.hello.window, end.hello.reconnect) == (window, True)
        assert [json.loads(line) for line in end.hello.unanswered] == [lost]
        end.welcome()
        replayed = [end.line() for _ in range(3)]
        assert [one["method"] for one in replayed] == ["initialize", "notifications/initialized", "resources/subscribe"]
        assert replayed[2]["params"] == {"uri": "parler://room/a/messages"}
        assert all(str(one["id"]).startswith("parler-shim-") for one in replayed if "id" in one)
        for one in replayed:
            if "id" in one:
                end.answer(one)
        assert host.hear()["method"] == "notifications/tools/list_changed"
        id = host.call("parler_recv")
        end.answer(end.line())
        assert host.hear()["id"] == id


def test_what_was_lost_is_told_to_every_daemon_until_a_repetition_of_it_is_done(
    home: Path, daemon: DaemonByHand
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_send", text="lost")
        lost = end.line()
        end.close()
        host.hear()

        end = reattach(daemon)
        # The repetition goes out under the key of the first attempt, so when it is lost too it is still that one.
        again = host.call("parler_send", text="lost")
        end.line()
        end.close()
        first = idempotency_key(end.hello.window, lost["id"])
        assert heard_in(hear_answer(host, again)).retry_key == first

        end = reattach(daemon)
        assert [json.loads(line) for line in end.hello.unanswered] == [lost]
        failed = host.call("parler_send", text="lost")
        end.answer(end.line(), {"content": [], "isError": True})
        hear_answer(host, failed)
        end.close()

        end = reattach(daemon)
        assert [json.loads(line) for line in end.hello.unanswered] == [lost]
        done = host.call("parler_send", text="lost")
        end.answer(end.line(), {"content": []})
        hear_answer(host, done)
        end.close()
        assert daemon.accept().hello.unanswered == ()


def test_lines_that_would_not_fit_the_first_frame_are_left_out(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        for text in ("small", "x" * 100_000, "y" * 30_000, "z" * 20_000):
            host.call("parler_send", text=text)
            end.line()
        end.close()
        hello = daemon.accept().hello
        texts = [json.loads(line)["params"]["arguments"]["text"][0] for line in hello.unanswered]
        assert texts == ["y", "z"]


def test_a_tool_call_is_never_sent_twice(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_send", text="once")
        end.line()
        end.close()
        host.hear()
        end = reattach(daemon)
        host.hear()
        host.call("parler_recv")
        assert end.line()["params"]["name"] == "parler_recv"


def test_an_idle_window_waits_for_a_stopped_daemon_and_starts_it_only_for_a_call(
    home: Path, daemon: DaemonByHand
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        end.goodbye(ParlerError("draining"))
        daemon.close()
        host.ask("ping")
        host.hear()
        id = host.ask("tools/list")
        assert host.hear()["id"] == id
        assert not (home / "log").exists()
        host.call("parler_recv")
        assert host.hear()["result"]["isError"] is True
        assert (home / "log" / "parlerd.log").exists()


def test_a_form_that_was_open_is_withdrawn_and_its_answer_goes_nowhere(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        end.say({"jsonrpc": "2.0", "id": "form-1", "method": "elicitation/create", "params": {}})
        assert host.hear()["method"] == "elicitation/create"
        end.close()
        withdrawn = host.hear()
        assert withdrawn["method"] == "notifications/cancelled"
        assert withdrawn["params"]["requestId"] == "form-1"
        end = reattach(daemon)
        host.hear()
        host.say({"jsonrpc": "2.0", "id": "form-1", "result": {"action": "accept", "content": {"code": "K7QD"}}})
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"


def test_an_answer_to_an_open_form_reaches_the_daemon_that_asked(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        end.say({"jsonrpc": "2.0", "id": "form-1", "method": "elicitation/create", "params": {}})
        host.hear()
        host.say({"jsonrpc": "2.0", "id": "form-1", "result": {"action": "cancel"}})
        assert end.line()["result"] == {"action": "cancel"}


# -- a daemon that misbehaves ----------------------------------------------------------------------------------------


def test_a_daemon_that_is_slow_to_list_is_answered_for_and_its_late_answer_dropped(
    home: Path, daemon: DaemonByHand
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        id = host.ask("tools/list")
        request = end.line()
        assert host.line() == b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (id, static.raw()["tools/list"])
        end.answer(request, {"tools": []})
        call = host.call("parler_recv")
        end.answer(end.line())
        assert host.hear()["id"] == call


def test_a_daemon_that_never_greets_is_answered_for_and_then_left(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        silent = daemon.accept()
        host.initialize()
        assert host.hear()["result"]["serverInfo"]["name"] == "parler"
        host.call("parler_recv")
        assert "does not answer" in host.hear()["result"]["content"][0]["text"]
        assert silent.hear() is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x02\x80\x80",
        b"\x00\x00\x00\x03\xc4\x01{",
        b"\0\0\0\0",
    ],
)
def test_a_daemon_that_sends_garbage_is_left_and_the_next_one_serves(
    home: Path, daemon: DaemonByHand, garbage: bytes
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_recv")
        end.line()
        end.send_raw(garbage)
        assert host.hear()["result"]["isError"] is True
        end = reattach(daemon)
        host.hear()
        id = host.call("parler_recv")
        end.answer(end.line())
        assert host.hear()["id"] == id


def test_a_daemon_that_declines_is_quoted(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        host.call("parler_recv")
        daemon.accept().goodbye(ParlerError("unsupported_version"))
        text = host.hear()["result"]["content"][0]["text"]
        assert ParlerError("unsupported_version").message in text
        assert ParlerError("unsupported_version").hint in text


# -- the end ---------------------------------------------------------------------------------------------------------


def test_closing_stdin_ends_it_in_order_and_says_that_everything_was_written(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.close()
        assert end.hear() == Note(what="eof", written=True)
        assert end.hear() is None
        assert host.end() == 0


def test_an_answer_that_is_on_its_way_when_stdin_closes_still_arrives(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        id = host.call("parler_recv")
        host.close()
        end.answer(end.line(), {"content": []})
        assert host.hear()["id"] == id
        assert end.hear() == Note(what="eof", written=True)
        assert host.end() == 0


def test_a_call_that_waits_does_not_keep_it_alive(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_recv", wait_secs=50)
        end.line()
        host.close()
        # Its page may be on the way, and is not acknowledged by an end that nobody saw it before.
        assert end.hear() == Note(what="eof", written=False)
        assert host.end() == 0


def test_a_last_line_without_an_end_is_taken(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.write(b'{"jsonrpc":"2.0","id":9,"method":"tools/call"}')
        host.close()
        end.answer(end.line())
        assert host.hear()["id"] == 9


def test_a_host_that_reads_no_more_ends_it_and_the_daemon_learns_that_it_was_not_written(
    home: Path, daemon: DaemonByHand
) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"
        assert host.process.stdout is not None
        host.process.stdout.close()
        assert end.hear() == Note(what="eof", written=False)
        assert host.end() == 0


def test_a_killed_host_ends_it_also_while_another_process_holds_its_stdin(home: Path, daemon: DaemonByHand) -> None:
    # The host is a process of its own, which starts the shim with the pipe that this test holds on to, and is killed.
    reading, writing = os.pipe()
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=0, stdout=subprocess.PIPE).wait()"
    command = [bare_python(), "-I", "-S", str(SHIM), "--host", "test", "--home", str(home)]
    host = subprocess.Popen([sys.executable, "-c", code, *command], stdin=reading)
    try:
        os.close(reading)
        connection = daemon.accept().welcome()
        os.write(writing, b'{"jsonrpc":"2.0","id":1,"method":"ping-through"}\n')
        assert connection.line()["method"] == "ping-through"
        host.kill()
        host.wait(PATIENCE)
        assert connection.hear() == Note(what="eof", written=False)
        assert connection.hear() is None
    finally:
        host.kill()
        host.wait(PATIENCE)
        os.close(writing)


def test_input_that_ends_before_a_daemon_came_still_gets_its_answers(home: Path) -> None:
    with shim(home) as host:
        host.initialize()
        id = host.call("parler_recv")
        host.close()
        assert host.hear()["result"]["serverInfo"]["name"] == "parler"
        answer = host.hear()
        assert (answer["id"], answer["result"]["isError"]) == (id, True)
        assert host.end() == 0


def test_a_signal_ends_it(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = attach(host, daemon)
        host.process.send_signal(signal.SIGTERM)
        assert host.end() == -signal.SIGTERM
        assert end.hear() is None


# -- the revision without a handshake ----------------------------------------------------------------------------------


def listening(host: HostSide, end: DaemonEnd, *uris: str) -> Json:
    """A stream that the host opened and the daemon acknowledged; gives its request."""
    wanted = {"toolsListChanged": True, "resourceSubscriptions": list(uris)}
    host.ask("subscriptions/listen", {"notifications": wanted, "_meta": ENVELOPE})
    request = end.line()
    acknowledge(end, request)
    assert host.hear()["method"] == "notifications/subscriptions/acknowledged"
    return request


def acknowledge(end: DaemonEnd, request: Json) -> None:
    meta = {SUBSCRIPTION: request["id"]}
    method = "notifications/subscriptions/acknowledged"
    end.say({"jsonrpc": "2.0", "method": method, "params": {"notifications": {}, "_meta": meta}})


def test_the_modern_era_is_offered_without_a_daemon_where_the_home_says_so(tmp_path: Path) -> None:
    table, lines = tmp_path / "static.json", static.PATH.read_bytes()
    eras: tuple[Era, ...] = ("legacy", "modern")
    found = []
    for era in eras:
        table.write_bytes(in_home(lines, era))
        found.append(Table(str(table)).result("server/discover", {"_meta": ENVELOPE}))
    assert found == [None, static.stamped(static.raw()["server/discover"], static.LISTED_STAMP)]


def test_lists_and_errors_without_a_daemon_are_those_of_the_era_of_the_request(home: Path) -> None:
    (home.parent / "home").chmod(0o755)
    with shim(home) as host:
        for method in static.METHODS[1:]:
            id = host.ask(method, {"_meta": ENVELOPE})
            expected = static.stamped(static.raw()[method], static.LISTED_STAMP)
            assert host.line() == b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (id, expected)
        host.ask("tools/call", {"name": "parler_recv", "arguments": {}, "_meta": ENVELOPE})
        result = host.hear()["result"]
        assert (result["resultType"], result["isError"]) == ("complete", True)
        assert heard_in(result).error == "unreachable"


def test_a_stream_goes_on_at_the_next_daemon_as_if_nothing_had_happened(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = daemon.accept().welcome()
        request = listening(host, end, "parler://rooms")
        end.close()
        end = daemon.accept().welcome()
        assert end.line() == request, "under its own id, and no handshake before it"
        acknowledge(end, request)
        missed = [host.hear() for _ in range(2)]
        assert [told["method"] for told in missed] == [
            "notifications/tools/list_changed",
            "notifications/resources/updated",
        ]
        assert missed[1]["params"]["uri"] == "parler://rooms"
        assert all(told["params"]["_meta"] == {SUBSCRIPTION: request["id"]} for told in missed)
        end.say({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "parler://rooms"}})
        assert host.hear()["method"] == "notifications/resources/updated", "the second acknowledgement is kept"
        end.answer(request)
        assert host.hear()["id"] == request["id"]
        end.close()
        end = daemon.accept().welcome()
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call", "a stream that ended is not opened again"


def test_a_stream_that_the_host_cancelled_is_not_opened_again(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = daemon.accept().welcome()
        request = listening(host, end)
        host.tell("notifications/cancelled", {"requestId": request["id"]})
        assert end.line()["method"] == "notifications/cancelled"
        end.close()
        end = daemon.accept().welcome()
        host.call("parler_recv")
        assert end.line()["method"] == "tools/call"


def test_an_open_stream_does_not_keep_it_alive(home: Path, daemon: DaemonByHand) -> None:
    with shim(home) as host:
        end = daemon.accept().welcome()
        listening(host, end)
        host.close()
        note = end.hear()
        assert isinstance(note, Note)
        assert (note.what, note.written) == ("eof", True)
        assert host.end() == 0
