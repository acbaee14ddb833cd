#!/usr/bin/python3
"""DANE (RFC 6698, RFC 7673): signed TLSA records say what a server's certificate must be. Certificates are required
here, so that nothing else can prove the self-signed ones."""
import hashlib
import subprocess
import time
import unittest

from lab import Case, Jackdaw, Prosody, free_port


def key_digest(crt):
    public = subprocess.run(["openssl", "x509", "-in", crt, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


class Dane(Case):
    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.dns_port = free_port()
        cls.servers = {}
        for name in ("right.sec", "old.sec", "wrong.sec", "forged.sec"):
            cert = lab.certificate(name, [name], days=0) if name == "old.sec" else lab.certificate(name, [name], self_signed=True)
            p = cls.servers[name] = Prosody(lab, name, certificate=cert)
            p.add("romeo")
            digest = key_digest(cert[0]) if name != "wrong.sec" else "00" * 32
            records = ["@ A 127.0.0.1", "xmpp A 127.0.0.1", f"_xmpp-server._tcp SRV 0 0 {p.port} xmpp", f"_{p.port}._tcp.xmpp TLSA 3 1 1 {digest}"]
            lab.sign(name, records, forge=("127.0.0.1", "127.0.0.9") if name == "forged.sec" else None)
        lab.start_dns()
        cls.jackdaw = Jackdaw(lab, "jackdaw.lab", s2s__require_certificate="true", s2s__trust_anchor=lab.dir / "anchors.key")
        lab.serve("jackdaw.lab", cls.jackdaw.port)
        lab.start_dns()
        cls.jackdaw.add("juliet")

    def test_record_that_is_right(self):
        j, r = self.jackdaw.client("juliet"), self.servers["right.sec"].client("romeo")
        self.addCleanup(j.close)
        self.addCleanup(r.close)
        j.message(r.full, "by dane")
        r.got("by dane", j.full)
        self.assertGreaterEqual(self.jackdaw.stats("jackdaw_s2s_dane_total"), 1)

    def test_certificate_out_of_date(self):
        """Its dates mean nothing when DNS names the certificate itself (RFC 7671, 5.1)."""
        j, r = self.jackdaw.client("juliet"), self.servers["old.sec"].client("romeo")
        self.addCleanup(j.close)
        self.addCleanup(r.close)
        j.message(r.full, "old but named")
        r.got("old but named", j.full)
        time.sleep(2.5)
        j.message(r.full, "on the same stream")
        r.got("on the same stream", j.full)
        self.assertEqual(self.jackdaw.stats('jackdaw_s2s_refused_total{reason="certificate-expired"}'), 0)

    def test_record_that_is_wrong(self):
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("romeo@wrong.sec", "no", "w")
        j.error("remote-server-timeout", "w")
        self.assertGreaterEqual(self.jackdaw.stats('jackdaw_s2s_refused_total{reason="dane"}'), 1)

    def test_answers_that_are_forged(self):
        j = self.jackdaw.client("juliet")
        self.addCleanup(j.close)
        j.message("romeo@forged.sec", "no", "f")
        j.error("remote-server-timeout", "f")
        self.assertGreaterEqual(self.jackdaw.stats('jackdaw_s2s_dns_total{result="bogus"}'), 1)


if __name__ == "__main__":
    unittest.main()
