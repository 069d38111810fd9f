"""TLS as libpq does it: which certificates are sent and checked, and when a connection without TLS will do.

The driver could do most of this, but it takes no `sslrootcert=system`, and it fails if a certificate in HOME cannot be
read, as in another user's HOME that sudo or a container has kept. Such a certificate was not asked for, so we pass over
it.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reactor.database.libpq_files import in_home
from reactor.urls import UrlError

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM = "system"  # an sslrootcert: the certificates that the system trusts
_PREFERRED, _CHECKED = {"allow", "prefer"}, {"require", "verify-ca", "verify-full"}

# OpenSSL's numbers for an authority that is not trusted, and for another host's name or address.
_UNTRUSTED = {18, 19, 20, 21, 62, 64}


@dataclass(frozen=True, slots=True)
class Tls:
    """The parameters about TLS, checked."""

    mode: str
    given: Mapping[str, str] = field(repr=False)  # among them `sslpassword`

    @property
    def direct(self) -> bool:
        """Whether TLS begins at once, without asking the server first."""
        return self.given.get("sslnegotiation") == "direct"

    def tries(self) -> list[ssl.SSLContext | None]:
        """What to try in turn at a host: a context, or None for a connection without TLS. Raises UrlError."""
        if self.mode == "disable":
            return [None]
        if self.mode in _PREFERRED:
            return [None, self._context()] if self.mode == "allow" else [self._context(), None]
        return [self._context()]

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.mode in _CHECKED:
            self._trust(context)
        self._introduce(context)
        context.minimum_version = _version(self.given.get("ssl_min_protocol_version", "TLSv1.2"))
        context.maximum_version = _version(self.given.get("ssl_max_protocol_version", "MAXIMUM_SUPPORTED"))
        context.set_alpn_protocols(["postgresql"])
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        """Check the server's certificate; with `require` only if there is a root certificate, as libpq does."""
        if self.given.get("sslrootcert") == SYSTEM:
            context.load_default_certs()
        elif not self._loaded(context, "sslrootcert", "root.crt"):
            if self.mode == "require":
                return
            raise UrlError(f"sslmode={self.mode} needs a root certificate: sslrootcert=/path, or sslrootcert=system")
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = self.mode == "verify-full"
        folder = self.given.get("sslcrldir")
        if folder is not None:
            context.load_verify_locations(capath=folder)
        if self._loaded(context, "sslcrl", "root.crl") or folder is not None:
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN

    def _loaded(self, context: ssl.SSLContext, name: str, in_home_as: str) -> bool:
        """Load the certificates that the parameter names, or those in HOME; return whether there were any."""
        named = self.given.get(name)
        file = named or in_home(".postgresql", in_home_as)
        try:
            if file is not None:
                context.load_verify_locations(cafile=file)
        except (OSError, ValueError) as error:
            if named or isinstance(error, ssl.SSLError):
                raise UrlError(f"{name}: {_reason(error, 'certificates')}") from None
            return False
        return file is not None

    def _introduce(self, context: ssl.SSLContext) -> None:
        """Load the certificate that shows the server who we are, if there is one."""
        if self.given.get("sslcertmode") == "disable":
            return
        named = self.given.get("sslcert")
        certificate = named or in_home(".postgresql", "postgresql.crt")
        ours = in_home(".postgresql", "postgresql.key")
        key = self.given.get("sslkey") or (ours if ours is not None and os.access(ours, os.R_OK) else None)
        password = self.given.get("sslpassword", "")
        try:
            if certificate is not None:
                context.load_cert_chain(certificate, keyfile=key, password=lambda: password)
        except (OSError, ValueError) as error:
            if named or isinstance(error, ssl.SSLError):
                raise UrlError(f"sslcert or sslkey: {_reason(error, 'a certificate and its key')}") from None


def tls_of(given: Mapping[str, str]) -> Tls:
    """Take the parameters about TLS. Raises UrlError if they contradict each other."""
    system = given.get("sslrootcert") == SYSTEM
    mode = given.get("sslmode", "verify-full" if system else "prefer").lower()
    if system and mode != "verify-full":
        raise UrlError("sslrootcert=system needs sslmode=verify-full, because anybody can get such a certificate")
    if given.get("sslnegotiation") == "direct" and mode not in _CHECKED:
        raise UrlError("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    return Tls(mode, given)


def untrusted(error: ssl.SSLCertVerificationError) -> str | None:
    """What to tell a user whose URL names another host, or another authority, than the certificate.

    None if waiting may help: an expired certificate, for example, is renewed.
    """
    if error.verify_code not in _UNTRUSTED:
        return None
    reason = error.verify_message.rstrip(".")
    return f"cannot reach the database: certificate verify failed: {reason}: check the host and sslrootcert in its URL"


def _version(name: str) -> ssl.TLSVersion:
    by_name = {version.name.lower(): version for version in ssl.TLSVersion}
    return by_name[name.lower().replace(".", "_")]


def _reason(error: Exception, what: str) -> str:
    """Why the files cannot be used, without their names or contents."""
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return f"cannot be read as {what}"
    return error.strerror or type(error).__name__
