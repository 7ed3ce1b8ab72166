import socket

import pytest

from qaconv.errors import InputError
from qaconv.serving import server


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--host 127.0.0.1 --port {port}: "):
            server.listen("127.0.0.1", port)
