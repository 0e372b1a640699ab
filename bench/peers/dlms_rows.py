"""Reads one load profile with dlms-cosem and with Gurux, as often as asked, and prints rows a second of CPU as JSON.

A program of its own: it runs in the environment of the peers (`make peers`), and imports nothing of metergate.
Arguments: a file with the get-response in clear, a file with the same ciphered (glo), rows in it, rounds.
"""

import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dlms_cosem import cosem as words
from dlms_cosem import enumerations, security
from dlms_cosem.parsers import ProfileGenericBufferParser
from dlms_cosem.protocol.xdlms import GetResponseFactory
from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType, Security
from gurux_dlms.objects import GXDLMSCaptureObject, GXDLMSClock, GXDLMSData, GXDLMSProfileGeneric, GXDLMSRegister
from gurux_dlms.secure import GXDLMSSecureClient

KEY = bytes(range(16))
AUTHENTICATION_KEY = bytes(range(0xD0, 0xE0))
SERVER_TITLE = b"MGT\x00\x00\x00\x00\x01"
CLIENT_TITLE = b"MGC\x00\x00\x00\x00\x01"


def measure(rows: int, rounds: int, read: Callable[[], int]) -> float:
    """Return rows a second of CPU, the best of the rounds."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        assert read() == rows
        best = min(best, time.process_time() - begun)
    return rows / best


def cosem(plain: bytes, glo: bytes) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return what reads the plain and the ciphered reply with dlms-cosem; each returns the number of rows."""

    def column(interface: enumerations.CosemInterface, c: int) -> words.CosemAttribute:
        return words.CosemAttribute(interface, words.Obis(1, 0, c, 8, 0), 2)

    columns = [column(enumerations.CosemInterface.CLOCK, 0), column(enumerations.CosemInterface.DATA, 1)]
    columns += [column(enumerations.CosemInterface.REGISTER, c) for c in (2, 3, 4, 5)]
    parser = ProfileGenericBufferParser(capture_objects=columns, capture_period=15)
    control = security.SecurityControlField(security_suite=0, authenticated=True, encrypted=True)

    def read_plain() -> int:
        return len(parser.parse_bytes(GetResponseFactory.from_bytes(plain).data))

    def read_glo() -> int:
        body = glo[1 + (1 if glo[1] < 0x80 else 1 + (glo[1] & 0x7F)) :]
        counter = int.from_bytes(body[1:5], "big")
        clear = security.decrypt(control, SERVER_TITLE, counter, KEY, body[5:], AUTHENTICATION_KEY)
        return len(parser.parse_bytes(GetResponseFactory.from_bytes(clear).data))

    return read_plain, read_glo


def gurux(plain: bytes, glo: bytes) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return what reads the plain and the ciphered reply with Gurux; each returns the number of rows."""
    profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
    profile.captureObjects.append((GXDLMSClock("0.0.1.0.0.255"), GXDLMSCaptureObject(2, 0)))
    profile.captureObjects.append((GXDLMSData("0.0.96.10.1.255"), GXDLMSCaptureObject(2, 0)))
    for c in (1, 2, 3, 4):
        profile.captureObjects.append((GXDLMSRegister(f"1.0.{c}.8.0.255"), GXDLMSCaptureObject(2, 0)))

    def reader(apdu: bytes, *, ciphered: bool) -> Callable[[], int]:
        frame = struct.pack(">HHHH", 1, 1, 16, len(apdu)) + apdu

        def read() -> int:
            client = GXDLMSSecureClient(True, 16, 1, Authentication.NONE, None, InterfaceType.WRAPPER)
            if ciphered:
                client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
                client.ciphering.systemTitle = CLIENT_TITLE
                client.ciphering.blockCipherKey = KEY
                client.ciphering.authenticationKey = AUTHENTICATION_KEY
                client.settings.sourceSystemTitle = SERVER_TITLE
            reply = GXReplyData()
            client.getData(GXByteBuffer(frame), reply, None)
            profile.buffer.clear()
            client.updateValue(profile, 2, reply.value)
            return len(profile.buffer)

        return read

    return reader(plain, ciphered=False), reader(glo, ciphered=True)


def main() -> None:
    """Measure both peers."""
    plain, glo = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes()
    rows, rounds = int(sys.argv[3]), int(sys.argv[4])
    found = {}
    for name, make in (("dlms-cosem", cosem), ("gurux", gurux)):
        for kind, read in zip(("plain", "glo"), make(plain, glo), strict=True):
            found[f"{name} {kind}"] = measure(rows, rounds, read)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
