"""The texts in force, where sites are in the database: of each site, the version that judges.

All of a change is one transaction: what became of the version, which one judges, and the line of the audit.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.domain.policy_versions import PolicyVersion
from server.pipeline.site_versions import Changing, Kept, SiteFile, checked


class StoredTexts:
    """The versions that judge. Constructing reads nothing. Safe to use from several processes."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def file(self, site: str, within: Changing | None = None) -> SiteFile:
        """The site's text in force, as the transaction `within` sees it."""
        version = (within or self._kept).judging(site)
        return SiteFile(site, None if version is None else version.text, version=version)

    def followed(self, _site: str, versions: Sequence[PolicyVersion]) -> Sequence[PolicyVersion]:
        """The versions: the database says what became of them."""
        return versions

    def put(self, changing: Changing, _before: SiteFile, version: PolicyVersion, text: str, author: str) -> None:
        """Let the version judge; or, for another text than its own, the version that has it."""
        changing.let_judge(version if text == version.text else _version_of_before(changing, version, text, author))

    def put_back(self, _before: SiteFile, _version: PolicyVersion) -> None:
        """Nothing to do: what is not committed is not there."""

    def settle(self, _site: str) -> None:
        """Nothing to do: there is no file beside the database."""

    def settle_changed(self) -> None:
        """Nothing to do."""


def _version_of_before(changing: Changing, version: PolicyVersion, text: str, author: str) -> PolicyVersion:
    """The version with the text from which a version was made. A text that was only ever in a file becomes one."""
    earlier = changing.with_text(version.site, text)
    if earlier is None:
        digest = checked(version.site, text).digest
        why = f"the policy before version {version.number}"
        earlier = changing.add(
            PolicyVersion(0, version.site, text, digest, version.digest, version.text, author, why, made_at_us=0)
        )
    if earlier.in_force_at_us is None or earlier.taken_back_at_us is not None:
        changing.put_in_force(earlier, author)
    return earlier
