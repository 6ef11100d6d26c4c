"""How to reach the API server: a pod's service account, or a kubeconfig.

Service account tokens are replaced on disk every hour, so the header is made per request, from a file read again each
minute. The `kubernetes` package reads kubeconfigs (certificates, exec plugins, refresh); it is imported only then,
because its models weigh more than the rest of the operator.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from finetune_operator.core.names import MANAGER
from finetune_operator.shell.config import ConfigError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0


@dataclass(frozen=True)
class Access:
    """`authorization` returns the header's value, or None when certificates say who we are."""

    server: str
    tls: ssl.SSLContext | None = field(repr=False)
    authorization: Callable[[], str | None] = field(repr=False)


def find_access(kubeconfig: str | None, *, account: Path = _ACCOUNT) -> Access:
    """Raises ConfigError when there is neither a kubeconfig nor a service account."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if kubeconfig is None and host and (account / "token").exists():
        return _in_cluster(host, os.environ.get("KUBERNETES_SERVICE_PORT", "443"), account)
    return _from_kubeconfig(kubeconfig)


def open_session(access: Access) -> aiohttp.ClientSession:
    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        value = access.authorization()
        if value is not None:
            request.headers["Authorization"] = value
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=access.tls if access.tls is not None else True),
        headers={"User-Agent": MANAGER},
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(authorize,),
        trust_env=False,
    )


def _in_cluster(host: str, port: str, account: Path) -> Access:
    address = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
    return Access(f"https://{address}:{port}", tls, TokenFile(account / "token"))


class TokenFile:
    """A bearer token that is read again when it may have been replaced."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._value = ""
        self._read_at = float("-inf")

    def __call__(self) -> str:
        if self._clock() - self._read_at >= _TOKEN_SECONDS:
            self._value = "Bearer " + self._path.read_text().strip()
            self._read_at = self._clock()
        return self._value


def _from_kubeconfig(path: str | None) -> Access:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    settings = Configuration()
    try:
        load_kube_config(config_file=path, client_configuration=settings)
    except ConfigException as error:
        raise ConfigError(f"kubeconfig {path or '~/.kube/config'}: {error}") from error
    tls: ssl.SSLContext | None = None
    if settings.host.startswith("https:"):
        tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if not settings.verify_ssl:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if settings.cert_file:
            tls.load_cert_chain(settings.cert_file, settings.key_file)

    def authorization() -> str | None:
        # Releases of the kubernetes package differ in what they call it.
        value = settings.get_api_key_with_prefix("BearerToken") or settings.get_api_key_with_prefix("authorization")
        return str(value) if value else None

    return Access(settings.host, tls, authorization)
