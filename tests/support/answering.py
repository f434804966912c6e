"""A server of this process, for as long as a `with` block lasts."""

import threading


class Answering:
    """Whoever inherits it has a `server`."""

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
