#!/opt/desk/bin/python -ISE
"""A container's health check: whether its service says that it is ready. Nothing but Python is in the image."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["DESK_HTTP_PORT"]), timeout=2)
try:
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    print(answer.read(500).decode().strip())
    sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"no answer: {error}")
