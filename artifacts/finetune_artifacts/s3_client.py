"""`s3://` over obstore, for AWS and for every server that speaks its protocol.

Three clients share one bucket because they need different patience: *control* answers or gives up within seconds,
so that an endpoint that is not there is reported and not waited for; *data* limits the stall and not the duration,
since a 100 GB transfer may take an hour; *create* never retries by itself, because a retried conditional put finds
its own object and takes it for a rival's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from .base import StoreOptions
from .errors import AccessDenied, AlreadyExists, ArtifactError, InvalidUri, NotFound, Unreachable, clip

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CA_BUNDLE",
)
_SECRET_NAMES = NAMES[:3]
CONTROL_RETRIES = 3
_REREAD = timedelta(minutes=15)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>(?:.*?<Message>([^<]*)</Message>)?", re.DOTALL)
_DENIED_CODES = re.compile(r"AccessDenied|InvalidAccessKeyId|Signature|Token|UserNotFound|AccountProblem")
_NO_ANSWER = re.compile(r"HTTP error|error sending request|timed? ?out|kind: (Connect|Timeout)", re.IGNORECASE)
_REASONS = {
    "dns error": "the host name does not resolve",
    "Connection refused": "connection refused",
    "certificate": "the TLS certificate is not trusted",
    "InvalidContentType": "TLS was spoken to a server that answers in plain HTTP",
    "TimedOut": "no answer in time",
    "deadline has elapsed": "no connection in time",
}


class Credentials:
    """What a Secret holds. A mounted directory is read again every few minutes: rotated keys are picked up."""

    def __init__(self, source: Path | Mapping[str, str] | None, uri: str) -> None:
        self._source, self._uri = source, uri
        values = self.values()
        self.settings = {name: values.get(name) or os.environ.get(name, "") for name in NAMES[3:]}
        self.settings["AWS_ENDPOINT_URL"] = (
            values.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3") or self.settings["AWS_ENDPOINT_URL"]
        )
        self.secrets = [values.get(name) or os.environ.get(name, "") for name in _SECRET_NAMES]
        missing = [name for name in _SECRET_NAMES[:2] if not values.get(name)]
        if len(missing) == 1 or (missing and source is not None):
            where = f"the directory {source}" if isinstance(source, Path) else "the credentials given"
            advice = "add it to the Secret that secretRef names"
            raise AccessDenied(uri, "open", f"{' and '.join(missing)} not found in {where}", advice)

    def __repr__(self) -> str:
        return "Credentials(…)"

    def values(self) -> dict[str, str]:
        if self._source is None:
            return {}
        if isinstance(self._source, Mapping):
            return {name: self._source[name] for name in NAMES if name in self._source}
        try:
            files = {name: self._source / name for name in NAMES}
            return {name: file.read_text().strip() for name, file in files.items() if file.is_file()}
        except (OSError, ValueError) as error:
            cause = f"the credentials in {self._source} cannot be read ({type(error).__name__})"
            raise AccessDenied(self._uri, "open", cause, "check the mounted Secret") from None

    def __call__(self) -> S3Credential:
        values = self.values()
        self.secrets = [values.get(name, "") for name in _SECRET_NAMES]
        return {
            "access_key_id": values.get("AWS_ACCESS_KEY_ID", ""),
            "secret_access_key": values.get("AWS_SECRET_ACCESS_KEY", ""),
            "token": values.get("AWS_SESSION_TOKEN") or None,
            "expires_at": datetime.now(UTC) + _REREAD if isinstance(self._source, Path) else None,
        }


class Bucket:
    """The clients of one bucket, made when first needed and shared by all stores below it."""

    def __init__(self, name: str, credentials: Path | Mapping[str, str] | None, options: StoreOptions) -> None:
        self.name, self.options = name, options
        self.credentials = Credentials(credentials, f"s3://{name}")
        self._provider = None if credentials is None else self.credentials
        self.reached = False
        if self.endpoint and not re.match(r"https?://[^/\s]", self.endpoint):
            cause = f"AWS_ENDPOINT_URL is {clip(self.endpoint)!r}"
            raise InvalidUri(f"s3://{name}", "open", cause, "expected a URL such as http://minio.storage:9000")
        self._authority = self.credentials.settings["AWS_CA_BUNDLE"].encode()
        if self._authority and not self._authority.startswith(b"-----BEGIN"):
            try:
                self._authority = Path(os.fsdecode(self._authority)).read_bytes()
            except OSError as error:
                cause = f"AWS_CA_BUNDLE cannot be read ({error.strerror})"
                advice = "give a path that the pod can read, or the certificates themselves"
                raise AccessDenied(f"s3://{name}", "open", cause, advice) from None

    @property
    def endpoint(self) -> str:
        return self.credentials.settings["AWS_ENDPOINT_URL"]

    def _client(self, request_s: float, budget_s: float, retries: int, stall_s: float) -> S3Store:
        settings = self.credentials.settings
        config: S3Config = {}
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=self.options.connect_s),
            "timeout": timedelta(seconds=request_s),
            "read_timeout": timedelta(seconds=stall_s),
            "allow_http": self.endpoint.startswith("http://"),
        }
        if self.endpoint:
            config["endpoint"] = self.endpoint.rstrip("/")
            config["aws_endpoint_url_s3"] = config["endpoint"]
            config["virtual_hosted_style_request"] = False
        if settings["AWS_REGION"]:
            config["region"] = settings["AWS_REGION"]
        if self._authority:
            client["root_certificate"] = self._authority
        retry: RetryConfig = {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=budget_s),
            "backoff": {
                "init_backoff": timedelta(seconds=self.options.backoff_s),
                "max_backoff": timedelta(seconds=self.options.backoff_max_s),
                "base": 2,
            },
        }
        if self._provider is None:
            return S3Store(self.name, config=config, client_options=client, retry_config=retry)
        return S3Store(
            self.name,
            config=config,
            client_options=client,
            retry_config=retry,
            credential_provider=self._provider,
        )

    @cached_property
    def control(self) -> S3Store:
        o = self.options
        return self._client(o.answer_s, o.control_budget_s, CONTROL_RETRIES, o.answer_s)

    @cached_property
    def data(self) -> S3Store:
        o = self.options
        return self._client(86_400, o.transfer_budget_s, o.transfer_retries, o.stall_s)

    @cached_property
    def create(self) -> S3Store:
        o = self.options
        return self._client(o.answer_s, o.answer_s, 0, o.answer_s)

    def error(self, error: Exception, uri: str, action: str) -> ArtifactError:
        """obstore's exception, whose text holds the server's answer, as one of ours."""
        text = str(error)
        status = _STATUS.search(text)
        code = _CODE.search(text)
        if code:
            cause = clip(f"{code.group(1)}: {code.group(2) or 'no message'}", self.credentials.secrets)
        elif status:
            cause = f"HTTP status {status.group(1)}"
        else:
            cause = clip(text.split("\n\nDebug source")[0], self.credentials.secrets)
        number = int(status.group(1)) if status else 0
        name = code.group(1) if code else ""
        if "/latest/api/token" in text or "169.254.169.254" in text:
            advice = "mount a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod an identity"
            return AccessDenied(uri, action, "there are no credentials", advice)
        if number in (401, 403) or _DENIED_CODES.search(name):
            return AccessDenied(uri, action, cause, "check the keys in the Secret and what they may do in this bucket")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return AccessDenied(uri, action, cause, "check the keys in the Secret")
        if name == "NoSuchBucket":
            return NotFound(uri, action, cause, "create the bucket, or correct the URI")
        if isinstance(error, FileNotFoundError) or number == 404:
            return NotFound(uri, action, cause if code else "no such object or bucket", "check the URI")
        if number == 412:
            return AlreadyExists(uri, action, "there is an object of that name", "it was left as it is")
        if name in ("ExistingObjectIsDirectory", "ObjectParentIsFile"):
            return ArtifactError(uri, action, cause, "choose another path")
        if number in (408, 409, 429) or (number >= 500 and number != 501):
            found = Unreachable(uri, action, cause, "the store is busy or failing: try again later")
            found.maybe_done = number not in (409, 429)
            return found
        if "redirect without LOCATION" in text:
            return ArtifactError(
                uri, action, "the bucket is in another region", "correct AWS_REGION or AWS_ENDPOINT_URL"
            )
        if not number and _NO_ANSWER.search(text):
            reason = next((words for sign, words in _REASONS.items() if sign in text), "no usable answer")
            advice = f"check AWS_ENDPOINT_URL ({clip(self.endpoint) or 'not set: AWS'}) and the network policy"
            found = Unreachable(uri, action, reason, advice)
            found.maybe_done = "kind: Connect" not in text
            return found
        advice = "check AWS_REGION and AWS_ENDPOINT_URL" if not number or number == 400 else ""
        return ArtifactError(uri, action, cause, advice)
