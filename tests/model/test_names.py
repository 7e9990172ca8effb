"""Names in errors: as many as a person reads, and first those most like the one that was meant."""

from __future__ import annotations

from napari_tiltalign.errors import listed


def test_few_names_are_all_told_in_order() -> None:
    assert listed(["b", "a"], "a") == "b, a"


def test_of_many_names_the_similar_ones_come_first_and_the_rest_is_counted() -> None:
    names = [f"TS_{number:03d}" for number in range(2000)]
    for wanted in ("TS_17", "ts_017", "TS_0017"):
        said = listed(names, wanted)
        assert len(said) < 150
        assert said.startswith("TS_017, ")
        assert said.endswith(" and 1988 more")
    assert listed(names, "TS-1234").startswith("TS_1234, ")
