"""From the URL that is asked for to where its data is: redirects, and what may be told to whom on the way."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

from stager.errors import InputError, ProtocolError, RedirectError
from stager.model.urls import Url, parse_web_url
from stager.transfer.decisions import Again, ClientCertificate, Identity
from stager.transfer.fields import Headers, as_sent

REFUSED_SIGNATURE = frozenset({400, 403})
"""What stores answer to a signed URL whose time is over."""


class Route:
    """Where a request goes.

    Args:
        url: where it begins.
        max_redirects: hops from there.
        secrets: headers for the origin of `url` and for no other.
    """

    def __init__(self, url: Url, max_redirects: int, secrets: Mapping[str, str] | None = None) -> None:
        self.url = self.at = url
        self._max_redirects = max_redirects
        self._own = secrets or {}
        self.secrets: Mapping[str, str] = self._own
        self.certificate: ClientCertificate | None = None
        self.identity: Identity | None = None
        self._visited = {url.text}
        self._hops = 0
        self._resolved_again = False

    @property
    def is_moved(self) -> bool:
        """Whether it leads elsewhere."""
        return self.at is not self.url

    def restart(self) -> None:
        """Go from the beginning again."""
        self.at = self.url
        self.show(self._own, None, None)
        self._visited, self._hops = {self.url.text}, 0

    def show(
        self, secrets: Mapping[str, str], certificate: ClientCertificate | None, identity: Identity | None
    ) -> None:
        """With the next requests, until another origin is asked."""
        self.secrets, self.certificate, self.identity = secrets, certificate, identity

    def revisit(self) -> None:
        """What the origin was told has changed (a cookie): a redirect to where we were is no circle now."""
        self._visited = {self.at.text}

    def resolve_again(self, status: int) -> Again | None:
        """Ask where to go once more, if what was refused is a signed URL that a redirect led to."""
        if self._resolved_again or not self.is_moved or not self.at.is_signed:
            return None
        if status not in REFUSED_SIGNATURE:
            return None
        self._resolved_again = True
        self.restart()
        return Again("the signature of a redirect's target was refused")

    def follow(self, headers: Headers, *, proven: bool) -> Again:
        """Go where the redirect says.

        Args:
            headers: of the redirect.
            proven: a digest proves the bytes, so that nobody on the way can alter them unseen.

        Raises:
            ProtocolError: it does not say where.
            RedirectError: nobody should go there.
        """
        location = headers.get("location")
        if not location:
            raise ProtocolError(
                f"{self.url.redacted} can't be fetched",
                cause="the origin's answer makes no sense: a redirect that does not say where to",
                remedy="try again later; if it stays, tell the origin's owner",
                url=self.url.redacted,
            )
        try:
            target = parse_web_url(urljoin(self.at.text, as_sent(location)))
        except InputError as error:
            raise self._refused(f"its target is refused: {error}") from None
        if target.text in self._visited:
            raise self._refused(f"it leads in a circle, to {target.redacted} again")
        if self._hops >= self._max_redirects:
            raise self._refused(f"more than {self._max_redirects} hops")
        downgrade = target.scheme != "https" and self.at.scheme == "https"
        if downgrade and (self.secrets or self.certificate is not None or not proven):
            raise self._refused(f"it leads from https to {target.redacted}, which anybody could alter")
        if target.origin != self.at.origin:
            self.show({}, None, None)
        self._visited.add(target.text)
        self._hops += 1
        self.at = target
        return Again(f"redirect to {target.redacted}")

    def _refused(self, cause: str) -> RedirectError:
        return RedirectError(
            f"{self.url.redacted} can't be fetched",
            cause=f"the redirect from {self.at.redacted} is not followed: {cause}",
            remedy="check where the URL leads, and give the final one",
            url=self.url.redacted,
        )
