"""A page that says which Debian it is served from."""

import socket

with open("/etc/debian_version", encoding="ascii") as file:
    PAGE = f"Debian {file.read().strip()}\n".encode()

with socket.create_server(("", 8080)) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(PAGE)}\r\n\r\n"
            connection.sendall(head.encode() + PAGE)
