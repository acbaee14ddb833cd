#!/usr/bin/python3
"""A gateway to another network: biboumi as a component, ngircd behind it. A user of Jackdaw joins a channel and talks
with an IRC user, both ways, in the channel and in private; biboumi is killed and started again in between."""
import socket
import time
import unittest

from lab import Case, Jackdaw, answers, free_port, until

IRC = "127.0.0.77"  # biboumi's ports for IRC servers are fixed: an address of our own instead
MUC = "http://jabber.org/protocol/muc"


class IrcUser:
    def __init__(self, nick):
        self.nick = nick
        self.sock = socket.create_connection((IRC, 6667))
        self.text = ""
        self.send(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        self.expect(f" 001 {nick} ")

    def send(self, *lines):
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def expect(self, part, limit_s=20):
        deadline = time.monotonic() + limit_s
        while part not in self.text:
            if time.monotonic() > deadline:
                raise AssertionError(f"IRC never said {part!r}; it said {self.text!r}")
            self.sock.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = self.sock.recv(4096).decode(errors="replace")
            except TimeoutError:
                continue
            assert data, f"IRC has closed; it said {self.text!r}"
            for line in data.splitlines():
                if line.startswith("PING"):
                    self.send("PONG" + line[4:])
            self.text += data
        self.text = self.text.partition(part)[2]


class Gateway(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s__components="irc.jackdaw.lab=gateway")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()
        conf = lab.dir / "ngircd.conf"
        conf.write_text(f"[Global]\nName = irc.lab\nInfo = lab\nListen = {IRC}\nPorts = 6667\nMotdPhrase = hello\n"
                        "[Options]\nDNS = no\nIdent = no\nPAM = no\n[Limits]\nMaxConnectionsIP = 0\nMaxNickLength = 30\n")
        lab.process(["/usr/sbin/ngircd", "-n", "-f", conf], "ngircd")
        until(lambda: answers(6667, IRC), "ngircd does not answer")
        conf = lab.dir / "biboumi.cfg"
        conf.write_text(f"hostname=irc.jackdaw.lab\npassword=gateway\nxmpp_server_ip=127.0.0.1\nport={cls.jackdaw.component_port}\n"
                        f"db_name={lab.dir}/biboumi.sqlite\nlog_file={lab.dir}/biboumi.out2\nlog_level=0\nidentd_port=0\n")
        cls.conf = conf
        cls.biboumi = None
        cls.start_biboumi()
        cls.jackdaw.add("juliet")

    @classmethod
    def start_biboumi(cls):
        before = cls.jackdaw.log().count("component connected")
        cls.biboumi = cls.lab.process(["/usr/bin/biboumi", cls.conf], "biboumi")
        until(lambda: cls.jackdaw.log().count("component connected") > before, "biboumi does not connect")

    def join(self, c):
        c.send(f"<presence to='#lab%{IRC}@irc.jackdaw.lab/juliet'><x xmlns='{MUC}'/></presence>")
        c.expect(lambda e: e.tag.endswith("presence") and any(s.get("code") == "110" for s in e.iter("{http://jabber.org/protocol/muc#user}status")),
                 "join")

    def talk(self, c, romeo, word):
        room = f"#lab%{IRC}@irc.jackdaw.lab"
        c.send(f"<message to='{room}' type='groupchat' id='g'><body>{word} to all</body></message>")
        romeo.expect(f"PRIVMSG #lab :{word} to all")
        romeo.send(f"PRIVMSG #lab :{word} from all")
        self.assertEqual(c.got(f"{word} from all").get("from"), f"{room}/romeo")
        c.send(f"<message to='romeo%{IRC}@irc.jackdaw.lab' type='chat' id='p'><body>{word} whispered</body></message>")
        romeo.expect(f":{word} whispered")
        romeo.send(f"PRIVMSG juliet :{word} whispered back")
        c.got(f"{word} whispered back")

    def test_irc(self):
        romeo = IrcUser("romeo")
        self.addCleanup(romeo.sock.close)
        romeo.send("JOIN #lab")
        romeo.expect("JOIN :#lab")
        c = self.jackdaw.client("juliet")
        self.addCleanup(c.close)
        self.join(c)
        romeo.expect(":juliet!")
        self.talk(c, romeo, "first")
        self.biboumi.kill()
        self.biboumi.wait()
        romeo.expect("QUIT")
        c.send(f"<message to='#lab%{IRC}@irc.jackdaw.lab' type='groupchat' id='dead'><body>anybody?</body></message>")
        c.error("service-unavailable", "dead", 30)
        self.start_biboumi()
        self.join(c)
        romeo.expect(":juliet!")
        self.talk(c, romeo, "second")


if __name__ == "__main__":
    unittest.main()
