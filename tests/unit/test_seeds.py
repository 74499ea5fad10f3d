"""Seeds depend on what they are for, and on nothing else."""

from aebench.planning.seeds import canonical_json, content_hash, derive_seed, splits_seed


def test_known_values_stay():
    assert content_hash({"b": 1, "a": [1, 2]}) == content_hash({"a": [1, 2], "b": 1}) == "94a786c3662bc7be"
    assert derive_seed(42, use="splits") == splits_seed(42) == 2922587317


def test_every_part_of_the_purpose_counts():
    seeds = {derive_seed(s, use=use, seed=k) for s in (1, 2) for use in ("a", "b") for k in range(5)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_canonical_json_has_one_text_for_one_value():
    assert canonical_json({"b": None, "a": 1.5}) == '{"a":1.5,"b":null}'
