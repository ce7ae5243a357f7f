"""The loop of a wrapper: reads what is there, lets the session work through it, sends the answers.

One thread; a state with a concurrent snapshot is streamed by a second one, which shares the channel's writes.
"""

import logging
import threading
import time
from typing import Optional

from exec_wrapper.encoding import bounded_text, encode_frame
from exec_wrapper.errors import LinkClosed, ProtocolError, StateInterrupted
from exec_wrapper.links import Channel, Link
from exec_wrapper.service_adapter import ServiceAdapter
from exec_wrapper.session import Session
from exec_wrapper.state_stream import PartReader, StateStream, ThreadStream
from exec_wrapper.wire import Failed

COLLECT_S = 0.0002
"""How long the answers to one read are collected before they leave in one write."""
SLOW_STEP_S = 0.001
STEPS_ALONE = 1000
"""After a step longer than `SLOW_STEP_S` the answers to that many steps leave one by one, so that none waits for a slow
request behind it.  Which request will be slow cannot be known; that there are such requests can."""
FAILURE_EXIT_CODE = 1

_logger = logging.getLogger("exec_wrapper")


class HostLink:
    """Connects one adapter to its replica manager, over one connection after another."""

    def __init__(self, adapter: ServiceAdapter, link: Link, image: str) -> None:
        """Open nothing yet; `image` is the name of the image that this domain was booted from."""
        self._link = link
        self._session = Session(adapter, image, self._wait_for_input, self._start_stream)
        self._channel: Optional[Channel] = None
        self._write_lock = threading.Lock()
        self._steps_alone = 0
        self._stream_failure: Optional[BaseException] = None

    def serve(self) -> int:
        """Serve until the adapter fails; return the exit code."""
        while True:
            channel = self._link.open_channel()
            self._channel = channel
            try:
                self._serve_connection(channel)
            except Exception as error:  # noqa: BLE001 - the supervisor of a wrapper: an adapter may raise anything
                self._report(error)
                return FAILURE_EXIT_CODE
            if self._stream_failure is not None:
                return FAILURE_EXIT_CODE
            self._session.disconnected()
            self._channel = None
            channel.close()

    def _serve_connection(self, channel: Channel) -> None:
        """Return when the connection has ended or cannot go on; raise if the wrapper cannot."""
        try:
            while self._stream_failure is None:
                data = channel.read()
                if not data:
                    return
                self._session.feed(data)
                self._handle_input()
        except ProtocolError as error:
            _logger.warning("the connection cannot go on: %s", error)
            self._send_last()
        except LinkClosed as error:
            _logger.info("%s", error)

    def _handle_input(self) -> None:
        session = self._session
        first_s = begin_s = time.monotonic()
        while session.step():
            end_s = time.monotonic()
            if end_s - begin_s > SLOW_STEP_S:
                self._steps_alone = STEPS_ALONE
            begin_s = end_s
            if self._steps_alone:
                self._steps_alone -= 1
            elif end_s - first_s < COLLECT_S:
                continue
            if session.has_output:
                self._write(session.take_output())
            first_s = begin_s = time.monotonic()
        if session.has_output:
            self._write(session.take_output())

    def _wait_for_input(self) -> None:
        """Feed the session while it is inside `set_state`."""
        if self._session.has_output:
            self._write(self._session.take_output())
        channel = self._channel
        data = channel.read() if channel is not None else b""
        if not data:
            self._channel = None
            raise StateInterrupted("the connection ended within a state")
        self._session.feed(data)

    def _start_stream(self, reader: PartReader) -> StateStream:
        return ThreadStream(reader, self._write, self._fail_stream)

    def _fail_stream(self, error: BaseException) -> None:
        # The manager closes the connection on `Failed`; that wakes the main thread, which then ends the wrapper.
        self._stream_failure = error
        self._report(error)

    def _write(self, data: bytes) -> None:
        channel = self._channel
        if channel is None:
            raise LinkClosed("nobody is connected")
        with self._write_lock:
            channel.write(data)

    def _send_last(self) -> None:
        try:
            self._write(self._session.take_output())
        except LinkClosed as error:
            _logger.info("%s", error)

    def _report(self, error: BaseException) -> None:
        """Say why the wrapper ends: to people in full, to the manager in one line."""
        _logger.error("the service cannot go on", exc_info=error)
        if self._channel is None:
            return  # a write to an unconnected port would wait for ever
        try:
            self._write(self._session.take_output() + encode_frame(Failed(failure_text(error))))
        except LinkClosed as closed:
            _logger.info("%s", closed)


def failure_text(error: BaseException) -> str:
    """Return what a manager is told of an exception: its kind and message, bounded, without a traceback."""
    return bounded_text("%s: %s" % (type(error).__name__, error))
