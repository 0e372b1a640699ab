"""Reads a meter with Gurux DLMS. Runs in the peers' environment: cases come as JSON on stdin, one answer per line."""

import json
import socket
import sys
import traceback
from datetime import datetime

from gurux_dlms import GXByteBuffer, GXReplyData
from gurux_dlms.enums import Authentication, Conformance, InterfaceType, Security
from gurux_dlms.objects import GXDLMSDisconnectControl, GXDLMSProfileGeneric, GXDLMSRegister
from gurux_dlms.secure import GXDLMSSecureClient

MECHANISMS = {
    "none": Authentication.NONE,
    "low": Authentication.LOW,
    "high-md5": Authentication.HIGH_MD5,
    "high-sha1": Authentication.HIGH_SHA1,
    "high-gmac": Authentication.HIGH_GMAC,
    "high-sha256": Authentication.HIGH_SHA256,
}
SECURITIES = {
    "none": Security.NONE,
    "authenticated": Security.AUTHENTICATION,
    "encrypted": Security.ENCRYPTION,
    "authenticated-encrypted": Security.AUTHENTICATION_ENCRYPTION,
}


class Talk:
    """One conversation with the meter, as Gurux's own examples hold it, over a plain socket."""

    def __init__(self, case):
        wrapper = case["transport"] == "wrapper"
        password = case["password"] if case["mechanism"] not in ("none", "high-gmac") else None
        server = case["server"] if wrapper else GXDLMSSecureClient.getServerAddress(case["server"], case["physical"], 0)
        self.client = GXDLMSSecureClient(
            True,
            case["client"],
            server,
            MECHANISMS[case["mechanism"]],
            password,
            InterfaceType.WRAPPER if wrapper else InterfaceType.HDLC,
        )
        self.client.maxReceivePDUSize = case["max_pdu"]
        cipher = self.client.ciphering
        cipher.security = SECURITIES[case["security"]]
        cipher.systemTitle = bytearray.fromhex(case["title"])
        cipher.blockCipherKey = bytearray.fromhex(case["encryption"])
        cipher.authenticationKey = bytearray.fromhex(case["authentication"])
        cipher.invocationCounter = case["counter"]
        if case["tags"].endswith("ded"):
            cipher.dedicatedKey = bytearray(range(0x30, 0x40))
        if case["tags"].startswith("general"):
            self.client.proposedConformance |= Conformance.GENERAL_PROTECTION
        else:
            self.client.proposedConformance &= ~Conformance.GENERAL_PROTECTION
        self.socket = socket.create_connection(("127.0.0.1", case["port"]), timeout=10)

    def exchange(self, data, reply):
        if not data:
            return
        if isinstance(data, (list, tuple)):
            for part in data:
                reply.clear()
                self.exchange(part, reply)
            return
        self.once(data, reply)
        while reply.isMoreData():
            self.once(None if reply.isStreaming() else self.client.receiverReady(reply), reply)

    def once(self, data, reply):
        notify = GXReplyData()
        reply.error = 0
        if data is not None:
            self.socket.sendall(data)
        heard = GXByteBuffer()
        while True:
            part = self.socket.recv(65536)
            if not part:
                raise OSError("the meter hung up")
            heard.set(part)
            if self.client.getData(heard, reply, notify):
                break
        if reply.error:
            raise ValueError(f"error {reply.error}")

    def ask(self, data):
        reply = GXReplyData()
        self.exchange(data, reply)
        return reply

    def associate(self):
        snrm = self.client.snrmRequest()
        if snrm:
            self.client.parseUAResponse(self.ask(snrm).data)
        self.client.parseAareResponse(self.ask(self.client.aarqRequest()).data)
        if self.client.isAuthenticationRequired:
            reply = self.ask(self.client.getApplicationAssociationRequest())
            self.client.parseApplicationAssociationResponse(reply.data)

    def read(self, item, number):
        reply = self.ask(self.client.read(item, number))
        return self.client.updateValue(item, number, reply.value)

    def end(self):
        self.ask(self.client.releaseRequest())
        last = self.client.disconnectRequest()
        if last and self.client.interfaceType == InterfaceType.HDLC:
            self.ask(last)
        self.socket.close()


def shown(value):
    if hasattr(value, "value"):  # a date-time
        return int(value.value.timestamp())
    return bytes(value).hex() if isinstance(value, (bytes, bytearray)) else value


def read(case):
    talk = Talk(case)
    talk.associate()
    answer = {"name": case["name"]}
    register = GXDLMSRegister("1.0.1.8.0.255")
    talk.read(register, 3)
    answer["scaler"] = register.scaler
    answer["register"] = talk.read(register, 2)
    profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
    talk.read(profile, 3)
    talk.read(profile, 2)
    answer["rows"] = [[shown(value) for value in row] for row in profile.buffer]
    first, last = (datetime.fromisoformat(text) for text in case["day"])
    reply = talk.ask(talk.client.readRowsByRange(profile, first, last))
    talk.client.updateValue(profile, 2, reply.value)
    answer["day"] = [[shown(value) for value in row] for row in profile.buffer]
    switch = GXDLMSDisconnectControl("0.0.96.3.10.255")
    for name, act in (("disconnected", switch.remoteDisconnect), ("reconnected", switch.remoteReconnect)):
        talk.ask(act(talk.client))
        answer[name] = int(talk.read(switch, 3))
    talk.end()
    answer["released"] = True
    return answer


answers, sys.stdout = sys.stdout, sys.stderr  # the library tells on stdout what it does
for each in json.load(sys.stdin):
    try:
        print(json.dumps(read(each)), file=answers, flush=True)
    except Exception:  # whatever it is, the test wants to see it
        print(json.dumps({"name": each["name"], "error": traceback.format_exc()[-1500:]}), file=answers, flush=True)
