"""Messages between the grader and a sandbox: JSON and raw bytes, nothing that could run.

A message is a plain dict; beside it go named blocks of bytes, the memory of tensors. On the wire: two lengths, the
JSON with the names and lengths of the blocks, and the blocks one after the other.
"""

import json
import socket
import struct

LENGTHS = struct.Struct("!QQ")
MOST_JSON, MOST_BYTES = 16 << 20, 128 << 20
Blocks = dict[str, bytearray]


class WireError(Exception):
    """The other side sent what is no message, or is gone."""


class Channel:
    """One end of a socket; sends and receives whole messages."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.problem: WireError | None = None  # the first that happened

    def _error(self, text: str) -> WireError:
        self.problem = self.problem or WireError(text)
        return self.problem

    def send(self, message: dict, blocks: dict[str, bytes] | None = None) -> None:
        """Send a message with its blocks; WireError if it is too large or nobody listens."""
        blocks = blocks or {}
        index = [[name, len(data)] for name, data in blocks.items()]
        text = json.dumps([message, index]).encode()
        size = sum(length for _, length in index)
        if len(text) > MOST_JSON or size > MOST_BYTES:
            raise self._error(f"a value of {len(text) + size:,} bytes is too large to be graded")
        try:
            self.connection.sendall(LENGTHS.pack(len(text), size))
            self.connection.sendall(text)
            for data in blocks.values():
                self.connection.sendall(data)
        except OSError as error:
            raise self._error(f"the connection is gone: {error}") from None

    def receive(self) -> tuple[dict, Blocks]:
        """The next message and its blocks; WireError for anything else, TimeoutError if the socket has a limit."""
        length, size = LENGTHS.unpack(self._read(LENGTHS.size))
        if length > MOST_JSON or size > MOST_BYTES:
            raise self._error(f"a message of {length + size:,} bytes was announced")
        text, data = self._read(length), self._read(size)
        try:
            message, index = json.loads(text)
            blocks, start = {}, 0
            for name, count in index:
                if type(name) is not str or type(count) is not int or not 0 <= count <= size - start:
                    raise ValueError
                blocks[name] = data[start : start + count]
                start += count
            if not isinstance(message, dict):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise self._error("what was sent is no message") from None
        return message, blocks

    def _read(self, count: int) -> bytearray:
        data = bytearray()
        while len(data) < count:
            try:
                part = self.connection.recv(min(count - len(data), 1 << 20))
            except TimeoutError:
                raise
            except OSError as error:
                raise self._error(f"the connection is gone: {error}") from None
            if not part:
                raise self._error("the process has ended")
            data += part
        return data

    def close(self) -> None:
        """Close this end."""
        self.connection.close()
