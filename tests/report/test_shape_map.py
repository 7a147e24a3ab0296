"""Maps of shapes: a wrong region shows in the data, on the terminal and in the picture."""

from __future__ import annotations

import dataclasses
import math
from xml.etree import ElementTree

from harness.report.shape_map import Axis, ShapeMap, Spot, drawn, picture, sized, told

SVG = "{http://www.w3.org/2000/svg}"


def made(*, wrong: tuple[int, int] = (4, 16), y: bool = True) -> ShapeMap:
    """Off from ``wrong`` = (batch, seq) on, at seven times what is allowed."""
    x, height = Axis("seq", (8, 16, 32)), Axis("batch", (1, 4))
    spots = []
    for batch in height.sizes if y else (1,):
        for seq in x.sizes:
            sizes = {"seq": seq, **({"batch": batch} if y else {})}
            off = seq >= wrong[1] and batch >= wrong[0]
            spots.append(Spot(sizes, "off" if off else "within", 7.0 if off else 0.2, "y", 0.5, message=sized(sizes)))
    return ShapeMap("m at fp32 on fake", 0, x, height if y else None, {"heads": 2}, tuple(spots))


def lines(shapes: ShapeMap) -> list[str]:
    return [line.plain.rstrip() for line in drawn(shapes)]


class TestData:
    def test_where_it_fails(self) -> None:
        shapes = made()
        assert shapes.region == {"seq": (16, 32), "batch": (4, 4)}
        assert [spot.sizes for spot in shapes.failures] == [{"seq": 16, "batch": 4}, {"seq": 32, "batch": 4}]
        assert shapes.summary == (
            "6 shapes, 4 within what is allowed (at most 0.2 of it, at batch=1 seq=8); "
            "2 fail: all with batch 4, seq 16 to 32"
        )

    def test_a_region_with_holes_says_so(self) -> None:
        shapes = made(wrong=(1, 8))
        mended = tuple(
            dataclasses.replace(spot, verdict="within", excess=0.5) if spot.sizes == {"seq": 16, "batch": 1} else spot
            for spot in shapes.spots
        )
        summary = dataclasses.replace(shapes, spots=mended).summary
        assert summary.endswith("5 fail: 5 of 6 shapes with batch 1 to 4, seq 8 to 32")

    def test_all_within(self) -> None:
        shapes = made(wrong=(100, 100))
        assert (shapes.region, shapes.failures) == ({}, ())
        assert "fail" not in shapes.summary

    def test_what_was_not_asked_is_no_failure(self) -> None:
        shapes = made(wrong=(100, 100))
        spots = (Spot(shapes.spots[0].sizes, "not asked", why="against kv >= q"), *shapes.spots[1:])
        shapes = dataclasses.replace(shapes, spots=spots)
        assert shapes.summary.startswith("5 shapes, 5 within")
        assert shapes.summary.endswith("1 not asked (against kv >= q)")
        assert shapes.failures == ()

    def test_as_json(self) -> None:
        import json

        shapes = made()
        spots = (dataclasses.replace(shapes.spots[0], verdict="wrong", excess=math.inf), *shapes.spots[1:])
        document = json.loads(json.dumps(dataclasses.replace(shapes, spots=spots).as_json(), allow_nan=False))
        assert document["spots"][0]["excess"] == "inf"
        assert document["spots"][1]["sizes"] == {"seq": 16, "batch": 1}
        assert document["x"] == {"symbol": "seq", "sizes": [8, 16, 32]}
        assert document["region"] == {"seq": [8, 32], "batch": [1, 4]}


class TestTerminal:
    def test_a_plot(self) -> None:
        assert lines(made()) == [
            "m at fp32 on fake, profile 0: batch (up) by seq (right), heads=2",
            "  4 ░░░██████",
            "  1 ░░░░░░░░░",
            "      8 16 32",
            "  ░░ to a third   ██ off: more than is allowed",
            f"  {made().summary}",
        ]

    def test_one_dimension(self) -> None:
        assert lines(made(wrong=(1, 32), y=False))[1:3] == ["   ░░░░░░███", "     8 16 32"]

    def test_levels_and_other_wrongs(self) -> None:
        shapes = made(wrong=(100, 100), y=False)
        for excess, mark in ((0.0, "···"), (0.3, "░░░"), (0.5, "▒▒▒"), (1.0, "▓▓▓")):
            spots = (dataclasses.replace(shapes.spots[0], excess=excess), *shapes.spots[1:])
            assert lines(dataclasses.replace(shapes, spots=spots))[1].startswith(f"   {mark}░")
        spots = (Spot(shapes.spots[0].sizes, "wrong", math.inf, why="run: refused"), *shapes.spots[1:])
        shown = lines(dataclasses.replace(shapes, spots=spots))
        assert shown[1].startswith("   XXX░")
        assert "XX wrong otherwise" in shown[3]

    def test_in_words(self) -> None:
        assert told(made().spots[-1]) == "batch=4 seq=32: off, 7 times what is allowed (output 'y')"
        assert told(Spot({"seq": 1}, "wrong", math.inf, why="run: refused")) == "seq=1: wrong: run: refused"


class TestPicture:
    def squares(self, *maps: ShapeMap) -> list[tuple[int, int, str, str]]:
        """Column, row, colour and words of every shape that is drawn."""
        root = ElementTree.fromstring(picture(maps))
        found = [(rect, rect.find(f"{SVG}title")) for rect in root.iter(f"{SVG}rect")]
        shapes = [(rect, title.text or "") for rect, title in found if title is not None]
        left, top = (min(int(rect.attrib[side]) for rect, _ in shapes) for side in "xy")
        side = int(shapes[0][0].attrib["width"]) + 1
        return [
            ((int(r.attrib["x"]) - left) // side, (int(r.attrib["y"]) - top) // side, r.attrib["fill"], words)
            for r, words in shapes
        ]

    def test_the_region_has_its_colour(self) -> None:
        squares = self.squares(made())
        assert len(squares) == 6
        fine = next(colour for column, row, colour, _ in squares if (column, row) == (0, 1))
        off = {(column, row) for column, row, colour, _ in squares if colour != fine}
        assert off == {(1, 0), (2, 0)}  # the upper row is batch 4
        assert {colour for _, _, colour, words in squares if ": off" in words} == {"#cb181d"}

    def test_several_maps_and_no_markup_from_names(self) -> None:
        odd = dataclasses.replace(made(), title="<m> & co")
        text = picture([made(), odd])
        assert "&lt;m&gt; &amp; co" in text
        assert len(self.squares(made(), odd)) == 12

    def test_it_holds_what_is_written(self) -> None:
        """No words run out of the picture: 7 pixels a letter are enough for a sans-serif of 12."""
        root = ElementTree.fromstring(picture([made()]))
        width = int(root.attrib["width"])
        for text in root.iter(f"{SVG}text"):
            if text.attrib["text-anchor"] == "start":
                assert int(text.attrib["x"]) + 7 * len(text.text or "") <= width
