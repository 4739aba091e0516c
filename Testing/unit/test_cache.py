"""What is kept stays under its bound, and the least recently used goes first."""

from hypothesis import given
from hypothesis import strategies as st

from CTSAM3DLib.cache import Cache


def test_the_least_recently_used_goes_first():
    cache = Cache(100)
    for name in "abc":
        cache.put(name, name.upper(), 30)
    assert cache.get("a") == "A"
    cache.put("d", "D", 30)
    assert [cache.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    assert (cache.nbytes, cache.evicted, len(cache)) == (90, 1, 3)


def test_what_does_not_fit_at_all_is_not_kept_and_drops_nothing_else():
    cache = Cache(100)
    cache.put("a", "A", 60)
    cache.put("b", "B", 101)
    assert (cache.get("a"), cache.get("b"), cache.nbytes) == ("A", None, 60)


def test_a_new_value_takes_the_place_of_the_old_one():
    cache = Cache(100)
    cache.put("a", "old", 60)
    cache.put("a", "new", 50)
    assert (cache.get("a"), cache.nbytes, cache.evicted) == ("new", 50, 0)
    cache.put("a", "too large", 200)
    assert (cache.get("a"), cache.nbytes) == (None, 0)
    cache.discard("never there")


@given(st.lists(st.tuples(st.sampled_from("pgd"), st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_bytes_are_counted_right_whatever_happens(actions):
    cache, sizes = Cache(100), {}
    for action, key, nbytes in actions:
        if action == "p":
            cache.put(key, key, nbytes)
            sizes[key] = nbytes
        elif action == "g":
            assert cache.get(key) in (None, key)
        else:
            cache.discard(key)
        assert cache.nbytes == sum(sizes[kept] for kept in range(10) if kept in cache) <= 100
