"""URIs of folders in object stores: ``s3://bucket/folder?region=eu-central-1``.

What follows the question mark travels with the URI, to workers too, and appears in messages; so no secrets are taken
there. They come from the environment, as every client of the service reads it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tunekit.errors import ConfigError
from tunekit.printable import without_login

_S3 = {
    "endpoint",
    "region",
    "virtual_hosted_style_request",
    "skip_signature",
    "unsigned_payload",
    "request_payer",
    "disable_bulk_delete",
    "server_side_encryption",
    "sse_kms_key_id",
}
_OPTIONS = {
    "s3": _S3,
    "gs": {"base_url", "skip_signature"},
    "az": {"account_name", "endpoint", "use_emulator", "skip_signature", "use_azure_cli"},
}
_ALIASES = {"endpoint_override": "endpoint", "endpoint_url": "endpoint"}
_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
SCHEMES = tuple(_OPTIONS)
_NO_BUCKET = re.compile("[@:]")
"""What is in the place of a bucket and holds this may be a user and a password."""
_CREDENTIALS = "credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class ObjectUri(NamedTuple):
    """A folder in a bucket."""

    scheme: str
    bucket: str
    """Azure: the container."""
    folder: str
    """Without slashes at either end; empty: the bucket itself."""
    options: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""

    def __str__(self) -> str:
        """Return it as text that ``parse`` takes."""
        path = f"{self.bucket}/{_quoted(self.folder)}".rstrip("/")
        query = f"?{urlencode(self.options, safe=':/')}" if self.options else ""
        return f"{self.scheme}://{path}{query}"

    def opened(self, **settings: Any) -> Any:
        """Return obstore's client for it."""
        from obstore import store  # noqa: PLC0415 - loaded by those who use one

        prefix = self.folder or None
        options: dict[str, Any] = dict(self.options)
        if self.scheme == "gs":
            return store.GCSStore(self.bucket, prefix=prefix, **options, **settings)
        if self.scheme == "az":
            return store.AzureStore(self.bucket, prefix=prefix, **options, **settings)
        return store.S3Store(self.bucket, prefix=prefix, **options, **settings)


def parse(text: str, what: str = "storage_path") -> ObjectUri | None:
    """Return the parts of a URI, or None if its scheme is none of an object store.

    Args:
        text: The URI.
        what: Which setting it is, for messages.

    Raises:
        ConfigError: It names no bucket, or an option that there is not.
    """
    parts = urlsplit(text)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        return None
    if not parts.netloc or _NO_BUCKET.search(parts.netloc) or parts.fragment:
        raise ConfigError(
            f"{what}: got {without_login(text)!r}, but must be {scheme}://bucket/folder, with options behind a "
            "question mark",
            hint="credentials come from the environment; see the page about storage",
            scheme=scheme,
        )
    options = {_ALIASES.get(name, name): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    protocol = options.pop("scheme", "https")  # as pyarrow's URIs say it
    if "://" not in options.get("endpoint", "://"):
        options["endpoint"] = f"{protocol}://{options['endpoint']}"
    if refused := [name for name in ("endpoint", "base_url") if "@" in options.get(name, "")]:
        raise ConfigError(
            f"{what}: got {without_login(options[refused[0]])!r} as {refused[0]}, but must hold no user or password",
            hint=_CREDENTIALS,
            scheme=scheme,
        )
    if unknown := sorted(set(options) - _OPTIONS[scheme]):
        raise ConfigError(
            f"{what}: got the options {unknown} behind the question mark, but must be of {sorted(_OPTIONS[scheme])}",
            hint=_CREDENTIALS,
            scheme=scheme,
        )
    return ObjectUri(scheme, parts.netloc, _folder(parts.path), tuple(sorted(options.items())))


def _folder(path: str) -> str:
    return "/".join(part for part in unquote(path).split("/") if part)


def _quoted(text: str) -> str:
    """Return text with those characters percent-encoded that mean something in a URI."""
    return text.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
