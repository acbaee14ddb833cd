"""profanity, driven through a tmux of its own: typed at, and looked at as a person would."""
import asyncio
import os
import re
import subprocess

from harness import PASSWORD, until


class Profanity:
    def __init__(self, cluster, jid, c2s):
        self.jid = jid
        self.port = cluster.port(c2s)
        self.home = cluster.tmp / f"profanity-{jid}"
        self.socket = str(self.home / "tmux")

    def tmux(self, *args):
        argv = ["tmux", "-u", "-S", self.socket, "-f", "/dev/null", *args]
        env = {**os.environ, "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TERM": "screen", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""}
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, env=env)

    def screen(self):
        return self.tmux("capture-pane", "-p").stdout

    async def expect(self, pattern):
        """Waits until the screen shows the pattern."""
        return await until(lambda: re.search(pattern, self.screen()), lambda: f"{pattern!r} on the screen\n{self.screen()}")

    async def type(self, line):
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")
        await asyncio.sleep(0.1)

    async def start(self):
        self.home.mkdir()
        self.tmux("new-session", "-d", "-x", "180", "-y", "50", "profanity")
        await self.expect("Type '/help'")
        await self.type("/splash off")
        await self.type(f"/connect {self.jid} server 127.0.0.1 port {self.port} tls force")
        await self.expect("[Ee]nter password")
        await self.type(PASSWORD)
        await self.expect(f"logged in successfully|{self.jid}.*online")

    async def stop(self):
        self.tmux("kill-server")
