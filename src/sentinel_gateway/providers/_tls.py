"""Whom to trust under TLS."""

import ssl


def verifying_tls() -> ssl.SSLContext:
    """Certificates by the system's authorities, or by SSL_CERT_FILE. Reads files."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
