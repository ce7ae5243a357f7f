"""What every `WrapperLink` promises, with a real wrapper at the other end: a child process or a virtual machine."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from exec_wrapper.examples import key_value_commands as commands
from exec_wrapper.examples.key_value_commands import decode_reply
from exec_wrapper.framing import decode_to_wrapper, encode_execute, encode_frame
from exec_wrapper.layout import HELLO_BYTES
from exec_wrapper.wire import (
    Applied,
    ApplyUpdates,
    Executed,
    Failed,
    Hello,
    NextPart,
    Ping,
    Pong,
    SetPart,
    SetState,
    StatePart,
    StateSet,
    Sync,
    Synced,
    TakeState,
    WrapperHello,
)
from replica_manager.execution.errors import LinkError
from replica_manager.execution.wrapper_link import (
    LinkEnd,
    LinkEndReason,
    LinkSettings,
    TcpWrapperLink,
)
from replica_manager.execution.wrapper_session import WrapperLimits
from tests.contracts.wrapper_bench import SEED, Bench, execute
from tests.contracts.wrapper_hosts import KEY_VALUE, TcpWrapper, UnixWrapper, VirtioWrapper

CHILDREN = [pytest.param(UnixWrapper, id="unix"), pytest.param(TcpWrapper, id="tcp")]
WITH_A_MACHINE = [*CHILDREN, pytest.param(VirtioWrapper, id="virtio", marks=[pytest.mark.vm, pytest.mark.slow])]
"""For the rules that depend on the kind of channel; each costs the boot of a machine."""
on_a_machine_too = pytest.mark.parametrize("run_with", WITH_A_MACHINE, indirect=True)


RunWithWrapper = Callable[..., None]


@pytest.fixture(params=CHILDREN)
def run_with(request: pytest.FixtureRequest) -> Iterator[RunWithWrapper]:
    """Run a coroutine function with a `Bench` whose wrapper is started, unless `is_started` is false."""
    started: list[Any] = []
    # Not `tmp_path`: socket paths are short.
    with tempfile.TemporaryDirectory(prefix="spare-link-") as directory:

        def run(
            test: Callable[[Bench], Coroutine[Any, Any, None]],
            adapter: Sequence[str] = KEY_VALUE,
            is_started: bool = True,
        ) -> None:
            wrapper = request.param(Path(directory), adapter)
            if is_started:
                wrapper.start()
            started.append(wrapper)
            asyncio.run(test(Bench(wrapper)))

        yield run
        for wrapper in started:
            wrapper.stop()


def test_open_gives_the_wrappers_hello(run_with: RunWithWrapper) -> None:
    """The echo names service, image and cursor."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        hello = await link.open(b"e" * 16)
        assert hello == WrapperHello(b"e" * 16, 1, 1, True, "key-value", "1", bench.wrapper.image)
        link.close()

    run_with(test)


def test_open_waits_for_a_wrapper_that_starts_later(run_with: RunWithWrapper) -> None:
    """A virtual machine boots for seconds after its channel can be connected."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        opening = asyncio.create_task(link.open(b"e" * 16))
        await asyncio.sleep(0)
        bench.wrapper.start()
        assert (await opening).cursor == 1
        link.close()

    run_with(test, is_started=False)


def test_open_gives_up_at_its_deadline(run_with: RunWithWrapper) -> None:
    """The caller hears which channel did not answer, and for how long."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        link.close()
        bench.wrapper.pause()
        with pytest.raises(LinkError, match=r"no wrapper answered at .* within 0.2 s"):
            await bench.make_link(open_timeout_ms=200).open(b"f" * 16)

    run_with(test)


@on_a_machine_too
def test_requests_are_answered_in_order(run_with: RunWithWrapper) -> None:
    """A thousand requests in one turn of the loop."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        for number in range(1, 1001):
            link.send(execute(number, commands.encode_append(b"k", b"%d," % number)))
        answers = await bench.next(1000)
        assert [answer.sequence for answer in answers if isinstance(answer, Executed)] == list(range(1, 1001))
        link.send_frames(encode_execute(1000, 1001, 1, SEED, commands.encode_get(b"k")) + encode_frame(Sync()))
        got, synced = await bench.next(2)
        assert isinstance(got, Executed)
        assert decode_reply(got.reply).fields == [b"".join(b"%d," % number for number in range(1, 1001))]
        assert synced == Synced(1002)
        link.close()

    run_with(test)


def test_large_frames_pass_in_both_directions(run_with: RunWithWrapper) -> None:
    """Frames far longer than any buffer on the way."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        data = bytes(range(256)) * 16384  # 4 MiB
        link.send(execute(1, commands.encode_echo(data)))
        (answer,) = await bench.next()
        assert isinstance(answer, Executed)
        assert decode_reply(answer.reply).fields == [data]
        link.close()

    run_with(test)


def test_a_state_moves_through_the_link(run_with: RunWithWrapper) -> None:
    """Taken by credit, beside execution; set again in another order of things."""

    async def test(bench: Bench) -> None:
        link = bench.make_link(state_part_bytes_max=1000)
        await link.open(b"e" * 16)
        fields = [commands.encode_field(b"%04d" % number) + commands.encode_field(b"v" * 90) for number in range(50)]
        link.send(ApplyUpdates(0, 50, tuple((number, b"P" + entry) for number, entry in enumerate(fields, 1))))
        link.send(TakeState(50, 51, 1))
        assert await bench.next() == [Applied(50)]
        for number in range(51, 54):
            link.send(NextPart(3))
            link.send(execute(number, commands.encode_set(b"0001", b"later")))
        await bench.until(lambda: len(bench.messages) == 3 + 6)
        parts = [message for message in bench.messages if isinstance(message, StatePart)]
        assert [part.is_last for part in parts] == [False] * 5 + [True]
        content = b"".join(part.data for part in parts)
        assert content.count(b"v" * 90) == 50
        assert [part.index for part in parts] == list(range(len(parts)))
        link.send(SetState(7, 1))
        for part in parts:
            link.send(SetPart(part.index, part.is_last, part.data))
        await bench.until(lambda: StateSet(7) in bench.messages)
        link.close()

    run_with(test)


def test_a_wrapper_that_ends_is_reported_once(run_with: RunWithWrapper) -> None:
    """As a value, after which sending does nothing."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        bench.wrapper.stop()
        await bench.until(lambda: bool(bench.ends))
        assert [end.reason for end in bench.ends] == [LinkEndReason.CLOSED]
        link.send(Ping(1))
        await asyncio.sleep(0)
        assert link.buffered_bytes == 0
        link.close()
        assert len(bench.ends) == 1

    run_with(test)


@on_a_machine_too
def test_a_closed_link_reports_nothing_and_may_be_opened_again(run_with: RunWithWrapper) -> None:
    """The wrapper goes on at its cursor; what was in flight for the first connection does not appear in the second."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        for number in range(1, 101):
            link.send(execute(number, commands.encode_set(b"k", b"v" * 1000)))
        await bench.next(100)
        link.send(Ping(1))
        await asyncio.sleep(0)
        link.close()
        await asyncio.sleep(0)
        assert bench.ends == []
        bench.messages.clear()
        hello = await link.open(b"f" * 16)
        assert (hello.epoch, hello.cursor) == (b"f" * 16, 101)
        link.send(Ping(2))
        assert await bench.next() == [Pong(2)]
        link.close()

    run_with(test)


@on_a_machine_too
def test_a_link_closed_within_a_frame_may_be_opened_again(run_with: RunWithWrapper) -> None:
    """The wrapper drops the half frame with the connection that it came over."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        link.send_frames(encode_frame(execute(1, commands.encode_set(b"k", bytes(4000))))[:2000])
        link.send(Ping(1))  # swallowed by the half frame
        await asyncio.sleep(0)
        await bench.until(lambda: link.buffered_bytes == 0)
        link.close()
        hello = await link.open(b"f" * 16)
        assert (hello.epoch, hello.cursor) == (b"f" * 16, 1)
        link.send(execute(1, commands.encode_get(b"k")))
        (answer,) = await bench.next()
        assert isinstance(answer, Executed)
        assert decode_reply(answer.reply).status == commands.NOT_FOUND
        link.close()

    run_with(test)


@on_a_machine_too
def test_a_domain_that_does_not_read_fills_the_write_buffer_to_its_limit(run_with: RunWithWrapper) -> None:
    """Memory is bounded; the end has a name."""

    async def test(bench: Bench) -> None:
        link = bench.make_link(write_buffer_bytes_max=1 << 20)
        await link.open(b"e" * 16)
        bench.wrapper.pause()
        for number in range(1, 1000):
            link.send(execute(number, bytes(65536)))
            await asyncio.sleep(0)
            if bench.ends:
                break
        assert [end.reason for end in bench.ends] == [LinkEndReason.WRITE_BUFFER_FULL]
        assert "bytes wait, allowed are 1048576" in bench.ends[0].text
        assert link.buffered_bytes == 0

    run_with(test)


@on_a_machine_too
def test_a_gap_is_told_and_ends_the_connection_but_not_the_wrapper(run_with: RunWithWrapper) -> None:
    """The manager may connect again, at the cursor."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        link.send(execute(3, b""))
        (failed,) = await bench.next()
        assert failed == Failed("Execute from 2 to 3 does not follow 0")
        await bench.until(lambda: bool(bench.ends))
        assert bench.ends == [LinkEnd(LinkEndReason.FAILED, "Execute from 2 to 3 does not follow 0")]
        assert (await link.open(b"f" * 16)).cursor == 1
        link.close()

    run_with(test)


def test_a_service_that_breaks_is_told_in_one_line_and_ends_the_wrapper(run_with: RunWithWrapper) -> None:
    """The traceback stays on the console of the domain."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        link.send(execute(1, b"x"))
        link.send(execute(2, b"break"))
        executed, failed = await bench.next(2)
        assert isinstance(executed, Executed)
        assert failed == Failed("ServiceBroke: told to break")
        await bench.until(lambda: bool(bench.ends))
        assert await asyncio.to_thread(bench.wrapper.wait) == 1
        assert "Traceback" in bench.wrapper.console()
        link.close()

    run_with(test, ("tests.exec_wrapper.recording_adapter",))


def test_a_state_stream_that_breaks_is_told_and_ends_the_wrapper(run_with: RunWithWrapper) -> None:
    """It runs in another thread; its failure counts like any other."""

    async def test(bench: Bench) -> None:
        link = bench.make_link()
        await link.open(b"e" * 16)
        for number in range(1, 4):
            link.send(execute(number, b"x"))
        link.send(TakeState(3, 4, 3))
        link.send(NextPart(9))
        await bench.next(4)
        (failed,) = await bench.next()
        assert failed == Failed("ServiceBroke: no more parts")
        link.close()
        assert await asyncio.to_thread(bench.wrapper.wait) == 1

    run_with(test, ("tests.exec_wrapper.recording_adapter", "concurrent", "2"))


async def talk_to(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> Bench:
    """Return a bench whose link was opened, and ended, by something that is no wrapper."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        is_over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bench = Bench(None)
    settings = LinkSettings(WrapperLimits(1 << 20, 1 << 16), open_timeout_ms=60_000)
    link = TcpWrapperLink("127.0.0.1", port, settings, bench.on_frames, bench.on_end)
    try:
        await link.open(b"e" * 16)
        link.send(Ping(1))
        await bench.until(lambda: bool(bench.ends))
    finally:
        link.close()
        await is_over.wait()
        server.close()
    return bench


async def echo_of(reader: asyncio.StreamReader) -> bytes:
    """Read a Hello; return the answer to it."""
    (hello,) = decode_to_wrapper().feed(await reader.readexactly(HELLO_BYTES))
    assert isinstance(hello, Hello)
    return encode_frame(WrapperHello(hello.epoch, 1, 1, True, "s", "v", "i"))


def test_what_is_no_wrapper_is_refused_by_open() -> None:
    """Somebody who echoes the epoch and then talks out of turn."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await echo_of(reader) + encode_frame(Executed(1, b"", b"")))

    with pytest.raises(LinkError, match="sent Executed before anything was asked"):
        asyncio.run(talk_to(answer))


def test_misbehaviour_after_hello_ends_the_link_with_its_reason() -> None:
    """What came before it in the same read is handed on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await echo_of(reader))
        await reader.readexactly(13)
        writer.write(encode_frame(Pong(1)) + b"\xff" * 100)

    bench = asyncio.run(talk_to(answer))
    assert bench.ends == [LinkEnd(LinkEndReason.MISBEHAVIOUR, "malformed_frame: a frame of unknown kind 0xff")]
    assert bench.messages == [Pong(1)]
