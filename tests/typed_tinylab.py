"""Stands for the program ``tinylab`` in tests: a fork of a process that has everything imported.

It passes its arguments, streams, folder and environment to fork_server.py at TYPED_TINYLAB.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["TYPED_TINYLAB"])
    environment = dict(os.environ)
    request = {"arguments": sys.argv[1:], "cwd": os.getcwd(), "environment": environment}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    code = server.recv(16)
sys.exit(int(code) if code else "the command has ended without an exit code")
