"""Reads one stream; when it is told to end (SIGTERM), writes when each row came and how
long after its `created_at`, in seconds, as JSON.

    python3 stream_reader.py URL FILE
"""

import datetime
import json
import re
import signal
import socket
import sys
import time
import urllib.parse

CREATED = re.compile(rb'"created_at" ?: ?"([^"]{27})"')


def connect(url):
    address = (url.hostname, url.port)
    for _ in range(100):
        try:
            return socket.create_connection(address)
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nobody answers at {url.netloc}")


def main(url, path):
    url = urllib.parse.urlsplit(url)
    rows = []

    def end(*_):
        with open(path, "w") as file:
            json.dump(rows, file)
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    connection = connect(url)
    connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
    rest = b""
    while chunk := connection.recv(1 << 16):
        now = time.time()
        rest += chunk
        last = 0
        for found in CREATED.finditer(rest):
            made = datetime.datetime.fromisoformat(found[1].decode()).timestamp()
            rows.append((now, now - made))
            last = found.end()
        rest = rest[max(last, len(rest) - 1024) :]
    signal.pause()


main(*sys.argv[1:])
