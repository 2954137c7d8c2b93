"""Places below a path or URI, whatever follows the question mark."""

from __future__ import annotations

import pytest

from tunekit.store.joining import joined, parent_of


@pytest.mark.parametrize(
    ("place", "names", "expected"),
    [
        ("/a/b", ["c"], "/a/b/c"),
        ("/a/b/", ["c", "d/e"], "/a/b/c/d/e"),
        ("/", ["c"], "/c"),
        ("memory://", ["c"], "memory://c"),
        ("memory://a", ["50% #1?"], "memory://a/50% #1?"),
        ("s3://bucket", ["c"], "s3://bucket/c"),
        ("s3://bucket/a/", ["c", "d"], "s3://bucket/a/c/d"),
        ("s3://bucket/a?endpoint=http://h:9/x", ["c"], "s3://bucket/a/c?endpoint=http://h:9/x"),
        ("s3://bucket/a?region=r", ["50% #1?"], "s3://bucket/a/50%25 %231%3F?region=r"),
    ],
)
def test_names_go_before_the_question_mark(place: str, names: list[str], expected: str) -> None:
    assert joined(place, *names) == expected


@pytest.mark.parametrize("place", ["/a/b", "memory://a/b", "s3://bucket/a?region=r"])
def test_what_is_joined_comes_apart_again(place: str) -> None:
    assert parent_of(joined(place, "c")) == (place, "c")
