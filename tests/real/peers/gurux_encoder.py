"""Encodes a meter's replies with Gurux DLMS. Runs in the peers' environment.

The first line on stdin is the meter's data as JSON; each further one says what to encode, and is answered by hex.
"""

import json
import sys
from datetime import UTC, datetime

from gurux_dlms import GXByteBuffer, GXDateTime, ValueEventArgs
from gurux_dlms._GXAPDU import _GXAPDU
from gurux_dlms.enums import (
    AssociationResult,
    Command,
    Conformance,
    DataType,
    InterfaceType,
    Security,
    SourceDiagnostic,
)
from gurux_dlms.GXCiphering import GXCiphering
from gurux_dlms.GXDLMS import GXDLMS
from gurux_dlms.GXDLMSLNParameters import GXDLMSLNParameters
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.objects import (
    GXDLMSCaptureObject,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSProfileGeneric,
    GXDLMSRegister,
)

NORMAL = 1
SECURITIES = {
    "authenticated": Security.AUTHENTICATION,
    "encrypted": Security.ENCRYPTION,
    "authenticated-encrypted": Security.AUTHENTICATION_ENCRYPTION,
}


class Encoder:
    """A meter's data, and the library's settings of a server."""

    def __init__(self, made):
        self.settings = GXDLMSSettings(True, None)
        self.settings.setUseLogicalNameReferencing(True)
        self.settings.interfaceType = InterfaceType.WRAPPER  # APDUs without the LLC bytes of HDLC
        self.settings.maxPduSize = made["max_pdu"]
        self.settings.negotiatedConformance = Conformance(
            Conformance.GET | Conformance.BLOCK_TRANSFER_WITH_GET_OR_READ | Conformance.SELECTIVE_ACCESS
        )
        self.made = made
        self.register = GXDLMSRegister("1.0.1.8.0.255")
        self.register.scaler, self.register.unit = 10.0 ** made["scaler"], 30
        self.profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
        status, other = GXDLMSData("0.0.96.10.1.255"), GXDLMSRegister("1.0.2.8.0.255")
        status.setDataType(2, DataType.UINT8)
        for item in (self.register, other):
            item.setDataType(2, DataType.UINT32)
        for item in (GXDLMSClock(), status, self.register, other):
            self.profile.captureObjects.append((item, GXDLMSCaptureObject(2, 0)))
        self.under_way = None

    def aare(self):
        reply = GXByteBuffer()
        _GXAPDU.generateAARE(self.settings, reply, AssociationResult.ACCEPTED, SourceDiagnostic.NONE, None, None, None)
        return reply

    def content(self, name):
        found = GXByteBuffer()
        if name == "register":
            found.setUInt8(DataType.UINT32)
            found.setUInt32(self.made["register"])
        elif name == "scaler":
            found.set(self.register.getValue(self.settings, ValueEventArgs(self.settings, self.register, 3)))
        elif name == "objects":
            found.set(self.profile.getValue(self.settings, ValueEventArgs(self.settings, self.profile, 3)))
        else:
            rows = [[GXDateTime(datetime.fromtimestamp(row[0], UTC)), *row[1:]] for row in self.made["rows"]]
            asked = ValueEventArgs(self.settings, self.profile, 2)
            found.set(self.profile.getData(self.settings, asked, rows, self.profile.captureObjects))
        return found

    def get(self, name, invoke):
        self.under_way = GXDLMSLNParameters(
            self.settings, invoke, Command.GET_RESPONSE, NORMAL, None, self.content(name), 0
        )
        return self.next(invoke)

    def next(self, invoke):
        self.under_way.invokeId = invoke
        reply = GXByteBuffer()
        GXDLMS.getLNPdu(self.under_way, reply)
        self.under_way.requestType = NORMAL
        return reply

    def cipher(self, security, *, general):
        cipher = self.settings.cipher = GXCiphering(bytearray.fromhex(self.made["title"]))
        cipher.security = SECURITIES[security]
        cipher.blockCipherKey = bytearray.fromhex(self.made["encryption"])
        cipher.authenticationKey = bytearray.fromhex(self.made["authentication"])
        cipher.invocationCounter = self.made["counter"]
        if general:
            self.settings.connected = 2
            self.settings.negotiatedConformance |= Conformance.GENERAL_PROTECTION
        else:
            self.settings.negotiatedConformance &= ~Conformance.GENERAL_PROTECTION


def main():
    answers, sys.stdout = sys.stdout, sys.stderr
    encoder = Encoder(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "aare":
            reply = encoder.aare()
        elif asked["what"] == "next":
            reply = encoder.next(asked["invoke"])
        else:
            if "security" in asked:
                encoder.cipher(asked["security"], general=asked["general"])
            reply = encoder.get(asked["what"], asked["invoke"])
        print(bytes(reply.array()).hex(), file=answers, flush=True)


main()
