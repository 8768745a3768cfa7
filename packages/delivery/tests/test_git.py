"""What git knows of a checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Checkout


def test_a_changed_path_comes_as_it_is_whatever_letters_it_has(checkout: Checkout) -> None:
    base = checkout.commit()
    checkout.write("docs/Grüße an alle.md", "hello")
    checkout.write("docs/tab\there.md", "hello")
    checkout.commit()
    assert sorted(checkout.repository.changed(base)) == ["docs/Grüße an alle.md", "docs/tab\there.md"]
    assert checkout.repository.changed("HEAD") == []


def test_a_renamed_file_counts_under_both_names(checkout: Checkout) -> None:
    base = checkout.commit()
    checkout.git("mv", "README.md", "READ.md")
    checkout.commit()
    assert sorted(checkout.repository.changed(base)) == ["READ.md", "README.md"]


def test_a_commit_is_contained_in_what_stands_on_it_and_nowhere_else(checkout: Checkout) -> None:
    first = checkout.commit()
    checkout.git("switch", "--quiet", "-c", "aside")
    aside = checkout.commit("Something else")
    checkout.git("switch", "--quiet", "main")
    checkout.commit()
    repository = checkout.repository
    assert repository.contains(first)
    assert repository.contains("HEAD")
    assert not repository.contains(aside)
    assert not repository.contains("0123456")
    assert repository.merge_base(aside) == first


def test_two_histories_that_share_nothing_have_no_merge_base(checkout: Checkout) -> None:
    first = checkout.commit()
    checkout.git("checkout", "--quiet", "--orphan", "new")
    checkout.commit()
    assert checkout.repository.merge_base(first) == ""
