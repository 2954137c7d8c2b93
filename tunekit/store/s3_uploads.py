"""Finds and drops uploads in parts that nobody will finish, on S3.

A writer that is killed in the middle of a large file leaves its parts behind: in no listing, but on the bill. obstore
cannot ask for them, so these two requests are made, and signed, here. Credentials are read from the environment; where
there are none (roles, profiles), nothing is done, and a rule of the bucket is the remedy.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from tunekit.store.object_client import RequestError
from tunekit.store.object_uri import ObjectUri

_TIMEOUT_S = 10.0
_MAY_PASS = {429, 500, 502, 503, 504}
_NO_BODY = hashlib.sha256().hexdigest()
_NAMESPACE = re.compile(r"^\{[^}]*\}")


class Upload(NamedTuple):
    """An upload that was begun and not finished."""

    key: str
    """In the bucket."""
    number: str
    begun: datetime


class S3Uploads:
    """The unfinished uploads below a folder of a bucket.

    Args:
        place: The folder.
        environment: Where endpoint, region and credentials are read that the place does not name.
    """

    def __init__(self, place: ObjectUri, environment: Mapping[str, str] = os.environ) -> None:
        """Read the settings; nothing is asked yet."""
        options = dict(place.options)
        self._place = place
        self._environment = environment
        self._region = options.get("region") or self._first("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
        named = options.get("endpoint") or self._first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        self._endpoint = urlsplit(named or f"https://s3.{self._region}.amazonaws.com")
        in_host = options.get("virtual_hosted_style_request", "false").lower() in {"true", "1"}
        self._path = self._endpoint.path.rstrip("/") + ("" if in_host else f"/{place.bucket}")

    @property
    def can_ask(self) -> bool:
        """Whether there are credentials that can be used here."""
        return bool(self._first("AWS_ACCESS_KEY_ID") and self._first("AWS_SECRET_ACCESS_KEY"))

    def found(self) -> Iterator[Upload]:
        """Yield every unfinished upload below the folder.

        Raises:
            RequestError: The service did not answer, or refused.
        """
        prefix = f"{self._place.folder}/" if self._place.folder else ""
        query = {"uploads": "", "prefix": prefix}
        while True:
            found, following = _parsed(self._ask("GET", "", query))
            yield from found
            if following is None:
                return
            query |= following

    def abort(self, upload: Upload) -> None:
        """Drop the parts of an upload. Not being there is fine.

        Raises:
            RequestError: The service did not answer, or refused.
        """
        self._ask("DELETE", f"/{quote(upload.key, safe='/-_.~')}", {"uploadId": upload.number}, may_be_gone=True)

    def _ask(self, method: str, path: str, query: Mapping[str, str], *, may_be_gone: bool = False) -> bytes:
        text = "&".join(f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query))
        where = self._path + path
        scheme = "http" if self._endpoint.scheme == "http" else "https"
        request = urllib.request.Request(  # noqa: S310 - it is one of the two
            f"{scheme}://{self._endpoint.netloc}{where}?{text}",
            method=method,
            headers=self._signed(method, where, text),
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                return bytes(answer.read())
        except HTTPError as error:
            with error:
                if may_be_gone and error.code == http.client.NOT_FOUND:
                    return b""
                raise RequestError(f"{error.code} {error.reason}", may_pass=error.code in _MAY_PASS) from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(f"{self._endpoint.netloc}: {error}") from error

    def _signed(self, method: str, path: str, query: str) -> dict[str, str]:
        """Return the headers of a request, by AWS Signature Version 4."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": self._endpoint.netloc, "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment}
        if token := self._first("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join([method, path or "/", query, lines, names, _NO_BODY])
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self._first('AWS_SECRET_ACCESS_KEY')}".encode()
        for part in [*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"]:
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"{self._first('AWS_ACCESS_KEY_ID')}/{scope}"
        proof = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
        return {**headers, "authorization": proof}

    def _first(self, *names: str) -> str:
        return next((value for name in names if (value := self._environment.get(name))), "")


def _parsed(answer: bytes) -> tuple[list[Upload], dict[str, str] | None]:
    """Return the uploads on a page, and what to ask for the next page with."""
    try:
        page = ET.fromstring(answer)  # noqa: S314 - the answer of the user's own service
        fields = [{_name(field): field.text or "" for field in each} for each in page if _name(each) == "Upload"]
        found = [Upload(each["Key"], each["UploadId"], datetime.fromisoformat(each["Initiated"])) for each in fields]
        said = {_name(each): each.text or "" for each in page}
        if said.get("IsTruncated") != "true":
            return found, None
        return found, {"key-marker": said["NextKeyMarker"], "upload-id-marker": said["NextUploadIdMarker"]}
    except (ET.ParseError, KeyError, ValueError) as error:
        raise RequestError(f"the list of uploads is not what S3 answers ({error})", may_pass=False) from error


def _name(element: ET.Element) -> str:
    return _NAMESPACE.sub("", element.tag)
