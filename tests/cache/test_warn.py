import warnings

import pytest

from mlxnb.cache import CacheWarning, WarnOnce


def test_once_for_each_subject():
    said = []
    warn = WarnOnce(said.append)
    for subject in "abab":
        warn(subject, f"about {subject}")
    assert said == ["about a", "about b"]


def test_by_itself_it_is_a_warning_and_never_an_error():
    with pytest.warns(CacheWarning, match="slower"):
        WarnOnce()("a", "slower now")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WarnOnce()("a", "slower now")
