"""`python3 -m replicas.probe readyz`: a container's health check. 0: the replica in this container says yes.

Sockets alone: it runs every few seconds beside each replica, and anything more would cost more than an idle replica.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0


def main(path: str) -> int:
    """Ask the HTTP address that the environment binds, over the loopback interface."""
    host, _, port = os.environ.get("RINGCAST_BIND_HTTP", "127.0.0.1:7105").rpartition(":")
    host = "127.0.0.1" if host in {"", "0.0.0.0"} else "::1" if host == "[::]" else host.strip("[]")  # noqa: S104
    try:
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(4_096):
                answer += part
    except (OSError, ValueError) as error:
        print(f"{host}:{port}: {error}")  # noqa: T201 - what `docker inspect` shows
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body.decode(errors="replace").strip())  # noqa: T201
    return 0 if head.split()[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "readyz"))
