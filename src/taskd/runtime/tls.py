"""TLS: the certificates of this process's servers, and the ones that its clients trust.

Files are looked at when a process starts, so a wrong path or a key that does not fit is one clear line then.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import NamedTuple

from taskd.domain.errors import ConfigurationError
from taskd.runtime.log import logger

#: Seconds between looks at the files of a server's certificate.
EVERY = 10.0


class Identity:
    """The certificate of a server in this process. Its files may be replaced: new connections then get the new one."""

    def __init__(self, cert_file: str, key_file: str, section: str) -> None:
        """Raises ConfigurationError, naming the section, for files that cannot be used."""
        self._files = (cert_file, key_file)
        self._section = section
        self.context = _server_context(cert_file, key_file, section)
        self._seen = self._stamps()

    async def renew(self) -> None:
        """Watch the files until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """Load the files if they changed. Unusable files (half of a change, say) are logged once, and the old ones stay."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            _server_context(*self._files, self._section)  # in a separate context: a failure would spoil the present one
            _load(self.context, *self._files, self._section)
        except (ConfigurationError, OSError) as error:
            logger().warning("the new certificate cannot be used; the old one stays", error=str(error))
        else:
            logger().info("the certificate was renewed", file=self._files[0])

    def _stamps(self) -> list[tuple[int, int]]:
        found = []
        for file in self._files:
            try:
                status = os.stat(file)
            except OSError:
                found.append((0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino))
        return found


def identity(cert_file: str, key_file: str, section: str) -> Identity | None:
    """Return the identity that a server's settings name; None: no TLS. Raises ConfigurationError."""
    if not _both(cert_file, key_file, section):
        return None
    return Identity(cert_file, key_file, section)


class Trust(NamedTuple):
    """The files with which a client checks a server and proves itself; an empty name: none."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def given(self) -> bool:
        """True if any file is set."""
        return any(self)

    def check(self, section: str) -> None:
        """Raise ConfigurationError, naming the section, unless the files can be used."""
        pair = _both(self.cert_file, self.key_file, section)
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise _unusable(section, "ca_file", self.ca_file, error) from None
        if pair:
            _load(context, self.cert_file, self.key_file, section)


def pem(path: str, section: str, key: str) -> bytes | None:
    """Return the content of a file; None if none is named. Raises ConfigurationError."""
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unusable(section, key, path, error) from None


def _server_context(cert_file: str, key_file: str, section: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    _load(context, cert_file, key_file, section)
    return context


def _load(context: ssl.SSLContext, cert_file: str, key_file: str, section: str) -> None:
    for key, file in (("cert_file", cert_file), ("key_file", key_file)):
        pem(file, section, key)
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")  # never ask at a terminal
    except OSError as error:
        raise _unusable(section, "cert_file or key_file", f"{cert_file}, {key_file}", error) from None


def _both(cert_file: str, key_file: str, section: str) -> bool:
    if bool(cert_file) != bool(key_file):
        missing = "key_file" if cert_file else "cert_file"
        raise ConfigurationError(f"section [{section}]: cert_file and key_file go together; {missing} is missing")
    return bool(cert_file)


def _unusable(section: str, key: str, file: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"section [{section}], {key}: {file}: {reason(error)}")


def reason(error: OSError) -> str:
    """Return the reason of a failure, for a reader who does not know OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        words = {
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            "BAD_DECRYPT": "the key has a password; give one without",
            "WRONG_VERSION_NUMBER": "the other side speaks no TLS",
        }
        return words.get(error.reason or "", f"no usable PEM ({error.reason or error})")
    return error.strerror or str(error)
