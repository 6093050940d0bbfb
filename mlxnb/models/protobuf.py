"""Walks through a protocol buffer in a file field by field, without reading what is skipped.

A field is a varint of its number and wire type, then its value: a varint (0), 8 bytes (1), a length and as many bytes
(2), or 4 bytes (5). Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .headers import refuse

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5
LONGEST_VARINT = 10  # bytes
MOST_TEXT = 1 << 20  # bytes of a name or a shape; what is longer is neither


@dataclass(frozen=True, slots=True)
class Message:
    """The bytes from `begin` to `end` of a file, as a message. `file_name` is for what is wrong with it."""

    file: BinaryIO
    file_name: str
    begin: int
    end: int

    def fields(self) -> Iterator[Field]:
        """Its fields, in order.

        Raises:
            DamagedModelError: it is none, or is cut.
        """
        at = self.begin
        while at < self.end:
            self.file.seek(at)
            key = self._varint()
            number, wire = key >> 3, key & 7
            value = self._varint() if wire in (VARINT, LENGTH) else 0
            begin = self.file.tell()
            at = begin + {VARINT: 0, EIGHT: 8, LENGTH: value, FOUR: 4}.get(wire, self.end)
            if at > self.end or not number:
                refuse(self.file_name, "is cut off, or no ONNX file")
            yield Field(self, number, wire, value, begin, at)

    def _varint(self) -> int:
        """A number in groups of 7 bits, the lowest first; the highest bit of each byte but the last is set."""
        value = 0
        for place, byte in enumerate(iter(lambda: self.file.read(1), b"")):
            value |= (byte[0] & 0x7F) << (7 * place)
            if not byte[0] & 0x80:
                return value
            if place + 1 == LONGEST_VARINT:
                break
        refuse(self.file_name, "is cut off, or no ONNX file")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its `value` where it is a number, else the place of its bytes."""

    of: Message
    number: int
    wire: int
    value: int
    begin: int
    end: int

    def message(self) -> Message:
        """Its bytes as a message.

        Raises:
            DamagedModelError: it has no bytes.
        """
        if self.wire != LENGTH:
            refuse(self.of.file_name, "is cut off, or no ONNX file")
        return Message(self.of.file, self.of.file_name, self.begin, self.end)

    def text(self) -> str:
        """Its bytes as text.

        Raises:
            DamagedModelError: it has no bytes, or they are no name.
        """
        self.message()
        if self.end - self.begin > MOST_TEXT:
            refuse(self.of.file_name, "is no ONNX file: a name in it is too long")
        self.of.file.seek(self.begin)
        return self.of.file.read(self.end - self.begin).decode("utf-8", "replace")

    def numbers(self) -> list[int]:
        """Its value, or all that are packed into its bytes."""
        if self.wire == VARINT:
            return [self.value]
        if self.end - self.begin > MOST_TEXT:
            refuse(self.of.file_name, "is no ONNX file: a shape in it is too long")
        inner, numbers = self.message(), []
        self.of.file.seek(inner.begin)
        while self.of.file.tell() < inner.end:
            numbers.append(inner._varint())
        return numbers
