"""The store for buckets against a real S3 server: the published suite, and what only a server can show."""

from __future__ import annotations

import pytest

from tunekit.store import Store, open_store
from tunekit.testing.store_contract import StoreContract

pytestmark = pytest.mark.s3


class TestObjectStoreOnS3(StoreContract):
    @pytest.fixture
    def store(self, s3_uri: str) -> Store:
        return open_store(s3_uri)
