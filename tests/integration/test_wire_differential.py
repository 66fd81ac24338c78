"""The same websocket scripts against opal-server 0.9.9 and opald; what comes back must be the same to the byte.

Normalised: ids of 32 hex digits (numbered in order of appearance), the date, and `data` of notifies (compared as JSON: opald passes
the text through, the reference writes it anew). Where opald differs on purpose, DIFFERENT holds what it must do instead.

All scripts run at once, each on topics of its own, against one server of each kind.
"""

import concurrent.futures
import json
import re
import struct
import time

import pytest

from harness import WireClient, frame, handshake_request, http_bytes, scaled
from harness.differences import check_ids
from harness.http import HttpConnection
from harness.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

SCRIPTS: dict = {}


def script(function):
    SCRIPTS[function.__name__] = function
    return function


class Peer:
    """A websocket connection that writes down what it receives and answers notifies when it reads them."""

    def __init__(self, port: int, name: str, log: list, reply: bool = True, path: str = "/ws"):
        self.wire = WireClient(port, path=path, timeout=15)
        self.name, self.log, self.reply = name, log, reply
        self.ended = False

    def note(self, what):
        if what[0] == "text":
            what = ("text", show(what[1]))
        self.log.append((self.name, *what))

    def get(self, timeout: float | None = None):
        """Reads one frame, notes it, answers it when it is a notify or the closing of the connection."""
        got = self.wire.read(timeout)
        self.note(got)
        if got[0] == "text" and self.reply:
            request = json.loads(got[1]).get("request")
            if request and request["method"] == "notify":
                self.wire.text(json.dumps({"request": None, "response": {"result": "None", "result_type": "str", "call_id": request["call_id"]}}))
        if got[0] == "close":
            self.wire.send(frame(CLOSE, struct.pack(">H", got[1]) if got[1] else b""))
        if got[0] == "eof":
            self.ended = True
        return got

    def text(self, text, **options):
        self.wire.text(text, **options)

    def send(self, raw: bytes):
        self.wire.send(raw)

    def call(self, method: str, arguments=None, call_id: str = "c"):
        """Sends a request and reads up to its response (or the end)."""
        self.wire.request(method, arguments, call_id)
        return self.until(call_id)

    def until(self, call_id):
        while True:
            got = self.get()
            if got[0] == "eof":
                return got
            if got[0] == "text":
                response = json.loads(got[1]).get("response")
                if response and response["call_id"] == call_id:
                    return got

    def settle(self, quiet: float = 0.4):
        """Lets the server close if it wants to; if not, a ping shows that the connection lives and that nothing else came before."""
        try:
            while not self.ended:
                self.get(quiet)
        except TimeoutError:
            self.call("ping", call_id="after")

    def end(self):
        """Reads up to the end of the connection."""
        while not self.ended:
            self.get()


def show(text: str) -> str:
    """A message with `data` of a notify in canonical form."""
    marker = '}, "data": '
    if text.startswith('{"request": {"method": "notify"') and marker in text:
        start = text.index(marker) + len(marker)
        end = text.rindex('}, "call_id": ')
        return text[:start] + json.dumps(json.loads(text[start:end])) + text[end:]
    return text


def normalise(log: list) -> list:
    ids: dict[str, str] = {}

    def number(match):
        return ids.setdefault(match.group(0), f"ID{len(ids) + 1}")

    return [tuple(re.sub(r"\b[0-9a-f]{32}\b", number, part) if isinstance(part, str) else part for part in entry) for entry in log]


# ---------------------------------------------------------------- one message, then a look whether the connection lives
def request(**fields) -> str:
    return json.dumps({"request": fields})


MESSAGES = {
    # not a message at all
    "text_not_json": "nope",
    "text_empty": "",
    "text_blank": "   ",
    "text_bom": "\ufeff" + request(method="ping", call_id="c"),
    "text_trailing_garbage": request(method="ping", call_id="c") + " x",
    "text_two_values": "{}{}",
    "text_unterminated": '{"request": {"method": "ping"',
    "text_single_quotes": "{'request': null}",
    "text_trailing_comma": '{"request": null,}',
    "text_bare_word": "undefined",
    "spaces_around": "  \t\r\n" + request(method="ping", call_id="c") + " \n ",
    # JSON that is no request
    "empty_object": "{}",
    "empty_array": "[]",
    "request_null": '{"request": null}',
    "both_null": '{"request": null, "response": null}',
    "number": "5",
    "float": "1.5",
    "true": "true",
    "null": "null",
    "nan": "NaN",
    "string": '"x"',
    "request_number": '{"request": 5}',
    "request_string": '{"request": "x"}',
    "request_true": '{"request": true}',
    "request_empty_object": '{"request": {}}',
    "request_empty_array": '{"request": []}',
    "request_array": '{"request": [1]}',
    "method_array": '{"request": {"method": ["ping"]}}',
    "method_object": '{"request": {"method": {}, "call_id": "c"}}',
    "method_null": '{"request": {"method": null, "call_id": "c"}}',
    "method_number": '{"request": {"method": 5, "call_id": "c"}}',
    "method_float": '{"request": {"method": 1.5, "call_id": "c"}}',
    "method_true": '{"request": {"method": true, "call_id": "c"}}',
    "method_missing": '{"request": {"call_id": "c"}}',
    # the call id
    "call_id_missing": '{"request": {"method": "ping"}}',
    "call_id_null": '{"request": {"method": "ping", "call_id": null}}',
    "call_id_number": '{"request": {"method": "ping", "call_id": 7}}',
    "call_id_big_number": '{"request": {"method": "ping", "call_id": 123456789012345678901234567890}}',
    "call_id_negative": '{"request": {"method": "ping", "call_id": -7}}',
    "call_id_object": '{"request": {"method": "ping", "call_id": {}}}',
    "call_id_array": '{"request": {"method": "ping", "call_id": [1]}}',
    "call_id_empty": '{"request": {"method": "ping", "call_id": ""}}',
    "call_id_unicode": '{"request": {"method": "ping", "call_id": "é€😀\u007f"}}',
    "call_id_escapes": '{"request": {"method": "ping", "call_id": "a\\"b\\\\c\\/d\\n\\t\\u0001\\u00e9\\ud83d\\ude00"}}',
    # extra keys, duplicates, order
    "extra_keys": '{"jsonrpc": "2.0", "request": {"method": "ping", "call_id": "c", "pad": [1, {"x": 2}]}, "extra": 5}',
    "response_before_request": '{"response": null, "request": {"call_id": "c", "arguments": {}, "method": "ping"}}',
    "duplicate_method": '{"request": {"method": "nope", "method": "ping", "call_id": "c"}}',
    "duplicate_request": '{"request": {"method": "nope"}, "request": {"method": "ping", "call_id": "c"}}',
    "escaped_key": '{"re\\u0071uest": {"meth\\u006fd": "pi\\u006eg", "call_id": "c"}}',
    "wrong_case_key": '{"Request": {"method": "ping", "call_id": "c"}}',
    # arguments
    "arguments_missing": '{"request": {"method": "ping", "call_id": "c"}}',
    "arguments_empty_array": '{"request": {"method": "ping", "arguments": [], "call_id": "c"}}',
    "arguments_array": '{"request": {"method": "ping", "arguments": [1], "call_id": "c"}}',
    "arguments_string": '{"request": {"method": "ping", "arguments": "x", "call_id": "c"}}',
    "arguments_number": '{"request": {"method": "ping", "arguments": 5, "call_id": "c"}}',
    "arguments_null": '{"request": {"method": "ping", "arguments": null, "call_id": "c"}}',
    "arguments_unknown": '{"request": {"method": "ping", "arguments": {"x": 1}, "call_id": "c"}}',
    "arguments_pairs": '{"request": {"method": "subscribe", "arguments": [["topics", ["arguments_pairs"]]], "call_id": "c"}}',
    # both sides, arrays of pairs, responses
    "request_and_response": '{"request": {"method": "ping", "call_id": "c"}, "response": {"result": "x", "result_type": "str", "call_id": "zz"}}',
    "array_of_pairs": '[["request", {"method": "ping", "call_id": "c"}]]',
    "array_of_pairs_inside": '[["request", [["method", "ping"], ["call_id", "c"]]]]',
    "response_unknown_id": '{"response": {"result": "x", "result_type": "str", "call_id": "zz"}}',
    "response_no_id": '{"response": {"result": "x", "result_type": "str"}}',
    "response_no_result": '{"response": {"call_id": "zz"}}',
    "response_empty": '{"response": {}}',
    "response_number": '{"response": 5}',
    # methods
    "method_ping_": '{"request": {"method": "_ping_", "call_id": "c"}}',
    "method_channel_id": '{"request": {"method": "_get_channel_id_", "call_id": "c"}}',
    "method_hidden": '{"request": {"method": "_x", "call_id": "c"}}',
    "method_set_channel": '{"request": {"method": "_set_channel_", "arguments": {"channel": 1}, "call_id": "c"}}',
    "method_class": '{"request": {"method": "__class__", "call_id": "c"}}',
    "method_attribute_channel": '{"request": {"method": "channel", "call_id": "c"}}',
    "method_attribute_logger": '{"request": {"method": "logger", "call_id": "c"}}',
    "method_attribute_event_notifier": '{"request": {"method": "event_notifier", "call_id": "c"}}',
    "method_unknown": '{"request": {"method": "nope", "call_id": "c"}}',
    "method_upper_case": '{"request": {"method": "PING", "call_id": "c"}}',
    "method_empty": '{"request": {"method": "", "call_id": "c"}}',
    "method_process_details": '{"request": {"method": "get_process_details", "call_id": "c"}}',
    "method_notify": '{"request": {"method": "notify", "call_id": "c"}}',
    "method_with_space": '{"request": {"method": "ping ", "call_id": "c"}}',
    # subscribe
    "subscribe_nothing": request(method="subscribe", call_id="c"),
    "subscribe_empty": request(method="subscribe", arguments={"topics": []}, call_id="c"),
    "subscribe_number": request(method="subscribe", arguments={"topics": 5}, call_id="c"),
    "subscribe_null": request(method="subscribe", arguments={"topics": None}, call_id="c"),
    "subscribe_true": request(method="subscribe", arguments={"topics": True}, call_id="c"),
    "subscribe_nested": request(method="subscribe", arguments={"topics": [["x"]]}, call_id="c"),
    "subscribe_objects": request(method="subscribe", arguments={"topics": [{}]}, call_id="c"),
    "subscribe_null_item": request(method="subscribe", arguments={"topics": [None]}, call_id="c"),
    "subscribe_numbers": request(method="subscribe", arguments={"topics": [1]}, call_id="c"),
    "subscribe_scalars": request(method="subscribe", arguments={"topics": [True, 2.5]}, call_id="c"),
    "subscribe_empty_topic": request(method="subscribe", arguments={"topics": [""]}, call_id="c"),
    "subscribe_object": request(method="subscribe", arguments={"topics": {"a": 1}}, call_id="c"),
    "subscribe_empty_object": request(method="subscribe", arguments={"topics": {}}, call_id="c"),
    "subscribe_string": request(method="subscribe", arguments={"topics": "str"}, call_id="c"),
    "subscribe_empty_string": request(method="subscribe", arguments={"topics": ""}, call_id="c"),
    "subscribe_unknown_argument": request(method="subscribe", arguments={"topics": ["x"], "y": 1}, call_id="c"),
    "subscribe_statistics_topic": request(method="subscribe", arguments={"topics": ["__opal_stats_add"]}, call_id="c"),
    "subscribe_all_topics": request(method="subscribe", arguments={"topics": ["__EventNotifier_ALL_TOPICS__"]}, call_id="c"),
    "subscribe_purge_topic": request(method="subscribe", arguments={"topics": ["ok", "__opal_scope_purge__"]}, call_id="c"),
    # unsubscribe
    "unsubscribe_nothing": request(method="unsubscribe", call_id="c"),
    "unsubscribe_empty": request(method="unsubscribe", arguments={"topics": []}, call_id="c"),
    "unsubscribe_unknown": request(method="unsubscribe", arguments={"topics": ["never"]}, call_id="c"),
    "unsubscribe_string": request(method="unsubscribe", arguments={"topics": "x"}, call_id="c"),
    "unsubscribe_null": request(method="unsubscribe", arguments={"topics": None}, call_id="c"),
    "unsubscribe_number": request(method="unsubscribe", arguments={"topics": 5}, call_id="c"),
    "unsubscribe_all_topics": request(method="unsubscribe", arguments={"topics": ["__EventNotifier_ALL_TOPICS__"]}, call_id="c"),
    # publish
    "publish_nothing": request(method="publish", call_id="c"),
    "publish_empty": request(method="publish", arguments={"topics": [], "data": 1}, call_id="c"),
    "publish_nobody": request(method="publish", arguments={"topics": ["nobody"], "data": {"a": [1, "x"]}}, call_id="c"),
    "publish_number": request(method="publish", arguments={"topics": 5}, call_id="c"),
    "publish_null": request(method="publish", arguments={"topics": None}, call_id="c"),
    "publish_object": request(method="publish", arguments={"topics": {"publish_object": 1}, "data": 1}, call_id="c"),
    "publish_string": request(method="publish", arguments={"topics": "publish_string", "data": 1}, call_id="c"),
    "publish_sync_word": request(method="publish", arguments={"topics": ["nobody"], "sync": "no"}, call_id="c"),
    "publish_sync_null": request(method="publish", arguments={"topics": ["nobody"], "sync": None}, call_id="c"),
    "publish_notifier_number": request(method="publish", arguments={"topics": ["nobody"], "notifier_id": 5}, call_id="c"),
    "publish_unknown_argument": request(method="publish", arguments={"topics": ["nobody"], "why": 5}, call_id="c"),
    "publish_all_topics": request(method="publish", arguments={"topics": ["__EventNotifier_ALL_TOPICS__"], "data": 1}, call_id="c"),
    "publish_purge_topic": request(method="publish", arguments={"topics": ["__opal_scope_purge__"], "data": 1}, call_id="c"),
    "publish_purge_topic_async": request(method="publish", arguments={"topics": ["__opal_scope_purge__"], "data": 1, "sync": False}, call_id="c"),
    # text that is not what it should be
    "bad_utf8": b'{"request": {"method": "ping", "call_id": "\xff"}}',
    "overlong_utf8": b'{"request": {"method": "ping", "call_id": "\xc0\xaf"}}',
    "surrogate_utf8": b'{"request": {"method": "ping", "call_id": "\xed\xa0\x80"}}',
    "cut_utf8": b'{"request": {"method": "ping", "call_id": "\xe2\x82',
}


def one_message(payload):
    def run(port, log):
        peer = Peer(port, "a", log)
        peer.text(payload)
        peer.settle()
        peer.wire.close()
    return run


for message_name, message in MESSAGES.items():
    SCRIPTS[message_name] = one_message(message)


# ---------------------------------------------------------------- frames
FRAMES = {
    "ping_answered": [frame(PING, b"1234")],
    "ping_empty": [frame(PING)],
    "ping_125": [frame(PING, b"x" * 125)],
    "ping_126": [frame(PING, b"x" * 126)],
    "ping_fragmented": [frame(PING, b"x", fin=False)],
    "pong_unasked": [frame(PONG, b"1234")],
    "binary": [frame(BINARY, b"\x00\x01")],
    "binary_json": [frame(BINARY, request(method="ping", call_id="c").encode())],
    "binary_empty": [frame(BINARY)],
    "unmasked": [frame(TEXT, b"{}", mask=False)],
    "unmasked_ping": [frame(PING, b"", mask=False)],
    "rsv1": [frame(TEXT, b"{}", rsv=4)],
    "rsv2": [frame(TEXT, b"{}", rsv=2)],
    "rsv3": [frame(TEXT, b"{}", rsv=1)],
    "opcode_3": [frame(3, b"{}")],
    "opcode_7": [frame(7)],
    "opcode_11": [frame(11)],
    "opcode_15": [frame(15)],
    "continuation_alone": [frame(CONTINUATION, b"{}")],
    "text_within_fragments": [frame(TEXT, b"{", fin=False), frame(TEXT, b"}")],
    "fragments": [frame(TEXT, b'{"request": {"meth', fin=False), frame(CONTINUATION, b'od": "ping", ', fin=False), frame(CONTINUATION, b'"call_id": "c"}}')],
    "fragments_empty": [frame(TEXT, b"", fin=False), frame(CONTINUATION, b"", fin=False), frame(CONTINUATION, request(method="ping", call_id="c").encode(), fin=False), frame(CONTINUATION, b"")],
    "fragments_within_a_character": [frame(TEXT, b'{"request": {"method": "ping", "call_id": "\xe2\x82', fin=False), frame(CONTINUATION, b'\xac"}}')],
    "fragments_bad_utf8": [frame(TEXT, b'{"request": "\xe2\x82', fin=False), frame(CONTINUATION, b'"}')],
    "ping_between_fragments": [frame(TEXT, b'{"request": {"method": "ping", ', fin=False), frame(PING, b"mid"), frame(CONTINUATION, b'"call_id": "c"}}')],
    "binary_fragments": [frame(BINARY, b"{", fin=False), frame(CONTINUATION, b"}")],
    "close_plain": [frame(CLOSE, struct.pack(">H", 1000))],
    "close_reason": [frame(CLOSE, struct.pack(">H", 1000) + "tschüß".encode())],
    "close_empty": [frame(CLOSE)],
    "close_going_away": [frame(CLOSE, struct.pack(">H", 1001))],
    "close_3000": [frame(CLOSE, struct.pack(">H", 3000))],
    "close_4999": [frame(CLOSE, struct.pack(">H", 4999) + b"own")],
    "close_1011": [frame(CLOSE, struct.pack(">H", 1011))],
    "close_one_byte": [frame(CLOSE, b"\x03")],
    "close_code_0": [frame(CLOSE, struct.pack(">H", 0))],
    "close_code_999": [frame(CLOSE, struct.pack(">H", 999))],
    "close_code_1004": [frame(CLOSE, struct.pack(">H", 1004))],
    "close_code_1005": [frame(CLOSE, struct.pack(">H", 1005))],
    "close_code_1006": [frame(CLOSE, struct.pack(">H", 1006))],
    "close_code_1015": [frame(CLOSE, struct.pack(">H", 1015))],
    "close_code_2999": [frame(CLOSE, struct.pack(">H", 2999))],
    "close_code_5000": [frame(CLOSE, struct.pack(">H", 5000))],
    "close_bad_utf8": [frame(CLOSE, struct.pack(">H", 1000) + b"\xff")],
    "close_126": [frame(CLOSE, struct.pack(">H", 1000) + b"x" * 124)],
    "oversize_header": [frame(TEXT, b"", length=16777217)],
    "oversize_64_bit": [frame(TEXT, b"", length=1 << 62)],
    "length_not_minimal": [b"\x81\xfe\x00\x02" + b"\0\0\0\0" + b"{}"],
    "length_top_bit": [b"\x81\xff" + b"\x80" + b"\0" * 7 + b"\0\0\0\0"],
    "message_then_close": [frame(TEXT, request(method="ping", call_id="c").encode()) + frame(CLOSE, struct.pack(">H", 1000))],
    "many_in_one_write": [b"".join(frame(TEXT, request(method="ping", call_id=f"c{i}").encode()) for i in range(20))],
    "byte_by_byte": [bytes([b]) for b in frame(TEXT, request(method="ping", call_id="c").encode())],
}


def frames(pieces):
    def run(port, log):
        peer = Peer(port, "a", log)
        for piece in pieces:
            peer.send(piece)
            if len(pieces) > 10:
                time.sleep(0.002)
        peer.settle()
        peer.wire.close()
    return run


for frames_name, pieces in FRAMES.items():
    SCRIPTS["frame_" + frames_name] = frames(pieces)


def _message_of(size: int) -> bytes:
    text = request(method="ping", call_id="c", pad="")
    return (text[:-3] + "x" * (size - len(text)) + text[-3:]).encode()


@script
def frame_largest_message(port, log):
    peer = Peer(port, "a", log)
    peer.send(frame(TEXT, _message_of(16777216)))
    peer.settle(3)


@script
def frame_too_large_in_fragments(port, log):
    peer = Peer(port, "a", log)
    body = _message_of(16777217)
    half = len(body) // 2
    peer.send(frame(TEXT, body[:half], fin=False))
    peer.send(frame(CONTINUATION, body[half:]))
    peer.settle(3)


# ---------------------------------------------------------------- several steps, several peers
@script
def subscribe_then_event(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["subscribe_then_event"]})
    b.call("publish", {"topics": ["subscribe_then_event"], "data": {"k": [1, None, True, "é"]}, "sync": False})
    a.get()
    a.call("ping")


@script
def subscribe_twice_two_notifies(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["subscribe_twice"]})
    a.call("subscribe", {"topics": ["subscribe_twice"]})
    b.call("publish", {"topics": ["subscribe_twice"], "data": 1, "sync": False})
    a.get(), a.get()
    a.settle()


@script
def subscribe_same_topic_in_one_call(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["one_call", "one_call"]})
    b.call("publish", {"topics": ["one_call"], "data": 1, "sync": False})
    a.get(), a.get()
    a.settle()


@script
def publish_same_topic_twice_in_one_call(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["publish_twice"]})
    b.call("publish", {"topics": ["publish_twice", "publish_twice"], "data": 1, "sync": False})
    a.get(), a.get()
    a.settle()


@script
def string_topics_are_characters(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": "QÄ"})
    b.call("publish", {"topics": ["Q"], "data": 1, "sync": False})
    a.get()
    b.call("publish", {"topics": ["Ä"], "data": 2, "sync": False})
    a.get()
    b.call("publish", {"topics": ["QÄ"], "data": 3, "sync": False})
    a.settle()


@script
def publish_string_is_one_topic(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["publish_string_topic", "p"]})
    b.call("publish", {"topics": "publish_string_topic", "data": 1, "sync": False})
    a.get()
    a.settle()


@script
def publish_object_keys_are_topics(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["publish_object_a", "publish_object_b"]})
    b.call("publish", {"topics": {"publish_object_a": 1, "publish_object_b": 2}, "data": 1, "sync": False})
    a.get(), a.get()
    a.settle()


@script
def empty_topic_is_a_topic(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": [""]})
    b.call("publish", {"topics": [""], "data": "x", "sync": False})
    a.get()


@script
def publisher_does_not_hear_itself(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    for peer in (a, b):
        peer.call("subscribe", {"topics": ["no_echo"]})
    a.call("publish", {"topics": ["no_echo"], "data": 1, "sync": False})
    b.get()
    a.settle()


@script
def publisher_hears_itself_under_another_name(port, log):
    a = Peer(port, "a", log)
    a.call("subscribe", {"topics": ["echo"]})
    a.wire.request("publish", {"topics": ["echo"], "data": 1, "sync": False, "notifier_id": "somebody"})
    got = sorted([a.get()[1][:12], a.get()[1][:12]])
    del log[-2:]  # which of the two comes first is not told
    log.append(("a", *got))
    a.settle()


@script
def notifier_id_of_another_client_skips_it(port, log):
    a, b, c = (Peer(port, name, log) for name in "abc")
    for peer in (a, b, c):
        peer.call("subscribe", {"topics": ["skip"]})
    channel = json.loads(b.call("_get_channel_id_")[1])["response"]["result"]
    a.call("publish", {"topics": ["skip"], "data": 1, "sync": False, "notifier_id": channel})
    # the publisher goes by the name given: it hears the event, b does not
    a.get(), c.get()
    b.settle()


@script
def unsubscribe_stops_all_of_a_topic(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["unsub", "unsub_other"]})
    a.call("subscribe", {"topics": ["unsub"]})
    a.call("unsubscribe", {"topics": ["unsub", "never"]})
    b.call("publish", {"topics": ["unsub"], "data": 1, "sync": False})
    b.call("publish", {"topics": ["unsub_other"], "data": 2, "sync": False})
    a.get()
    a.settle()


@script
def unsubscribe_without_topics_keeps_all(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["unsub_none"]})
    a.call("unsubscribe", {"topics": []})
    a.call("unsubscribe")
    b.call("publish", {"topics": ["unsub_none"], "data": 1, "sync": False})
    a.get()


@script
def resubscribe_gets_a_new_subscription(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    for data in (1, 2):
        a.call("subscribe", {"topics": ["resub"]})
        b.call("publish", {"topics": ["resub"], "data": data, "sync": False})
        a.get()
        a.call("unsubscribe", {"topics": ["resub"]})


@script
def events_keep_their_order(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["order"]})
    for i in range(30):
        b.wire.request("publish", {"topics": ["order"], "data": i, "sync": True}, f"p{i}")
        a.get()
        b.until(f"p{i}")


@script
def sync_publish_answers_true(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["sync"]})
    b.wire.request("publish", {"topics": ["sync"], "data": {"x": 1}}, "p")
    a.get()
    b.until("p")


@script
def notify_ids_are_what_the_channel_says(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("_get_channel_id_")
    a.call("subscribe", {"topics": ["ids"]})
    for data in (1, 2):
        b.call("publish", {"topics": ["ids"], "data": data, "sync": False})
        a.get()


@script
def data_null_when_missing(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["no_data"]})
    b.call("publish", {"topics": ["no_data"], "sync": False})
    a.get()
    b.call("publish", {"topics": ["no_data"], "data": None, "sync": False})
    a.get()


@script
def data_of_every_kind(port, log):
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["kinds"]})
    for data in (0, -1, 1.5, "", "x", True, False, [], {}, [[]], {"a": {"b": [1, {"c": None}]}}, "\u0000\u001f\u007f\u0080\u2028é😀\\\"/", 10**30, 9007199254740993):
        b.call("publish", {"topics": ["kinds"], "data": data, "sync": False})
        a.get()


@script
def topics_of_every_kind(port, log):
    names = ["a b", "ä", "😀", "\n", '"', "\\", "/", "x" * 200, "policy:.", "s1:data:a/b", "webhook", "__opal_stats_rm", "\u007f"]
    names = [f"{name}|kinds" for name in names]
    a, b = Peer(port, "a", log), Peer(port, "b", log)
    a.call("subscribe", {"topics": names})
    for name in names:
        b.call("publish", {"topics": [name], "data": 1, "sync": False})
        a.get()


@script
def responses_of_every_kind_are_taken(port, log):
    a, b = Peer(port, "a", log, reply=False), Peer(port, "b", log)
    a.call("subscribe", {"topics": ["answers"]})
    for answer in ({"result": None}, {"result": {"x": [1]}, "result_type": None}, {"result": "None", "result_type": "str", "extra": 1}):
        b.wire.request("publish", {"topics": ["answers"], "data": 1, "sync": True}, "p")
        call_id = json.loads(a.get()[1])["request"]["call_id"]
        a.text(json.dumps({"response": {**answer, "call_id": call_id}}))
        b.until("p")
    a.call("ping")


@script
def pipelined_calls_are_answered_in_order(port, log):
    a = Peer(port, "a", log)
    for i in range(50):
        a.wire.request("subscribe" if i % 3 else "ping", {"topics": [f"pipeline{i}"]} if i % 3 else {}, f"c{i}")
    a.until("c49")


@script
def pipelined_publishes_are_answered_in_order(port, log):
    a = Peer(port, "a", log)
    for i in range(50):
        a.wire.request("publish" if i % 2 else "ping", {"topics": ["pipelined_nobody"], "data": i} if i % 2 else {}, f"c{i}")
    a.until("c49")


@script
def client_closes_in_the_middle(port, log):
    a, b, c = (Peer(port, name, log) for name in "abc")
    a.call("subscribe", {"topics": ["leaves"]})
    b.call("subscribe", {"topics": ["leaves"]})
    a.send(frame(CLOSE, struct.pack(">H", 1000)))
    a.end()
    c.call("publish", {"topics": ["leaves"], "data": 1, "sync": False})
    b.get()


@script
def frames_behind_a_close_are_ignored(port, log):
    a = Peer(port, "a", log)
    a.send(frame(CLOSE, struct.pack(">H", 1000)) + frame(TEXT, request(method="ping", call_id="c").encode()))
    a.end()


@script
def http_event_reaches_a_subscriber(port, log):
    a = Peer(port, "a", log)
    a.call("subscribe", {"topics": ["http_event"]})
    with HttpConnection(port) as http:
        body = {"entries": [{"url": "http://u", "topics": ["http_event"], "dst_path": "/x", "save_method": "PUT", "data": {"a": 1}, "config": {"headers": {"x": "y"}}}],
                "reason": "é", "callback": {"callbacks": ["http://c", ["http://d", {"method": "post"}]]}}
        assert http.request("POST", "/data/config", json=body).status == 200
    a.get()


@script
def http_event_with_expanded_topics(port, log):
    a = Peer(port, "a", log)
    a.call("subscribe", {"topics": ["expand:p/u"]})
    with HttpConnection(port) as http:
        body = {"id": "7", "entries": [{"url": "u", "topics": ["expand:p/u/k"], "save_method": "PATCH", "data": [{"op": "add", "path": "/a", "value": 1}]}]}
        assert http.request("POST", "/data/config", json=body).status == 200
    a.get()


@script
def query_string_is_fine(port, log):
    a = Peer(port, "a", log, path="/ws?token=x&__opal_client_id=c")
    a.call("ping")


# ---------------------------------------------------------------- handshakes
HANDSHAKES = {
    "plain": {},
    "with_authorization": {"headers": {"Authorization": "Bearer THIS_IS_A_DEV_SECRET"}},
    "other_path": {"path": "/nope"},
    "trailing_slash": {"path": "/ws/"},
    "on_healthcheck": {"path": "/healthcheck"},
    "percent_path": {"path": "/%77s"},
    "no_upgrade": {"drop": ["Upgrade"]},
    "no_connection": {"drop": ["Connection"]},
    "connection_close": {"headers": {"Connection": "close"}},
    "connection_keep_alive_upgrade": {"headers": {"Connection": "keep-alive, Upgrade"}},
    "upgrade_h2c": {"headers": {"Upgrade": "h2c"}},
    "upgrade_case": {"headers": {"Upgrade": "WebSocket"}},
    "version_8": {"headers": {"Sec-WebSocket-Version": "8"}},
    "version_missing": {"drop": ["Sec-WebSocket-Version"]},
    "version_word": {"headers": {"Sec-WebSocket-Version": "abc"}},
    "key_missing": {"drop": ["Sec-WebSocket-Key"]},
    "key_short": {"headers": {"Sec-WebSocket-Key": "AAAA"}},
    "key_not_base64": {"headers": {"Sec-WebSocket-Key": "!!!!!!!!!!!!!!!!!!!!!!=="}},
    "protocol_offered": {"headers": {"Sec-WebSocket-Protocol": "foo, bar"}},
    "origin_foreign": {"headers": {"Origin": "http://evil.example"}},
    "host_missing": {"drop": ["Host"]},
}


def handshake(options):
    def run(port, log):
        with HttpConnection(port) as http:
            http.send(handshake_request(options.get("path", "/ws"), options.get("headers"), options.get("drop", ()), f"127.0.0.1:{port}"))
            response = http.read_response()
            headers = sorted((name.lower(), "*" if name.lower() in ("date", "server") else value) for name, value in response.headers)
            log.append((response.status, response.reason, str(headers), response.text))
            if response.status != 101:
                log.append(("then closed", http.is_closed_by_peer(1) if response.header("connection") == "close" or response.status == 403 else "open"))
    return run


for handshake_name, options in HANDSHAKES.items():
    SCRIPTS["handshake_" + handshake_name] = handshake(options)


@script
def handshake_post(port, log):
    raw = handshake_request("/ws", host=f"127.0.0.1:{port}").replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    reply = http_bytes(port, raw, timeout=2)
    log.append((reply.split(b"\r\n")[0].decode(), reply.rpartition(b"\r\n\r\n")[2].decode()))


# ---------------------------------------------------------------- keep-alive of the transport: these take their time
SLOW: dict = {}


def slow(function):
    SLOW[function.__name__] = function
    return function


@slow
def server_pings_after_20_seconds(port, log):
    peer = Peer(port, "a", log)
    began = time.monotonic()
    got = peer.wire.read(25)
    # the reference's after 20 s, ours from 10 s on ("first-ping" in harness/differences.py)
    log.append((got[0], len(got[1]), "in time" if 9.5 < time.monotonic() - began < 20.5 + scaled(0.5) else f"after {time.monotonic() - began:.1f} s"))
    peer.send(frame(PONG, got[1]))
    began = time.monotonic()
    got = peer.wire.read(25)
    log.append((got[0], "next after 20 s" if 19.5 < time.monotonic() - began < 20.5 + scaled(0.5) else f"after {time.monotonic() - began:.1f} s"))


@slow
def silent_peer_is_closed_with_1011(port, log):
    peer = Peer(port, "a", log)
    peer.wire.read(25)
    began = time.monotonic()
    log.append(peer.wire.read(25))
    log.append(("20 s after the ping" if 19.5 < time.monotonic() - began < 20.5 + scaled(0.5) else f"after {time.monotonic() - began:.1f} s",))
    log.append(peer.wire.read(5))


@slow
def wrong_pong_does_not_count(port, log):
    peer = Peer(port, "a", log)
    peer.wire.read(25)
    peer.send(frame(PONG, b"nope"))
    log.append(peer.wire.read(25))


# ---------------------------------------------------------------- where opald differs on purpose (defects.md of the project's notes, README)
FALSE = ("a", "text", '{"request": null, "response": {"result": false, "result_type": "bool", "call_id": "c"}}')
PONG_AFTER = ("a", "text", '{"request": null, "response": {"result": "pong", "result_type": "str", "call_id": "after"}}')
# script: (id in harness/differences.py, why, what opald must do)
DIFFERENT = {
    name: ("refused-async-publish" if name.endswith("_async") else "refused-rpc", "a refused subscribe or publish is answered with false; the reference drops the connection", [FALSE, PONG_AFTER])
    for name in ("subscribe_all_topics", "subscribe_purge_topic", "publish_all_topics", "publish_purge_topic", "publish_purge_topic_async")
}

DIFFERENT["frame_message_then_close"] = (
    "close-behind",
    "what came before a close frame is answered before the close; the reference drops it",
    [("a", "text", '{"request": null, "response": {"result": "pong", "result_type": "str", "call_id": "c"}}'), ("a", "close", 1000, ""), ("a", "eof")],
)
DIFFERENT["handshake_host_missing"] = (
    "http-two-ways",
    "HTTP/1.1 without Host is refused; the reference answers",
    [
        (400, "Bad Request",
         "[('connection', 'close'), ('content-length', '30'), ('content-type', 'text/plain; charset=utf-8'), ('date', '*'), ('server', '*')]",
         "Invalid HTTP request received."),
        ("then closed", True),
    ],
)
check_ids((entry[0] for entry in DIFFERENT.values()), "test_wire_differential.py::test_same_as_the_reference")


# ---------------------------------------------------------------- running
def run_script(function, port: int):
    log: list = []
    try:
        function(port, log)
    except (TimeoutError, EOFError, ConnectionError, AssertionError, IndexError, ValueError) as error:
        log.append(("the script ended with", f"{type(error).__name__}: {error}"))
    return normalise(log)


@pytest.fixture(scope="module")
def background():
    with concurrent.futures.ThreadPoolExecutor(max_workers=2 * (len(SLOW) + 6)) as pool:
        yield pool


@pytest.fixture(scope="module")
def slow_transcripts(background, shared_reference, shared_opald):
    return {name: tuple(background.submit(run_script, function, server.port) for server in (shared_reference, shared_opald)) for name, function in SLOW.items()}


@pytest.fixture(scope="module")
def transcripts(request, background, shared_reference, shared_opald):
    """Futures of (reference, opald) for each script; the slow ones, when they are wanted at all, run beside them."""
    if any("slow_transcripts" in item.fixturenames for item in request.session.items):
        request.getfixturevalue("slow_transcripts")
    return {name: tuple(background.submit(run_script, function, server.port) for server in (shared_reference, shared_opald)) for name, function in SCRIPTS.items()}


def compare(name: str, futures):
    theirs, ours = (future.result() for future in futures)
    if name in DIFFERENT:
        _, why, wanted = DIFFERENT[name]
        assert ours == wanted, f"differs on purpose ({why})\nreference: {theirs}"
        assert ours != theirs, "no difference any more: take it out of DIFFERENT"
    else:
        assert ours == theirs


@pytest.mark.sanitize
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_same_as_the_reference(name, transcripts):
    compare(name, transcripts[name])


def test_frame_in_the_same_write_as_the_handshake(shared_opald):
    # the reference loses such a frame; a peer that sends it early gets its answer here
    with HttpConnection(shared_opald.port) as http:
        http.send(handshake_request("/ws", host=f"127.0.0.1:{shared_opald.port}") + frame(TEXT, request(method="ping", call_id="c").encode()))
        assert http.read_response().status == 101
        while b'"call_id": "c"' not in http.buffer:
            data = http.socket.recv(65536)
            assert data
            http.buffer += data


@pytest.mark.limit(120)
@pytest.mark.parametrize("name", sorted(SLOW))
def test_same_keepalive_as_the_reference(name, slow_transcripts):
    compare(name, slow_transcripts[name])
