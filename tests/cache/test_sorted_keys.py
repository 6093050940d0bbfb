from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache.sorted_keys import SortedKeys
from mlxnb.cache.states import common_prefix, key_of, length_of, tokens_of

SEQUENCES = st.lists(st.sampled_from([0, 1, 255, 256, 2**32 - 1]), max_size=6)


def shared(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@given(SEQUENCES, SEQUENCES)
def test_keys_order_and_compare_as_their_tokens_do(a, b):
    assert (key_of(a) < key_of(b)) == (a < b)
    assert common_prefix(key_of(a), key_of(b)) == shared(a, b)
    assert tokens_of(key_of(a)) == a
    assert length_of(key_of(a)) == len(a)


@given(st.lists(SEQUENCES, max_size=12), SEQUENCES)
def test_searches_find_what_a_scan_finds(stored, wanted):
    keys, key = SortedKeys(map(key_of, stored)), key_of(wanted)
    found = list(keys.nearest(key))
    assert [n for n, _ in found] == sorted((n for n, _ in found), reverse=True)
    scan = {(shared(s, wanted), key_of(s)) for s in stored}
    assert set(found) == {(n, k) for n, k in scan if n > 0}
    assert set(keys.beginning_with(key)) == {key_of(s) for s in stored if s[: len(wanted)] == wanted}
    shorter = {key_of(s) for s in stored if s and len(s) < len(wanted) and wanted[: len(s)] == s}
    assert set(keys.prefixes_of(key)) == shorter


@given(st.lists(SEQUENCES), st.lists(SEQUENCES))
def test_it_is_a_set(added, dropped):
    keys, model = SortedKeys(), set()
    for tokens in added:
        keys.add(key_of(tokens))
        model.add(key_of(tokens))
    for tokens in dropped:
        keys.discard(key_of(tokens))
        model.discard(key_of(tokens))
    assert list(keys) == sorted(model)
    assert len(keys) == len(model)
    assert all((key_of(t) in keys) == (key_of(t) in model) for t in added)
