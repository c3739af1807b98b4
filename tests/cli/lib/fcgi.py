"""One request of the service over its own socket, without a web server."""
import json
import socket
import struct


def request(path, method, uri, data=None, key="key", timeout=300):
    """(status, parsed JSON or bytes); path: of the socket."""
    def part(kind, d):
        return b"".join(struct.pack(">BBHHBB", 1, kind, 1, len(d[i:i + 65535]), 0, 0) + d[i:i + 65535]
                        for i in range(0, len(d), 65535)) or struct.pack(">BBHHBB", 1, kind, 1, 0, 0, 0)

    def pair(k, v):
        return bytes([len(k), len(v)]) + k.encode() + v.encode()
    body = b"" if data is None else json.dumps(data).encode()
    params = {"REQUEST_METHOD": method, "REQUEST_URI": uri, "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": str(len(body)),
              "CONTENT_TYPE": "application/json", "HTTP_X_API_KEY": key, "REMOTE_ADDR": "127.0.0.1"}
    raw, out = b"", b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall(part(1, struct.pack(">HB5x", 1, 0)) + part(4, b"".join(pair(*x) for x in params.items())) + part(4, b"") +
                  (part(5, body) if body else b"") + part(5, b""))
        while True:
            d = s.recv(65536)
            if not d:
                break
            raw += d
    while len(raw) >= 8:
        _, kind, _, n, pad, _ = struct.unpack(">BBHHBB", raw[:8])
        out += raw[8:8 + n] if kind == 6 else b""
        raw = raw[8 + n + pad:]
    head, _, body = out.partition(b"\r\n\r\n")
    status = int(head[8:11]) if head.startswith(b"Status: ") else 200 if head else None
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body
